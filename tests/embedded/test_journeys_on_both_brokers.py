"""The journeys of a message with the real client, played on the embedded broker and on RabbitMQ: what holds there
holds here. Only texts and orders that both promise are compared."""

import asyncio
import re
from typing import Any

import aio_pika
import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelClosed, DeliveryError
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Basic

from tests.brokers import BrokerUnderTest
from tests.proxy import Proxy
from tests.waiting import deadline, eventually

Inbox = asyncio.Queue[AbstractIncomingMessage]


async def next_of(inbox: Inbox) -> AbstractIncomingMessage:
    async with asyncio.timeout(deadline(10)):
        return await inbox.get()


async def open_channel(url: str, **options: Any) -> tuple[AbstractConnection, AbstractChannel]:
    connection = await aio_pika.connect(url, timeout=deadline(10))
    return connection, await connection.channel(**options)


async def taken(broker: BrokerUnderTest, queue: str, count: int = 1) -> list[AbstractIncomingMessage]:
    """So many messages of a queue, as soon as they are there."""
    found: list[AbstractIncomingMessage] = []

    async with asyncio.timeout(deadline(10)):
        while len(found) < count:
            found += await broker.get_all(queue)
    return found


async def test_publish_route_deliver_acknowledge(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        queue = await channel.declare_queue("orders", durable=True)
        exchange = await channel.declare_exchange("shop", ExchangeType.TOPIC, durable=True)
        await queue.bind(exchange, "order.*.paid")
        inbox: Inbox = asyncio.Queue()
        await queue.consume(inbox.put, consumer_tag="till")

        await exchange.publish(
            Message(b"one", message_id="m1", headers={"n": 1, "deep": {"a": [1, "b"]}}), "order.7.paid"
        )

        message = await next_of(inbox)
        assert (message.body, message.message_id, message.headers) == (b"one", "m1", {"n": 1, "deep": {"a": [1, "b"]}})
        assert (message.exchange, message.routing_key, message.consumer_tag) == ("shop", "order.7.paid", "till")
        assert message.redelivered is False
        await message.ack()
    assert await eventually(lambda: broker.queue_depths() == {"orders": 0})


async def test_each_type_of_exchange_routes_alike(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        kinds = (ExchangeType.DIRECT, ExchangeType.FANOUT, ExchangeType.TOPIC, ExchangeType.HEADERS)
        for kind in kinds:
            exchange = await channel.declare_exchange(f"e.{kind.value}", kind, auto_delete=False)
            for key in ("a.b", "a.*", "#"):
                name = f"{kind.value} {key}".replace("*", "one").replace("#", "any")
                queue = await channel.declare_queue(name, durable=True)
                await queue.bind(exchange, key, arguments={"x-match": "any", "tone": key, "size": 2})
        for kind in kinds:
            exchange = await channel.get_exchange(f"e.{kind.value}")
            await exchange.publish(Message(b"1", headers={"tone": "a.*"}), "a.b", mandatory=False)
            await exchange.publish(Message(b"2", headers={"size": 2}), "a.c", mandatory=False)
            await exchange.publish(Message(b"3", headers={"size": "2"}), "other", mandatory=False)
    assert broker.queue_depths() == {
        "direct a.b": 1,
        "direct a.one": 0,
        "direct any": 0,
        "fanout a.b": 3,
        "fanout a.one": 3,
        "fanout any": 3,
        "topic a.b": 1,
        "topic a.one": 2,
        "topic any": 3,
        "headers a.b": 1,
        "headers a.one": 2,
        "headers any": 1,
    }


async def test_exchange_to_exchange(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        near = await channel.declare_exchange("near", ExchangeType.FANOUT)
        far = await channel.declare_exchange("far", ExchangeType.DIRECT, internal=True)
        await far.bind(near)
        queue = await channel.declare_queue("q", durable=True)
        await queue.bind(far, "k")
        await queue.bind(near)
        await near.publish(Message(b"once"), "k")
        await near.publish(Message(b"too"), "other")
    assert [message.body for message in await broker.get_all("q")] == [b"once", b"too"]


async def test_a_large_message_arrives_whole(broker: BrokerUnderTest) -> None:
    body = bytes(range(256)) * 4096
    await broker.declare("q")
    await broker.publish("q", body)
    assert [message.body == body for message in await broker.get_all("q")] == [True]


async def test_nack_brings_it_back_to_its_place_marked(broker: BrokerUnderTest) -> None:
    await broker.declare("q")
    for body in (b"1", b"2", b"3"):
        await broker.publish("q", body)
    async with broker.channel() as channel:
        queue = await channel.get_queue("q")
        first = await queue.get(timeout=deadline(10))
        second = await queue.get(timeout=deadline(10))
        await second.nack()
        await first.reject(requeue=True)
        seen = [(message.body, message.redelivered) for message in await taken(broker, "q", 3)]
        assert seen == [(b"1", True), (b"2", True), (b"3", False)]


async def test_prefetch_bounds_what_is_in_hand(broker: BrokerUnderTest) -> None:
    await broker.declare("q")
    for number in range(5):
        await broker.publish("q", str(number).encode())
    async with broker.channel() as channel:
        await channel.set_qos(2)
        queue = await channel.get_queue("q")
        inbox: Inbox = asyncio.Queue()
        await queue.consume(inbox.put)
        first, second = await next_of(inbox), await next_of(inbox)
        await channel.get_queue("q", ensure=True)  # answered by the queue, behind what it has delivered
        assert inbox.empty()
        await second.ack()
        assert (await next_of(inbox)).body == b"2"
        await channel.get_queue("q", ensure=True)
        assert inbox.empty()
        assert first.body == b"0"


async def test_consumers_take_turns(broker: BrokerUnderTest) -> None:
    await broker.declare("q")
    async with broker.channel() as one, broker.channel() as other:
        inboxes: list[Inbox] = [asyncio.Queue(), asyncio.Queue()]
        for channel, inbox in zip((one, other), inboxes, strict=True):
            await channel.set_qos(10)
            await (await channel.get_queue("q")).consume(inbox.put)
        for number in range(6):
            await broker.publish("q", str(number).encode())
        assert await eventually(lambda: [inbox.qsize() for inbox in inboxes] == [3, 3])


@pytest.mark.parametrize("end", ["line cut", "channel closed", "connection closed"])
async def test_what_a_lost_worker_had_goes_to_another_one_in_order(
    broker: BrokerUnderTest, proxy: Proxy, end: str
) -> None:
    # Given a worker with three of five messages in hand, and another that waits
    await broker.declare("q")
    for number in range(5):
        await broker.publish("q", str(number).encode())
    connection, channel = await open_channel(proxy.url(broker.url))
    await channel.set_qos(3)
    lost: Inbox = asyncio.Queue()
    await (await channel.get_queue("q")).consume(lost.put)
    for _ in range(3):
        await next_of(lost)
    # When the first one goes
    if end == "line cut":
        proxy.cut()
    elif end == "channel closed":
        await channel.close()
    else:
        await connection.close()
    # Then another gets all of them, in the old order, and sees which were out before
    async with broker.channel() as second:
        inbox: Inbox = asyncio.Queue()
        await eventually(lambda: broker.queue_depths() == {"q": 5})
        await second.set_qos(1)
        await (await second.get_queue("q")).consume(inbox.put)
        seen = []
        for _ in range(5):
            message = await next_of(inbox)
            seen.append((message.body, message.redelivered))
            await message.ack()
    assert sorted(seen) == [(b"0", True), (b"1", True), (b"2", True), (b"3", False), (b"4", False)]
    assert [body for body, redelivered in seen if redelivered] == [b"0", b"1", b"2"]
    await connection.close()


async def test_an_unknown_delivery_tag_closes_the_channel_and_brings_all_back(broker: BrokerUnderTest) -> None:
    await broker.declare("q")
    await broker.publish("q", b"x")
    connection, channel = await open_channel(broker.url)
    message = await (await channel.get_queue("q")).get(timeout=deadline(10))
    assert message is not None
    underlay = await channel.get_underlay_channel()
    closed = underlay.closing
    await underlay.basic_ack(7)
    with pytest.raises(ChannelPreconditionFailed, match="unknown delivery tag 7"):
        async with asyncio.timeout(deadline(10)):
            await closed
    assert [message.redelivered for message in await taken(broker, "q")] == [True]
    await connection.close()


async def test_an_unroutable_message_comes_back_before_its_confirm(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        with pytest.raises(DeliveryError) as returned:
            await channel.default_exchange.publish(Message(b"x"), "nowhere", timeout=deadline(10))
        assert isinstance(returned.value.frame, Basic.Return)
        assert (returned.value.frame.reply_code, returned.value.frame.reply_text) == (312, "NO_ROUTE")
        # and the next one is fine
        await channel.declare_queue("somewhere", durable=True, auto_delete=True)
        await channel.default_exchange.publish(Message(b"x"), "somewhere", timeout=deadline(10))


async def test_many_confirms_in_flight(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        await channel.declare_queue("q", durable=True)
        publish = channel.default_exchange.publish
        async with asyncio.timeout(deadline(20)):
            await asyncio.gather(*(publish(Message(str(number).encode()), "q") for number in range(500)))
    assert await eventually(lambda: broker.queue_depths() == {"q": 500})


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "durable",
        {"durable": True},
        {"durable": False},
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'durable' in vhost '{}': "
        "received 'false' but current is 'true'",
    ),
    (
        "limit",
        {"durable": True, "arguments": {"x-max-length": 5}},
        {"durable": True, "arguments": {}},
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'limit' in vhost '{}': "
        "received none but current is the value '5' of type 'byte'",
    ),
    (
        "ttl",
        {"durable": True, "arguments": {"x-message-ttl": 1000}},
        {"durable": True, "arguments": {"x-message-ttl": 2000}},
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'ttl' in vhost '{}': "
        "received '2000' but current is '1000'",
    ),
    (
        "type",
        {"durable": True},
        {"durable": True, "arguments": {"x-queue-type": "quorum"}},
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'type' in vhost '{}': "
        "(received the value 'quorum' of type 'longstr' but current is none"
        "|received 'quorum' but current is 'classic')",  # the second since RabbitMQ 4
    ),
    ("amq.mine", {}, {}, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.\\*'"),
]


@pytest.mark.parametrize(("name", "first", "again", "text"), REFUSALS, ids=[name for name, *_ in REFUSALS])
async def test_a_queue_declared_otherwise_is_refused_word_for_word(
    broker: BrokerUnderTest, name: str, first: dict[str, Any], again: dict[str, Any], text: str
) -> None:
    vhost = broker.url.rsplit("/", 1)[1] or "/"
    connection, channel = await open_channel(broker.url)
    with pytest.raises(ChannelClosed) as refused:
        await channel.declare_queue(name, **first)
        await channel.declare_queue(name, **again)
    assert re.fullmatch(text.format(vhost), str(refused.value))
    await connection.close()


async def test_an_exclusive_queue_is_for_its_connection_and_goes_with_it(broker: BrokerUnderTest) -> None:
    connection, channel = await open_channel(broker.url)
    queue = await channel.declare_queue("mine", exclusive=True)
    await queue.bind("amq.fanout", "")
    other, stranger = await open_channel(broker.url)
    with pytest.raises(ChannelClosed, match="RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine'"):
        await stranger.declare_queue("mine", exclusive=True)
    await connection.close()
    await eventually(lambda: broker.queue_depths() == {})
    await other.close()


async def test_a_server_named_queue(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        queue = await channel.declare_queue("", exclusive=True)
        assert queue.name.startswith("amq.gen-")
        await channel.default_exchange.publish(Message(b"x"), queue.name)
        message = await queue.get(timeout=deadline(10))
        assert message is not None and message.body == b"x"
        await message.ack()


async def test_an_auto_delete_queue_goes_with_its_last_consumer(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        queue = await channel.declare_queue("q", durable=True, auto_delete=True)
        inbox: Inbox = asyncio.Queue()
        tags = [await queue.consume(inbox.put) for _ in range(2)]
        await queue.cancel(tags[0])
        assert broker.queue_depths() == {"q": 0}
        await queue.cancel(tags[1])
        await eventually(lambda: broker.queue_depths() == {})


async def test_a_deleted_queue_cancels_its_consumer_and_leaves_the_channel_open(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel:
        queue = await channel.declare_queue("q", durable=True)
        cancelled: asyncio.Queue[str | None] = asyncio.Queue()
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda frame: cancelled.put_nowait(frame.consumer_tag))
        inbox: Inbox = asyncio.Queue()
        tag = await queue.consume(inbox.put)
        async with broker.channel() as other:
            await other.queue_delete("q")
        async with asyncio.timeout(deadline(10)):
            assert await cancelled.get() == tag
        await channel.declare_queue("q", exclusive=True)


async def test_a_queue_that_is_not_there(broker: BrokerUnderTest) -> None:
    connection, channel = await open_channel(broker.url)
    with pytest.raises(ChannelNotFoundEntity, match="NOT_FOUND - no queue 'nope' in vhost"):
        await channel.declare_queue("nope", passive=True)
    await connection.close()


async def test_a_rejected_message_is_dead_lettered_with_its_history(broker: BrokerUnderTest) -> None:
    await broker.declare("dead")
    await broker.declare("work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    await broker.publish("work", b"poison", headers={"mine": "yes"}, message_id="m")
    async with broker.channel() as channel:
        message = await (await channel.get_queue("work")).get(timeout=deadline(10))
        assert message is not None
        await message.reject(requeue=False)
    [dead] = await taken(broker, "dead")
    assert (dead.body, dead.message_id, dead.headers["mine"]) == (b"poison", "m", "yes")
    history: Any = dead.headers["x-death"]
    assert [{key: value for key, value in death.items() if key != "time"} for death in history] == [
        {"count": 1, "reason": "rejected", "queue": "work", "exchange": "", "routing-keys": ["work"]}
    ]
    assert dead.headers["x-first-death-queue"] == "work"


async def test_a_quorum_queue_counts_and_gives_up_at_its_limit(broker: BrokerUnderTest) -> None:
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    await broker.declare("dead")
    await broker.declare("work", arguments=arguments)
    await broker.publish("work", b"poison")
    counts = []
    async with broker.channel() as channel:
        inbox: Inbox = asyncio.Queue()
        await (await channel.get_queue("work")).consume(inbox.put)
        for _ in range(3):
            message = await next_of(inbox)
            counts.append((message.headers.get("x-delivery-count"), message.redelivered))
            await message.reject(requeue=True)  # nack does not count any more in RabbitMQ 4.3
        [dead] = await taken(broker, "dead")
    assert counts == [(None, False), (1, True), (2, True)]
    history: Any = dead.headers["x-death"]
    assert history[0]["reason"] == "delivery_limit"


async def test_under_an_alarm_publishing_waits_and_consuming_goes_on(broker: BrokerUnderTest) -> None:
    await broker.declare("q")
    await broker.declare("before")
    await broker.publish("before", b"old")
    async with broker.channel() as consuming, broker.channel() as publishing:
        broker.block()
        # RabbitMQ's connections hear of an alarm a little later, so the first ones may still pass
        waiting = await publish_until_one_waits(publishing, "q")
        inbox: Inbox = asyncio.Queue()
        await (await consuming.get_queue("before")).consume(inbox.put)
        message = await next_of(inbox)
        await message.ack()
        assert message.body == b"old"
        assert not waiting.done()
        broker.unblock()
        async with asyncio.timeout(deadline(20)):
            await waiting
    assert b"late" in [message.body for message in await broker.get_all("q")]


async def publish_until_one_waits(channel: AbstractChannel, queue: str) -> asyncio.Task[Any]:
    for _ in range(100):
        task = asyncio.ensure_future(channel.default_exchange.publish(Message(b"late"), queue))
        done, _ = await asyncio.wait([task], timeout=deadline(0.3))
        if not done:
            assert isinstance(task, asyncio.Task)
            return task
    raise AssertionError("no publish was held back")
