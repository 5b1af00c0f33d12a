"""The table of exit statuses, and which end gives which. Read by every command, so nothing is loaded for it."""

from typing import TYPE_CHECKING

from pipeline.errors import (
    BrokerError,
    FileError,
    LifespanError,
    SourceError,
    SourceProblem,
    StoreError,
    TopologyDiffers,
    UsageError,
    WorkerFailed,
)

if TYPE_CHECKING:
    from pipeline.runtime.run import End

FINE = 0
FAILED = 1  # the pipeline, a test or a check failed
CONFIGURATION = 2  # usage or configuration
BROKER = 3  # the broker cannot be reached, or refused us
DIFFERS = 4  # the live broker differs from the file
CUT_OFF = 5  # handlers had to be given up at `shutdown_timeout`
BUG = 70  # ours, with a report
FORCED = 130  # by a second signal; `runtime.stop` leaves with it

_OF_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (FileError, CONFIGURATION),
    (UsageError, CONFIGURATION),
    (BrokerError, BROKER),
    (TopologyDiffers, DIFFERS),
    (LifespanError, FAILED),
    (SourceError, FAILED),
    (SourceProblem, CONFIGURATION),
    (StoreError, FAILED),
)


def of_end(end: "End") -> int:
    return {"FINE": FINE, "FAILED": FAILED, "CUT_OFF": CUT_OFF}[end.name]


def of_error(error: BaseException) -> int:
    if isinstance(error, WorkerFailed):
        return error.status if error.status in (CONFIGURATION, BROKER, DIFFERS, BUG) else FAILED
    return next((status for kind, status in _OF_ERRORS if isinstance(error, kind)), BUG)
