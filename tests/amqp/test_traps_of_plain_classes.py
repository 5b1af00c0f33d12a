"""Traps of the client library's plain connection, channel and queue: what they do not notice, and what they keep."""

import asyncio

import aio_pika
import aiormq
import pamqp.decode
import pytest
from aio_pika.exceptions import ChannelInvalidStateError

from tests.amqp.traps import BadText, Handler, connected, orders, soon
from tests.brokers import BrokerUnderTest
from tests.waiting import deadline, eventually


async def test_a_connection_does_not_know_that_it_is_lost(broker: BrokerUnderTest) -> None:
    # Rule: the link waits for `close_callbacks`, then closes the corpse, which returns at once.
    async with connected(broker.url) as connection:
        lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        waiting = asyncio.ensure_future(connection.closed())
        broker.drop_connections()
        await soon(lost)
        assert not connection.is_closed
        assert not waiting.done()
        await connection.close()
        assert connection.is_closed
        async with asyncio.timeout(deadline(5)):
            await waiting


async def test_a_consumer_whose_queue_was_deleted_stays_up_and_deaf(broker: BrokerUnderTest) -> None:
    # Rule: the callbacks of the underlay end that consumer's run; a watchdog compares the tags.
    cancelled: list[object] = []
    async with connected(broker.url) as connection, connected(broker.url) as other:
        channel = await connection.channel()
        queue = await orders(channel)
        await queue.consume(Handler(), consumer_tag="me")
        underlay = await channel.get_underlay_channel()
        assert isinstance(underlay, aiormq.Channel)
        underlay.on_consumer_cancel_callbacks.add(cancelled.append)
        assert list(underlay.consumers) == ["me"]
        await (await other.channel()).queue_delete("orders")
        await eventually(lambda: cancelled, told="the broker's cancel")
        assert list(underlay.consumers) == []
        assert not channel.is_closed
        await orders(channel, b"1")
        assert broker.queue_depths() == {"orders": 1}


async def test_a_property_that_is_not_utf8_ends_the_whole_connection(
    broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rule: tolerant decoders are registered; ends by this error are counted, and the culprit is isolated.
    monkeypatch.setitem(pamqp.decode.METHODS, "shortstr", pamqp.decode.short_str)  # the library's own again
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        await orders(channel)
        properties = aiormq.spec.Basic.Properties(correlation_id=BadText("Müller"))
        underlay = await channel.get_underlay_channel()
        await underlay.basic_publish(b"1", routing_key="orders", properties=properties)
    ended: list[BaseException | None] = []
    async with connected(broker.url) as connection:
        connection.close_callbacks.add(lambda _, error: ended.append(error))
        queue = await (await connection.channel()).declare_queue("orders", passive=True)
        await queue.consume(Handler())
        await eventually(lambda: ended, told="the end of the connection")
    assert isinstance(ended[0], aiormq.exceptions.InvalidFrameError)
    await eventually(lambda: broker.queue_depths() == {"orders": 1})


async def test_calls_after_a_cut_fail_at_once_instead_of_waiting(broker: BrokerUnderTest) -> None:
    # Rule: waiting for the next connection is our own code's business, and has an end there.
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        queue = await orders(channel)
        tag = await queue.consume(Handler())
        lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        broker.drop_connections()
        await soon(lost)
        for call in (
            channel.declare_queue("orders", durable=True),
            channel.set_qos(1),
            queue.cancel(tag),
            channel.default_exchange.publish(aio_pika.Message(b"1"), "orders"),
        ):
            with pytest.raises(ChannelInvalidStateError):
                async with asyncio.timeout(deadline(5)):
                    await call


async def test_every_channel_that_was_closed_leaves_something_on_its_connection(broker: BrokerUnderTest) -> None:
    # Rule: one throw-away channel per pass of declarations, not one per object.
    async with connected(broker.url) as connection:
        assert connection.transport is not None
        closing = connection.transport.connection._closing  # type: ignore[attr-defined]  # no public way to count
        for _ in range(5):
            await (await connection.channel()).close()
        before = len(closing._callbacks)
        for _ in range(5):
            await (await connection.channel()).close()
        assert len(closing._callbacks) - before == 10
