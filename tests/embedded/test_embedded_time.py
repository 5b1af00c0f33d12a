"""Things happen in the broker when they are due: by the clock that was handed in, moved by hand or by itself, one by
one or many in a leap."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from pamqp.common import FieldTable

from pipeline.clock import Clock, FakeClock, SystemClock
from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.connections.bell import Bell
from pipeline.embedded.ground.timeline import MOST_AT_ONCE, Timeline
from tests.embedded.stranger import stranger
from tests.waiting import deadline, eventually, wait_until


class Ticking:
    """A bell on a timeline of its own; `done` is what has happened, with the moment it happened at."""

    def __init__(self, clock: Clock) -> None:
        self.timeline = Timeline()
        self.rung = 0
        self.done: list[tuple[str, float]] = []
        self.bell = Bell(self.timeline, clock, self._ring)

    def _ring(self) -> None:
        self.rung += 1
        self.bell.tell_time()

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.done.append((what, self.timeline.now))


@asynccontextmanager
async def ticking(clock: Clock) -> AsyncIterator[Ticking]:
    one = Ticking(clock)
    one.bell.start()
    yield one
    await one.bell.stop()


async def test_what_is_due_is_done_when_the_clock_says_so() -> None:
    clock = FakeClock(now=100)
    async with ticking(clock) as broker:
        broker.timeline.after(5, broker.note("five"))
        broker.timeline.after(3, broker.note("three"))
        await eventually(lambda: clock.waiting == 1)
        clock.advance(3)
        await eventually(lambda: broker.done == [("three", 103)])
        await eventually(lambda: clock.waiting == 1)
        clock.advance(1.9)
        await asyncio.sleep(0)
        assert broker.done == [("three", 103)]
        clock.advance(0.2)
        await eventually(lambda: broker.done == [("three", 103), ("five", 105)])
    assert clock.waiting == 0


async def test_real_time_needs_nobody_to_move_it() -> None:
    async with ticking(SystemClock()) as broker:
        broker.timeline.after(0.01, broker.note("soon"))
        await eventually(lambda: [what for what, _ in broker.done] == ["soon"])


async def test_something_earlier_is_not_kept_waiting_by_something_later() -> None:
    clock = FakeClock(now=0)
    async with ticking(clock) as broker:
        broker.timeline.after(60, broker.note("late"))
        await eventually(lambda: clock.waiting == 1)
        broker.timeline.after(5, broker.note("early"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance(5)
        await eventually(lambda: broker.done == [("early", 5)])


async def test_nothing_is_rung_for_what_was_called_off() -> None:
    clock = FakeClock(now=0)
    async with ticking(clock) as broker:
        broker.timeline.after(5, broker.note("never")).cancel()
        broker.timeline.after(6, broker.note("six"))
        await eventually(lambda: clock.waiting == 1)
        clock.advance(6)
        await eventually(lambda: broker.done == [("six", 6)])


async def test_a_leap_does_everything_on_the_way_at_its_own_moment() -> None:
    async with ticking(FakeClock(now=0)) as broker:

        def first() -> None:
            broker.note("first")()
            broker.timeline.after(10, second)

        def second() -> None:
            broker.note("second")()
            broker.timeline.after(1000, broker.note("not yet"))

        broker.timeline.after(5, first)
        broker.timeline.after(12, broker.note("in between"))
        broker.bell.advance(100)
        assert broker.done == [("first", 5), ("in between", 12), ("second", 15)]
        assert broker.timeline.now == 100


async def test_a_leap_over_more_than_one_step_takes_is_done_at_once_too() -> None:
    async with ticking(SystemClock()) as broker:
        for _ in range(2 * MOST_AT_ONCE + 1):
            broker.timeline.after(1, broker.note("x"))
        broker.bell.advance(2)
        assert len(broker.done) == 2 * MOST_AT_ONCE + 1


async def test_more_than_one_step_takes_is_worked_off_step_by_step() -> None:
    clock = FakeClock(now=0)
    async with ticking(clock) as broker:
        for _ in range(2 * MOST_AT_ONCE + 1):
            broker.timeline.after(1, broker.note("x"))
        await eventually(lambda: clock.waiting == 1)
        clock.advance(1)
        await eventually(lambda: len(broker.done) == 2 * MOST_AT_ONCE + 1)
        assert broker.rung == 3


# From outside


@pytest.mark.parametrize("clock", [None, FakeClock()])
def test_the_brokers_time_is_moved_from_any_thread(clock: FakeClock | None) -> None:
    with EmbeddedBroker(clock=clock) as broker:
        before = broker.time()
        broker.advance(3600)
        assert 3600 <= broker.time() - before < 3700
        if clock is not None:
            assert clock.time() == broker.time()


def test_with_one_clock_for_both_a_leap_moves_handshakes_too() -> None:
    clock = FakeClock()
    with EmbeddedBroker(clock=clock, link_clock=clock) as broker, stranger(broker) as silent:
        wait_until(lambda: len(broker.connections()) == 1)
        broker.advance(1)
        broker.advance(10)
        assert silent.hear_all() == b""


def test_time_does_not_go_back() -> None:
    with EmbeddedBroker() as broker, pytest.raises(ValueError, match="time goes on and not back"):
        broker.advance(-1)


def test_only_a_running_broker_has_time_to_be_moved() -> None:
    with pytest.raises(RuntimeError, match=r"not running; call start\(\) first"):
        EmbeddedBroker().advance(1)


async def test_a_chain_of_wait_queues_is_passed_in_one_leap() -> None:
    # Given a message that waits for a minute, then for another one, and is handed on to `work`
    with EmbeddedBroker() as broker:
        connection = await aio_pika.connect(broker.url, timeout=deadline(10))
        async with connection:
            channel = await connection.channel()
            for name, target in (("first", "second"), ("second", "work")):
                await channel.declare_queue(
                    name,
                    durable=True,
                    arguments={
                        "x-message-ttl": 60_000,
                        "x-dead-letter-exchange": "",
                        "x-dead-letter-routing-key": target,
                    },
                )
            work = await channel.declare_queue("work", durable=True)
            await channel.default_exchange.publish(Message(b"x"), "first")
            started = broker.time()
            # When all of that time passes at once
            broker.advance(59)
            assert broker.queue_depths() == {"first": 1, "second": 0, "work": 0}
            broker.advance(600)
            # Then it has taken each step at the moment it was due
            assert broker.queue_depths() == {"first": 0, "second": 0, "work": 1}
            message = await work.get(timeout=deadline(10))
            assert message is not None
            deaths: Any = message.headers["x-death"]
            assert [round((death["time"].timestamp() - started) / 10) for death in deaths] == [12, 6]
            await message.ack()


async def test_a_shared_clock_that_is_moved_moves_the_broker() -> None:
    clock = FakeClock()
    with EmbeddedBroker(clock=clock) as broker:
        connection = await aio_pika.connect(broker.url, timeout=deadline(10))
        async with connection:
            channel = await connection.channel()
            await channel.declare_queue("q", durable=True, arguments={"x-message-ttl": 60_000})
            await channel.default_exchange.publish(Message(b"x"), "q")
            clock.advance(60)
            # Asking is enough: the broker looks at the clock first
            assert broker.queue_depths() == {"q": 0}


async def test_a_consumer_hears_of_what_time_has_brought() -> None:
    clock = FakeClock()
    with EmbeddedBroker(clock=clock) as broker:
        connection = await aio_pika.connect(broker.url, timeout=deadline(10))
        async with connection:
            channel = await connection.channel()
            arguments: FieldTable = {
                "x-message-ttl": 5_000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "work",
            }
            await channel.declare_queue("wait", durable=True, arguments=arguments)
            work = await channel.declare_queue("work", durable=True)
            inbox: asyncio.Queue[bytes] = asyncio.Queue()

            async def take(message: AbstractIncomingMessage) -> None:
                await message.ack()
                inbox.put_nowait(message.body)

            await work.consume(take)
            await channel.default_exchange.publish(Message(b"x"), "wait")
            wait_until(lambda: clock.waiting == 1)
            clock.advance(5)
            # Nobody asks; the bell has rung by itself
            assert await asyncio.wait_for(inbox.get(), deadline(10)) == b"x"
