"""Traps of the client library: connections and channels, and awaits without an end."""

import asyncio
import re

import aio_pika
import aiormq
import pytest
from aio_pika.exceptions import ChannelPreconditionFailed

from tests.amqp.traps import Handler, connected, orders, soon
from tests.brokers import BrokerUnderTest
from tests.proxy import Proxy
from tests.waiting import deadline


def wire(connection: aio_pika.abc.AbstractConnection) -> aiormq.abc.AbstractConnection:
    """The aiormq connection beneath."""
    assert connection.transport is not None
    return connection.transport.connection


async def test_a_stuck_link_cancels_publishes_that_nobody_cancelled(broker: BrokerUnderTest, proxy: Proxy) -> None:
    # Rule: a CancelledError while `cancelling()` is 0 becomes "connection lost"; no raw publish in a task group.
    # The client judges a link stuck after 3 * (heartbeat + 1) seconds without a frame, hence the short heartbeat.
    async with connected(proxy.url(broker.url), heartbeat=1) as connection:
        channel = await connection.channel()
        await orders(channel)
        proxy.freeze()
        pending = asyncio.create_task(channel.default_exchange.publish(aio_pika.Message(b"1"), "orders"))
        await asyncio.wait([pending], timeout=deadline(15))
        assert pending.cancelled()
        assert pending.cancelling() == 0


async def test_a_call_that_times_out_closes_the_channel_with_all_that_runs_on_it(
    broker: BrokerUnderTest, proxy: Proxy
) -> None:
    # Rule: one channel per consumer; declarations on throw-away channels; publishing apart from both.
    handler = Handler()
    async with connected(proxy.url(broker.url)) as connection:
        channel = await connection.channel()
        await (await orders(channel, b"1")).consume(handler)
        await soon(handler.started)
        proxy.delay(0.3)
        with pytest.raises(TimeoutError):
            await channel.declare_queue("other", durable=True, timeout=0.1)
        await soon(handler.cancelled)
        assert channel.is_closed
        proxy.delay(0)


async def test_a_refused_declaration_closes_the_channel_with_all_that_runs_on_it(broker: BrokerUnderTest) -> None:
    # Rule: as above.
    handler = Handler()
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        await (await orders(channel, b"1")).consume(handler)
        await soon(handler.started)
        with pytest.raises(ChannelPreconditionFailed, match="inequivalent arg 'durable'"):
            await channel.declare_queue("orders", durable=False)
        await soon(handler.cancelled)
        assert channel.is_closed


async def test_a_blocked_connection_is_seen_in_the_wire_connection_only(broker: BrokerUnderTest) -> None:
    # Rule: the publishing link asks `ready()` under a time limit of nought, and says "blocked" when that raises.
    async def blocked() -> bool:
        try:
            async with asyncio.timeout(0):
                await wire(connection).ready()
        except TimeoutError:
            return True
        return False

    async with connected(broker.url) as connection:
        channel = await connection.channel()
        await orders(channel)
        assert not await blocked()
        broker.block()
        with pytest.raises(TimeoutError):
            await channel.default_exchange.publish(aio_pika.Message(b"1"), "orders", timeout=0.2)
        assert await blocked()
        assert not connection.is_closed
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.channel()
        broker.unblock()
        async with asyncio.timeout(deadline(10)):
            await wire(connection).ready()


async def test_connecting_to_a_silent_port_ends_only_by_its_timeout(broker: BrokerUnderTest, proxy: Proxy) -> None:
    # Rule: `connect` always gets broker.connect_timeout.
    proxy.freeze()
    pending = asyncio.create_task(aio_pika.connect(proxy.url(broker.url)))
    with pytest.raises(TimeoutError):
        await aio_pika.connect(proxy.url(broker.url), timeout=0.3)
    assert not pending.done()
    pending.cancel()
    await asyncio.wait([pending], timeout=deadline(10))


async def test_a_missing_vhost_reads_like_an_error_of_the_protocol(broker: BrokerUnderTest) -> None:
    # Rule: translated into "vhost X does not exist, or user Y may not use it".
    missing = re.sub("[^/]*$", "missing", broker.url)
    with pytest.raises(aiormq.exceptions.InvalidFrameError, match=r"Connection\.OpenOk"):
        await aio_pika.connect(missing, timeout=deadline(10))


async def test_an_unknown_scheme_connects_in_plain_text(broker: BrokerUnderTest) -> None:
    # Rule: only amqp and amqps, checked before connecting.
    async with connected(broker.url.replace("amqp:", "amqpsecure:")) as connection:
        await orders(await connection.channel())
    with pytest.raises(KeyError):
        await aio_pika.connect("amqpsecure://127.0.0.1/", timeout=deadline(10))


@pytest.mark.parametrize("number", ["abc", "-1", "1.5", "65535"])
async def test_a_heartbeat_that_is_no_usable_number_is_off(broker: BrokerUnderTest, number: str) -> None:
    # Rule: the number comes from the schema; query options in a URL are checked by us.
    async with connected(f"{broker.url}?heartbeat={number}") as connection:
        tune = wire(connection).connection_tune
        assert tune.heartbeat == 0


async def test_closing_a_channel_on_a_frozen_link_waits(broker: BrokerUnderTest, proxy: Proxy) -> None:
    # Rule: every close has a time limit, and on the way out the connection is closed, not each channel.
    async with connected(proxy.url(broker.url)) as connection:
        channel = await connection.channel()
        proxy.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await channel.close()
        proxy.cut()
