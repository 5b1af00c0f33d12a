"""The alarm that memory raises: who publishes is stopped when messages weigh too much, and goes on when consumers have
made room. Nothing is lost on the way, and the weight of all messages is that of those that are there."""

import asyncio
from functools import partial

import aio_pika
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from pamqp import frame
from pamqp.commands import Basic, Connection, Queue
from pamqp.common import FieldTable

from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.ground.memory import RELIEF
from tests.embedded.conversation import Talk, methods, publishing
from tests.embedded.stranger import connect, stranger
from tests.waiting import deadline, eventually, wait_until

LIMIT = 1024 * 1024
BODY = b"x" * 50_000
BLOCKED = frame.marshal(Connection.Blocked("low on memory"), 0)
UNBLOCKED = frame.marshal(Connection.Unblocked(), 0)


def weight(broker: EmbeddedBroker) -> int:
    return broker._node.memory.used


async def test_publishers_wait_for_consumers_and_nothing_is_lost() -> None:
    count = 100
    with EmbeddedBroker(memory_limit=LIMIT) as broker:
        async with await connect(broker.url) as producing, await connect(broker.url) as consuming:
            channel = await producing.channel()
            await channel.declare_queue("q", durable=True)
            # Given more messages than there is room for
            publishing = asyncio.create_task(publish(channel, count))
            await eventually(lambda: broker.alarm == "low on memory", told="the alarm")
            assert LIMIT < weight(broker) < LIMIT + 200_000
            assert broker.message_count < count
            assert not publishing.done()
            # When somebody consumes
            source = await (await consuming.channel()).get_queue("q")
            bodies = []
            async with source.iterator(timeout=deadline(20)) as messages:
                async for message in messages:
                    bodies.append(message.body)
                    await message.ack()
                    if len(bodies) == count:
                        break
            # Then all of it arrives, in order, and is confirmed
            assert [int(body[:5]) for body in bodies] == list(range(count))
            await asyncio.wait_for(publishing, deadline(20))
            await eventually(lambda: weight(broker) == 0)
            assert broker.alarm is None


async def publish(channel: AbstractChannel, count: int) -> None:
    """All at once, each with its number."""
    messages = [Message(b"%05d" % number + BODY) for number in range(count)]
    await asyncio.gather(*[channel.default_exchange.publish(message, "q") for message in messages])


def holds(broker: EmbeddedBroker, count: int) -> bool:
    return broker.message_count == count


def test_who_publishes_is_told_and_who_does_not_is_not() -> None:
    with EmbeddedBroker(memory_limit=LIMIT) as broker, stranger(broker) as one, stranger(broker) as other:
        one.open()
        other.open()
        one.say(1, Queue.Declare(0, "q", durable=True, nowait=True))
        one.say(1, *[each for _ in range(25) for each in publishing("q", BODY)])
        wait_until(lambda: broker.alarm == "low on memory")
        one.say(1, *publishing("q", BODY), Basic.Qos(0, 1))
        assert one.hear(len(BLOCKED)) == BLOCKED
        # Who does not publish, is served: to take out as much as makes room
        wait_until(lambda: len(broker.connections()) == 2)
        before = broker.message_count
        other.say(1, Queue.Purge(0, "q"))
        purged = frame.marshal(Queue.PurgeOk(before), 1)
        assert other.hear(len(purged)) == purged
        # Then the other one goes on where it was stopped
        rest = UNBLOCKED + frame.marshal(Basic.QosOk(), 1)
        assert one.hear(len(rest)) == rest
        wait_until(lambda: broker.message_count == 26 - before)


def test_the_alarm_lasts_until_there_is_some_room() -> None:
    with EmbeddedBroker(memory_limit=LIMIT) as broker, stranger(broker) as one, stranger(broker) as other:
        # Given just as many messages as raise it
        one.open()
        one.say(1, Queue.Declare(0, "q", durable=True), *[each for _ in range(21) for each in publishing("q", BODY)])
        wait_until(lambda: broker.alarm)
        assert broker.message_count == 21
        # When they are taken out one by one, then it is over below the mark, not at the limit
        other.open()
        for left, alarm in ((20, "low on memory"), (19, None)):
            other.say(1, Basic.Get(0, "q", True))
            wait_until(partial(holds, broker, left))
            assert broker.alarm == alarm
            assert (weight(broker) > LIMIT * RELIEF) is (alarm is not None)
            assert weight(broker) < LIMIT


async def test_an_alarm_by_hand_and_one_of_memory_are_both_to_be_over() -> None:
    with EmbeddedBroker(memory_limit=LIMIT) as broker:
        async with await connect(broker.url) as producing, await connect(broker.url) as other:
            channel = await other.channel()
            await channel.declare_queue("q", durable=True)
            publishing = asyncio.create_task(publish(await producing.channel(), 30))
            await eventually(lambda: broker.alarm == "low on memory")
            broker.block("low on disk")
            assert broker.alarm == "low on disk"
            broker.unblock()
            assert broker.alarm == "low on memory"
            broker.block("low on disk")
            await (await channel.get_queue("q")).purge()
            assert broker.alarm == "low on disk"
            broker.unblock()
            await asyncio.wait_for(publishing, deadline(10))
            assert broker.alarm is None


# What weighs how much


ARGUMENTS: list[FieldTable] = [
    {},
    {"x-queue-type": "quorum"},
    {"x-max-priority": 3},
    {"x-max-length": 5},
    {"x-message-ttl": 1000},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
async def test_a_queue_weighs_nothing_after_everything_that_can_happen_to_its_messages(arguments: FieldTable) -> None:
    with EmbeddedBroker() as broker:
        async with await connect(broker.url) as connection:
            channel = await connection.channel()
            dead: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
            queue = await channel.declare_queue("q", durable=True, arguments={**arguments, **dead})
            await channel.declare_queue("dead", durable=True)
            for _ in range(10):
                await channel.default_exchange.publish(Message(BODY), "q")
            assert weight(broker) >= 5 * len(BODY)
            for end in ("ack", "reject", "nack", "take"):
                message = await queue.get(no_ack=end == "take", timeout=deadline(10))
                assert message is not None
                if end != "take":
                    await getattr(message, end)()
            broker.advance(2)
            await (await channel.get_queue("q")).purge()
            await queue.get(fail=False, timeout=deadline(10))
            held = await (await channel.get_queue("dead")).get(timeout=deadline(10))
            assert held is not None
            await channel.queue_delete("dead")
            await channel.queue_delete("q")
            await held.ack()
            await channel.declare_queue("another", durable=True)
            assert (broker.message_count, weight(broker)) == (0, 0)


async def test_what_stands_in_two_queues_counts_twice() -> None:
    with EmbeddedBroker() as broker:
        async with await aio_pika.connect(broker.url, timeout=deadline(10)) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("all", "fanout", durable=True)
            weights = []
            for name in ("one", "two"):
                await (await channel.declare_queue(name, durable=True)).bind(exchange)
                await exchange.publish(Message(BODY), "")
                weights.append(weight(broker))
            assert weights[1] == 3 * weights[0] > 3 * len(BODY)


# The core


def test_a_publisher_is_stopped_with_its_first_frame_of_content() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    publish, header, body = publishing("q")
    # Given one that is in the middle of a message
    talk.say(1, publish)
    talk.node.block("low on memory")
    talk.node.look()
    # When something that is no content follows on another channel, nothing happens
    assert talk.say(0) == []
    # Then the header stops it, as it does with RabbitMQ, and the body waits
    assert methods(talk.say(1, header)) == ["Connection.Blocked"]
    talk.say(1, body)
    assert talk.node.queue_depths() == {"q": 0}
    talk.node.block(None)
    assert talk.node.look()
    talk.core.go_on()
    assert methods(talk.heard()) == ["Connection.Unblocked"]
    assert talk.node.queue_depths() == {"q": 1}
