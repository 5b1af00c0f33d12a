"""Ready or not, and the reasons in words."""

import pytest

from pipeline.observe.health import Process, why_not_ready
from tests.observe.statuses import a_connection, a_process, a_registered, a_status

WORKER = {"name": "worker 2"}


@pytest.mark.parametrize(
    ("process", "reasons"),
    [
        (a_process(), []),
        (a_process(connections=(), consumers=()), []),
        (a_process(phase="starting"), ["the run is starting"]),
        (a_process(phase="stopping"), ["the run is stopping"]),
        (a_process(**WORKER, phase="starting"), ["worker 2 is starting"]),
        (
            a_process(**WORKER, phase="dead", reason="killed by SIGKILL", connections=(a_connection(up=False),)),
            ["worker 2 has died (killed by SIGKILL) and is started again"],
        ),
        (
            a_process(connections=(a_connection(up=False, reason="reset by peer"),)),
            ["shop: the publish connection is down: reset by peer"],
        ),
        (
            a_process(**WORKER, connections=(a_connection(up=False, name="consume"),)),
            ["worker 2: shop: the consume connection is down: not connected yet"],
        ),
        (
            a_process(connections=(a_connection(blocked=True),)),
            ["shop: the publish connection is blocked by the broker (memory or disk alarm)"],
        ),
        (a_process(consumers=(a_registered(state="paused"),)), []),
        (
            a_process(consumers=(a_registered(state="waiting"),)),
            ['shop: consumer "charge" is not registered at queue "billing" yet'],
        ),
        (
            a_process(consumers=(a_registered(state="interrupted", reason="the broker cancelled it"),)),
            ['shop: consumer "charge" does not consume from queue "billing": the broker cancelled it'],
        ),
        (
            a_process(consumers=(a_registered(state="conflict", reason="no queue 'billing'"),)),
            ["shop: consumer \"charge\" is in conflict: no queue 'billing'"],
        ),
        # While it starts, what is simply not there yet is no news; what went wrong is.
        (
            a_process(
                phase="starting",
                connections=(a_connection(up=False, reason="refused"), a_connection(up=False, name="consume")),
                consumers=(a_registered(state="waiting"),),
            ),
            ["the run is starting", "shop: the publish connection is down: refused"],
        ),
    ],
)
def test_every_reason_is_a_sentence(process: Process, reasons: list[str]) -> None:
    assert list(why_not_ready(a_status(process))) == reasons


def test_one_worker_that_is_not_ready_is_enough() -> None:
    assert list(why_not_ready(a_status(a_process(), a_process(**WORKER, phase="starting")))) == ["worker 2 is starting"]


def test_a_run_that_stops_is_not_ready_whatever_its_processes_say() -> None:
    assert list(why_not_ready(a_status(a_process(phase="dead"), stopping=True))) == ["the run is stopping"]


def test_a_thousand_reasons_are_a_hundred_and_a_count() -> None:
    down = a_process(connections=(a_connection(up=False),) * 1000)
    reasons = why_not_ready(a_status(down))
    assert (len(reasons), reasons[-1]) == (101, "and 900 more")
