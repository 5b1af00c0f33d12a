"""How a whole run stands: rows of a table and what the supervisor has seen, as one value."""

import asyncio

from pipeline.clock import FakeClock
from pipeline.events import Event, WorkerDied, WorkerStarted
from pipeline.observe.health import Status, why_not_ready
from pipeline.runtime.plan import plan
from pipeline.runtime.status import Roll, status
from pipeline.runtime.stop import Stop
from pipeline.runtime.table import Phase, Table
from tests.models import a_consumer, a_pipeline, a_producer, a_queue

PLANS = [
    plan(
        a_pipeline(
            name=name, queues=(a_queue("billing"),), consumers=(a_consumer("charge"),), producers=(a_producer("web"),)
        )
    )
    for name in ("shop", "secret")
]


def stands(table: Table, roll: Roll | None = None, *, stopping: bool = False) -> Status:
    async def now() -> Status:
        stop = Stop(clock=FakeClock(), shutdown_timeout=1)
        if stopping:
            stop.request("SIGTERM received")
        return status(table, PLANS, stop, lambda text: text.replace("secret", "***"), roll)

    return asyncio.run(now())


def test_numbers_of_one_name_are_added_up_over_the_rows_and_files_stay_apart() -> None:
    table = Table(PLANS, rows=3)
    for number, row in enumerate(table.rows):
        row.consumers[0][0].delivered(number + 1)
        row.consumers[0][0].done()
        row.consumers[1][0].delivered(10)
        row.producers[1][0].read()
    found = stands(table)
    assert [(each.pipeline, each.name, each.terms["delivered"]) for each in found.consumers] == [
        ("shop", "charge", 6),
        ("***", "charge", 30),
    ]
    assert found.consumers[0].terms["in_hand"] == 3
    assert [each.terms["pending"] for each in found.producers] == [0, 3]


def test_phases_are_those_of_the_rows_and_stopping_that_of_the_run() -> None:
    table = Table(PLANS, rows=1)
    assert stands(table).processes[0].phase == "starting"
    table.rows[0].phase = Phase.READY
    assert [each.phase for each in stands(table).processes] == ["ready"]
    assert not stands(table).stopping and stands(table, stopping=True).stopping
    table.rows[0].phase = Phase.STOPPING
    assert stands(table).processes[0].phase == "stopping"
    assert stands(table).restarts is None


def test_the_roll_knows_who_is_dead_and_who_was_started_again() -> None:
    table = Table([], rows=2)
    for row in table.rows:
        row.phase = Phase.READY
    roll = Roll()
    passed_on: list[Event] = []
    hear = roll.listening(passed_on.append)
    hear(WorkerStarted(worker=1, pid=10))
    hear(WorkerStarted(worker=2, pid=11))
    assert (roll.restarts, list(roll.deaths)) == (0, [])
    hear(WorkerDied(worker=2, pid=11, cause="killed by SIGKILL", in_hand=1, dropped=0, next_start=0.5))
    dead = _of(table, roll)
    assert [each.phase for each in dead.processes] == ["ready", "dead"]
    assert list(why_not_ready(dead)) == ["worker 2 has died (killed by SIGKILL) and is started again"]
    hear(WorkerStarted(worker=2, pid=12))
    assert (_of(table, roll).restarts, _of(table, roll).processes[1].phase) == (1, "ready")
    assert len(passed_on) == 4


def _of(table: Table, roll: Roll) -> Status:
    async def now() -> Status:
        return status(table, [], Stop(clock=FakeClock(), shutdown_timeout=1), str, roll)

    return asyncio.run(now())
