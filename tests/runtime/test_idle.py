"""When nothing is left to do: two looks that find the same, and everything that keeps a pipeline from being idle."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.amqp import inspect
from pipeline.clock import FakeClock
from pipeline.errors import ConnectionLost
from pipeline.runtime import idle
from pipeline.runtime.idle import LOOK_EVERY, until_idle
from pipeline.runtime.plan import plan
from pipeline.runtime.table import Phase, Row, Table
from tests.models import a_consumer, a_pipeline, a_producer, a_queue, a_retry
from tests.runtime.stand_ins import some_turns


class House:
    """A pipeline that looks idle, until a test changes something."""

    def __init__(self, *, rows: int = 1, unseen: float = 0.0) -> None:
        queue = a_queue("billing")
        self.plan = plan(a_pipeline(queues=(queue,), producers=(a_producer(),), consumers=(a_consumer(),)))
        self.table = Table([self.plan], rows=rows)
        for row in self.table.rows:
            row.phase = Phase.READY
        self.clock = FakeClock()
        self.ready: int | None = 0
        self.asked = 0
        looks = [self.count, self.count]
        self.watching = asyncio.create_task(until_idle(self.table.rows, looks, self.clock, unseen=unseen))

    @property
    def row(self) -> Row:
        return self.table.rows[-1]

    async def count(self) -> int | None:
        self.asked += 1
        return self.ready

    async def looks(self, count: int) -> bool:
        """So many looks later: whether it is idle."""
        await some_turns()
        for _ in range(count - 1):
            self.clock.advance(LOOK_EVERY)
            await some_turns()
        return self.watching.done()

    async def end(self) -> None:
        self.watching.cancel()
        await asyncio.wait({self.watching})


async def test_two_looks_that_find_the_same_are_needed() -> None:
    house = House()
    assert not await house.looks(1)
    assert await house.looks(2)
    assert house.clock.waiting == 0


def starting(row: Row) -> None:
    row.phase = Phase.STARTING


def source_left(row: Row) -> None:
    row.sources_left = 1


def pending(row: Row) -> None:
    row.producers[0][0].read()


def in_hand(row: Row) -> None:
    row.consumers[0][0].delivered(1)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("busy", [starting, source_left, pending, in_hand], ids=lambda busy: busy.__name__)
async def test_whoever_is_busy_keeps_it_from_being_idle_and_the_broker_is_not_asked(
    rows: int, busy: Callable[[Row], None]
) -> None:
    house = House(rows=rows)
    busy(house.row)
    assert not await house.looks(5)
    assert house.asked == 0
    await house.end()


@pytest.mark.parametrize("ready", [1, None])
async def test_a_message_that_waits_or_a_broker_that_cannot_be_asked(ready: int | None) -> None:
    house = House()
    house.ready = ready
    assert not await house.looks(5)
    house.ready = 0
    assert await house.looks(3)


async def test_a_delivery_between_two_looks_begins_it_anew() -> None:
    house = House()
    assert not await house.looks(1)
    house.row.consumers[0][0].delivered(1)
    house.row.consumers[0][0].done()
    assert not await house.looks(2)
    assert await house.looks(2)


# Asking the broker

LINK: Any = SimpleNamespace(generation="a generation")


async def waiting_in(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, int | None] | Exception, link: Any = LINK
) -> Any:
    async def depth(generation: object, names: list[str]) -> dict[str, inspect.Depth | None]:
        if isinstance(found, Exception):
            raise found
        ready = {name: found[name] for name in names}
        return {
            name: None if count is None else inspect.Depth(ready=count, consumers=1) for name, count in ready.items()
        }

    monkeypatch.setattr(idle, "depth", depth)
    queues = (a_queue("billing"), a_queue("orders"), a_queue("not-consumed"))
    consumers = (a_consumer("a"), a_consumer("b"), a_consumer("c", queue="orders", ack="none"))
    return await idle.waiting(plan(a_pipeline(queues=queues, consumers=consumers)), lambda _: link)


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        ({"billing": 2, "orders": 3}, 5),  # a queue with two consumers counts once
        ({"billing": 0, "orders": 0}, 0),
        ({"billing": 0, "orders": None}, None),  # it is not there, so nothing can be said
        (ConnectionLost("reset by peer"), None),
    ],
)
async def test_what_is_ready_in_the_queues_that_are_consumed(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, int | None] | Exception, ready: int | None
) -> None:
    assert await waiting_in(monkeypatch, found) == ready


async def test_without_a_connection_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await waiting_in(monkeypatch, {}, link=SimpleNamespace(generation=None)) is None


@pytest.mark.parametrize(("waits", "ready"), [(3, 3), (0, 0), (None, 0)])  # one that was deleted holds nothing
async def test_what_waits_to_be_handled_again_counts(
    monkeypatch: pytest.MonkeyPatch, waits: int | None, ready: int
) -> None:
    async def depth(generation: object, names: list[str]) -> dict[str, inspect.Depth | None]:
        count = waits if names == ["billing.retry.5000ms"] else 0
        return dict.fromkeys(names, None if count is None else inspect.Depth(ready=count, consumers=0))

    monkeypatch.setattr(idle, "depth", depth)
    pipeline = a_pipeline(queues=(a_queue("billing"),), consumers=(a_consumer(retry=a_retry(5.0, 60.0)),))
    assert await idle.waiting(plan(pipeline), lambda _: LINK) == ready


# What the broker does not show


@pytest.mark.parametrize(("strategy", "seconds"), [("native", 11.0), ("broker", 0.0), ("inline", 0.0)])
def test_only_what_the_broker_delays_itself_is_seen_by_nobody(strategy: str, seconds: float) -> None:
    consumers = (a_consumer("a"), a_consumer("b", retry=a_retry(5.0, 10.0, strategy=strategy)))
    assert idle.unseen([plan(a_pipeline(queues=(a_queue("billing"),), consumers=consumers))]) == seconds


async def test_a_message_that_nobody_sees_is_waited_for() -> None:
    house = House(unseen=5.0)
    house.row.consumers[0][0].delivered(1)
    house.row.consumers[0][0].retried()
    assert not await house.looks(5)
    assert await house.looks(3)
