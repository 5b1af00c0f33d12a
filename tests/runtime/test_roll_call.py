"""A consumer that goes missing without a word is found and started again, and is never there twice."""

from typing import Any

import pytest

from pipeline.amqp.consume import Subscription
from pipeline.clock import FakeClock
from pipeline.errors import ConnectionLost
from pipeline.events import ConsumerInterrupted, ConsumerStarted
from pipeline.message import Message
from pipeline.runtime.roll_call import COUNT_AFTER, LOOK_EVERY, RollCall, _expected
from pipeline.values import replace
from tests.brokers import BrokerUnderTest
from tests.models import a_consumer, a_pipeline, a_queue
from tests.runtime.line import Line
from tests.runtime.stand_ins import a_plan, counts, in_time, some_turns
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("both_lines")


def a_line(url: str, handler: Any, **consumer: Any) -> Line:
    file = a_pipeline(queues=(a_queue("billing"),), consumers=(a_consumer(**consumer),))
    return Line(url, file, {"charge": handler})


def roll_of(line: Line) -> RollCall:
    assert line.run.subscription is not None
    return RollCall([(line.run.plan, line.run.subscription, line.links["consume"])], clock=FakeClock())


def subscription_of(line: Line) -> Subscription:
    assert line.run.subscription is not None
    return line.run.subscription


async def registered(broker: BrokerUnderTest) -> int:
    async with broker.channel() as channel:
        queue = await channel.declare_queue("billing", passive=True)
        return queue.declaration_result.consumer_count or 0


async def started(line: Line, times: int) -> None:
    await eventually(lambda: len(line.seen.of(ConsumerStarted)) == times, told=f"start number {times}")


async def gone_without_a_word(line: Line, *, known_to_the_client: bool) -> None:
    """What no broker should do: the consumer is cancelled there, and nobody hears of it."""
    intake = subscription_of(line)._intake
    assert intake is not None and intake.tag is not None
    callback = intake.channel.consumers[intake.tag]
    await intake.channel.basic_cancel(intake.tag)
    if known_to_the_client:
        intake.channel.consumers[intake.tag] = callback


async def test_a_consumer_that_the_client_has_lost_is_started_again(broker: BrokerUnderTest) -> None:
    async def charge(message: Message) -> None: ...

    async with a_line(broker.url, charge).open() as line:
        roll = roll_of(line)
        roll.look()
        await gone_without_a_word(line, known_to_the_client=False)
        await broker.publish("billing", b"tea")
        assert await registered(broker) == 0
        # When it is looked for, then it is told, and back, once
        roll.look()
        roll.look()
        await started(line, 2)
        (interrupted,) = line.seen.of(ConsumerInterrupted)
        assert interrupted.reason == "the client knows it no more, and nobody has said why"
        await eventually(lambda: counts(line.ledger) == {"delivered": 1, "done": 1})
        assert await registered(broker) == 1
        roll.look()
        assert subscription_of(line).missing() is None


async def test_a_consumer_that_only_the_broker_has_lost_is_started_again_at_the_second_count(
    broker: BrokerUnderTest,
) -> None:
    async def charge(message: Message) -> None: ...

    async with a_line(broker.url, charge).open() as line:
        roll = roll_of(line)
        for _ in range(3):
            await roll.count()
        await gone_without_a_word(line, known_to_the_client=True)
        roll.look()
        await roll.count()
        assert line.seen.of(ConsumerInterrupted) == []
        await roll.count()
        await started(line, 2)
        (interrupted,) = line.seen.of(ConsumerInterrupted)
        assert interrupted.reason == "the broker counts 0 consumers of its queue, and 1 should be from here"
        for _ in range(3):
            await roll.count()
        assert await registered(broker) == 1
        assert len(line.seen.of(ConsumerStarted)) == 2


async def test_a_false_alarm_neither_doubles_a_consumer_nor_takes_what_it_has_in_hand(broker: BrokerUnderTest) -> None:
    bodies: list[object] = []

    async def charge(message: Message) -> None:
        bodies.append(message.body)
        if message.body == b"tea":
            subscription_of(line).begin_again("somebody believes so")
            await started(line, 2)

    async with a_line(broker.url, charge).open() as line:
        await broker.publish("billing", b"tea")
        await started(line, 2)
        await broker.publish("billing", b"coffee")
        await eventually(lambda: counts(line.ledger) == {"delivered": 2, "done": 2})
        assert bodies == [b"tea", b"coffee"]
        assert await registered(broker) == 1


async def test_a_consumer_that_was_cancelled_or_paused_is_not_missed(broker: BrokerUnderTest) -> None:
    async def charge(message: Message) -> None: ...

    async with a_line(broker.url, charge).open() as line:
        roll, subscription = roll_of(line), subscription_of(line)
        await subscription.pause()
        for _ in range(3):
            roll.look()
            await roll.count()
        await subscription.resume()
        assert await registered(broker) == 1
        await subscription.cancel()
        for _ in range(3):
            roll.look()
            await roll.count()
        assert line.seen.of(ConsumerInterrupted) == []
        assert await registered(broker) == 0


async def test_it_looks_every_five_seconds_and_counts_every_minute() -> None:
    class Watched(RollCall):
        looks = counted = 0

        def look(self) -> None:
            self.looks += 1

        async def count(self) -> None:
            self.counted += 1
            if self.counted == 2:
                raise ConnectionLost("enough")

    clock = FakeClock()
    roll = Watched([], clock=clock)
    began = clock.now()
    with pytest.raises(ConnectionLost):
        await in_time(clock, roll.keep())
    await some_turns()
    assert (roll.looks, roll.counted) == (2 * COUNT_AFTER, 2)
    assert clock.now() - began == 2 * COUNT_AFTER * LOOK_EVERY == 120


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        ({}, 3),
        ({"arguments": {"x-queue-type": "quorum", "x-single-active-consumer": True}}, 1),
        ({"declare": "skip"}, 1),
    ],
)
def test_so_many_are_expected_of_three(queue: dict[str, Any], expected: int) -> None:
    plan = a_plan()
    changed = a_queue("billing", **queue)
    assert _expected(replace(plan, queue=changed), 3) == expected
