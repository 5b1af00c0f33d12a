"""Which end gives which exit status: the table that scripts and CI rely on."""

import pytest

from pipeline.cli import exits
from pipeline.errors import (
    BrokerError,
    FileError,
    LifespanError,
    SourceError,
    SourceProblem,
    TopologyDiffers,
    UsageError,
    WorkerFailed,
)
from pipeline.runtime.run import End


def test_the_numbers_are_those_of_the_documentation() -> None:
    assert {
        "fine": exits.FINE,
        "failed": exits.FAILED,
        "configuration": exits.CONFIGURATION,
        "broker": exits.BROKER,
        "differs": exits.DIFFERS,
        "cut off": exits.CUT_OFF,
        "bug": exits.BUG,
        "forced": exits.FORCED,
    } == {
        "fine": 0,
        "failed": 1,
        "configuration": 2,
        "broker": 3,
        "differs": 4,
        "cut off": 5,
        "bug": 70,
        "forced": 130,
    }


@pytest.mark.parametrize(("end", "status"), [(End.FINE, 0), (End.FAILED, 1), (End.CUT_OFF, 5)])
def test_every_end_of_a_run_has_a_status(end: End, status: int) -> None:
    assert exits.of_end(end) == status
    assert {exits.of_end(each) for each in End} == {0, 1, 5}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileError([]), 2),
        (UsageError("contradiction"), 2),
        (BrokerError("refused"), 3),
        (TopologyDiffers(["queue differs"]), 4),
        (LifespanError("it failed"), 1),
        (SourceError("the file has vanished"), 1),
        (SourceProblem("no generator"), 2),
        (WorkerFailed("died while starting: exit status 2", 2), 2),
        (WorkerFailed("died while starting: exit status 3", 3), 3),
        (WorkerFailed("died while starting: exit status 1", 1), 1),
        (WorkerFailed("died while starting: killed by SIGKILL", -9), 1),
        (ZeroDivisionError("ours"), 70),
        (ExceptionGroup("two", [BrokerError("a"), BrokerError("b")]), 70),
        (AssertionError("ours"), 70),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_every_error_has_a_status(error: BaseException, status: int) -> None:
    assert exits.of_error(error) == status
