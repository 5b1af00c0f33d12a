"""What the broker tells about itself: each kind of event, when it happens and with what it knows; to whom it is told,
and that it says nothing where nobody listens."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.common import FieldTable

from pipeline.clock import FakeClock
from pipeline.embedded import EmbeddedBroker, Event, EventLog
from pipeline.embedded.ground.journal import KINDS
from tests.embedded.stranger import connect
from tests.waiting import deadline, eventually


@pytest.fixture
def logging() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(log_events=True, clock=FakeClock(time=1_700_000_000.0)) as broker:
        yield broker


def told(events: list[Event], *names: str) -> list[tuple[Any, ...]]:
    return [(event.kind, *[getattr(event, name) for name in names]) for event in events]


async def publish(channel: AbstractChannel, queue: str, body: bytes = b"x", **properties: Any) -> None:
    await channel.default_exchange.publish(Message(body, **properties), queue, timeout=deadline(10))


async def get(channel: AbstractChannel, queue: str) -> AbstractIncomingMessage:
    message = await (await channel.get_queue(queue)).get(timeout=deadline(10))
    assert message is not None
    return message


async def test_one_message_from_its_publisher_to_its_consumer(logging: EmbeddedBroker) -> None:
    async with await connect(logging.url, "shop") as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("orders", durable=True)
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(inbox.put, consumer_tag="c")
        await publish(channel, "orders", b"tea", message_id="m1")
        await (await asyncio.wait_for(inbox.get(), deadline(10))).ack()
        last = await logging.events.seen("acknowledged", queue="orders", seconds=deadline(10))
    [seen] = {event.connection for event in logging.events if event.connection}
    assert seen.startswith("127.0.0.1:")
    assert told(list(logging.events)[:8], "queue", "consumer", "tag", "message_id", "body") == [
        ("connection opened", "", "", 0, "", b""),
        ("channel opened", "", "", 0, "", b""),
        ("queue declared", "orders", "", 0, "", b""),
        ("consumer added", "orders", "c", 0, "", b""),
        ("published", "", "", 0, "m1", b"tea"),
        ("delivered", "orders", "c", 1, "m1", b"tea"),
        ("confirmed", "", "", 1, "", b""),
        ("acknowledged", "orders", "", 0, "m1", b"tea"),
    ]
    assert (last.name, last.channel, last.vhost, last.routing_key) == ("shop", 1, "/", "orders")
    assert last.time == 1_700_000_000.0
    await eventually(lambda: logging.connections() == [])
    assert told(list(logging.events)[8:], "queue", "consumer", "reason") == [
        ("consumer cancelled", "orders", "c", "its channel is gone"),
        ("channel closed", "", "", "its connection is gone"),
        ("connection closed", "", "", "closed by the client: 200 normally closed"),
    ]


async def test_every_way_out_of_a_queue_is_told(logging: EmbeddedBroker) -> None:
    dead: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    async with await connect(logging.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("dead", durable=True)
        limits: dict[str, FieldTable] = {
            "short": {"x-max-length": 1},
            "brief": {"x-message-ttl": 1000},
            "patient": {"x-queue-type": "quorum", "x-delivery-limit": 0},
        }
        for name, arguments in limits.items():
            await channel.declare_queue(name, durable=True, arguments={**arguments, **dead})
        # Too many, too old, too often, and not wanted
        await publish(channel, "short", b"first")
        await publish(channel, "short", b"second")
        await publish(channel, "brief", b"old")
        logging.advance(2)
        await publish(channel, "patient", b"worn out")
        await (await get(channel, "patient")).reject(requeue=True)
        await (await get(channel, "short")).reject(requeue=True)
        await (await get(channel, "short")).reject(requeue=False)
        await logging.events.seen("dead-lettered", count=4, seconds=deadline(10))
    out = [event for event in logging.events if event.kind in ("dropped", "expired", "rejected", "requeued")]
    assert told(out, "queue", "body", "reason") == [
        ("dropped", "short", b"first", "maxlen"),
        ("expired", "brief", b"old", "expired"),
        ("requeued", "patient", b"worn out", "basic.reject"),
        ("dropped", "patient", b"worn out", "delivery_limit"),
        ("requeued", "short", b"second", "basic.reject"),
        ("rejected", "short", b"second", "rejected"),
    ]
    assert told(logging.events.of("dead-lettered"), "queue", "body", "reason", "vhost") == [
        ("dead-lettered", "dead", b"first", "maxlen", "/"),
        ("dead-lettered", "dead", b"old", "expired", "/"),
        ("dead-lettered", "dead", b"worn out", "delivery_limit", "/"),
        ("dead-lettered", "dead", b"second", "rejected", "/"),
    ]


async def test_forwarding_at_least_once_is_told_too(logging: EmbeddedBroker) -> None:
    arguments: FieldTable = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    async with await connect(logging.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True, arguments=arguments)
        await channel.declare_queue("dead", durable=True)
        await publish(channel, "q", b"x")
        await (await get(channel, "q")).reject(requeue=False)
        await logging.events.seen("dead-lettered", queue="dead", reason="rejected", seconds=deadline(10))
        assert told(logging.events.of("rejected"), "queue", "body") == [("rejected", "q", b"x")]


async def test_what_a_publisher_hears_is_told(logging: EmbeddedBroker) -> None:
    async with await connect(logging.url) as connection:
        channel = await connection.channel(on_return_raises=True)
        await channel.declare_queue("q", durable=True)
        logging.nack_publishes()
        with pytest.raises(DeliveryError):
            await publish(channel, "q")
        with pytest.raises(PublishError, match="NO_ROUTE"):
            await publish(channel, "nowhere")
        await publish(channel, "q")
    out = [event for event in logging.events if event.kind in ("nacked", "confirmed", "returned")]
    assert told(out, "tag", "routing_key", "reason") == [
        ("nacked", 1, "", ""),
        ("returned", 0, "nowhere", "312 NO_ROUTE"),
        ("confirmed", 2, "", ""),
        ("confirmed", 3, "", ""),
    ]


async def test_why_lines_and_channels_ended_is_told(logging: EmbeddedBroker) -> None:
    events = logging.events
    cut, closed, refused = [await connect(logging.url, name) for name in ("cut", "closed", "refused")]
    channel = await refused.channel()
    with pytest.raises(ChannelNotFoundEntity, match="NOT_FOUND"):
        await channel.get_queue("nowhere", ensure=True)
    logging.drop_connections("cut")
    logging.close_connections(320, "go", which="closed")
    await events.seen("connection closed", count=2, seconds=deadline(10))
    assert told(events.of("channel closed"), "name", "channel", "reason") == [
        ("channel closed", "refused", 1, "404 NOT_FOUND - no queue 'nowhere' in vhost '/'")
    ]
    reasons = {event.name: event.reason for event in events.of("connection closed")}
    assert reasons == {"closed": "320 CONNECTION_FORCED - go", "cut": "the line is gone"}
    for connection in (cut, closed, refused):
        await connection.close()


async def test_everything_that_can_be_told_is_told_by_somebody() -> None:
    with EmbeddedBroker(log_events=True) as broker:
        async with await connect(broker.url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("x", "fanout", durable=True)
            dead: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": 2}
            queue = await channel.declare_queue("q", durable=True, arguments=dead)
            await channel.declare_queue("dead", durable=True)
            await queue.bind(exchange)
            for body in (b"1", b"2", b"3"):
                await exchange.publish(Message(body, expiration=60), "")
            with pytest.raises(PublishError, match="NO_ROUTE"):
                await publish(await connection.channel(on_return_raises=True), "nowhere")
            broker.nack_publishes()
            with pytest.raises(DeliveryError):
                await publish(channel, "q")
            await (await get(channel, "q")).reject(requeue=True)
            await (await get(channel, "q")).reject(requeue=False)
            await (await get(channel, "dead")).ack()
            broker.advance(61)
            inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await queue.cancel(await queue.consume(inbox.put))
            await exchange.delete()
            await queue.delete(if_unused=False, if_empty=False)
        await eventually(lambda: broker.connections() == [])
        assert {event.kind for event in broker.events} == set(KINDS)


# Who listens


async def test_what_happens_in_a_block_is_recorded_and_nothing_else(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        with embedded.recording() as events, embedded.recording(most=1) as newest:
            await channel.declare_queue("q", durable=True)
            await publish(channel, "q")
            await events.seen("confirmed", seconds=deadline(10))
        await publish(channel, "q")
        assert [event.kind for event in events] == ["queue declared", "published", "confirmed"]
        assert [event.kind for event in newest] == ["confirmed"]
        assert not embedded._node.journal.open


def test_a_broker_that_remembers_nothing_says_so(embedded: EmbeddedBroker) -> None:
    with pytest.raises(RuntimeError, match="make the broker with log_events=True, or use recording"):
        _ = embedded.events


def test_what_was_recorded_is_there_after_the_end() -> None:
    broker = EmbeddedBroker(log_events=True)
    with broker, broker.recording() as events:
        broker.stop()
    assert isinstance(broker.events, EventLog)
    assert list(broker.events) == list(events) == []


async def test_a_large_body_is_not_kept_whole(logging: EmbeddedBroker) -> None:
    async with await connect(logging.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True)
        await publish(channel, "q", b"x" * 10_000)
    assert [event.body for event in logging.events.of("published")] == [b"x" * 256]
