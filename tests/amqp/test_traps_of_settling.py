"""Traps of the client library: handlers, deliveries and acknowledgements."""

import asyncio

import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError

from tests.amqp.traps import Handler, connected, orders, ready_in, soon
from tests.brokers import BrokerUnderTest
from tests.waiting import eventually


@pytest.mark.parametrize("cause", ["our close", "lost link"])
async def test_a_running_callback_is_cancelled_when_its_connection_ends(broker: BrokerUnderTest, cause: str) -> None:
    # Rule: the callback hands the delivery to a task of ours and returns, so that handlers outlive the channel.
    handler = Handler()
    async with connected(broker.url) as connection:
        queue = await orders(await connection.channel(), b"1")
        await queue.consume(handler)
        await soon(handler.started)
        if cause == "our close":
            await connection.close()
        else:
            broker.drop_connections()
        await soon(handler.cancelled)


async def test_an_exception_in_a_callback_is_a_line_in_the_log_and_nothing_else(
    broker: BrokerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    # Rule: everything that a handler can raise is caught round the handler, and each delivery is settled by us.
    seen: list[bytes] = []

    async def fail(message: AbstractIncomingMessage) -> None:
        seen.append(message.body)
        raise ZeroDivisionError

    async with connected(broker.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(1)
        queue = await orders(channel, b"1", b"2")
        await queue.consume(fail)
        await eventually(lambda: "ZeroDivisionError" in caplog.text, told="the line in the log")
        assert await ready_in(queue) == 1
        assert not channel.is_closed
    assert seen == [b"1"]
    await eventually(lambda: broker.queue_depths() == {"orders": 2})


async def test_process_throws_the_message_of_a_cancelled_handler_away(broker: BrokerUnderTest) -> None:
    # Rule: message.process() is never used; a handler that was cut off has its message given back.
    started = asyncio.Event()

    async def handle(message: AbstractIncomingMessage) -> None:
        async with message.process():
            started.set()
            await asyncio.get_running_loop().create_future()  # ends with cancellation only

    async with connected(broker.url) as connection:
        queue = await orders(await connection.channel(), b"1")
        message = await queue.get()
        task = asyncio.create_task(handle(message))
        await soon(started)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: broker.queue_depths() == {"orders": 0}, told="the loss")


async def test_two_acks_at_once_both_succeed_here_and_cost_the_channel_there(broker: BrokerUnderTest) -> None:
    # Rule: one gate per delivery, taken before the first await.
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        ended: list[BaseException | None] = []
        channel.close_callbacks.add(lambda _, error: ended.append(error))
        message = await (await orders(channel, b"1")).get()
        await asyncio.gather(message.ack(), message.ack())
        await eventually(lambda: ended, told="the end of the channel")
        assert "unknown delivery tag" in str(ended[0])


async def test_an_ack_after_the_end_of_the_channel_raises(broker: BrokerUnderTest) -> None:
    # Rule: it is caught where we settle, and counted as "redelivery expected", not as a failure of the handler.
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        message = await (await orders(channel, b"1")).get()
        await channel.close()
        with pytest.raises(ChannelInvalidStateError):
            await message.ack()
    await eventually(lambda: broker.queue_depths() == {"orders": 1})


async def test_a_cancel_without_waiting_forgets_deliveries_that_are_on_their_way(broker: BrokerUnderTest) -> None:
    # Rule: a consumer is never cancelled with nowait.
    total, handled = 200, 0
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        queue = await orders(channel, *[bytes(20_000)] * total)

        async def handle(message: AbstractIncomingMessage) -> None:
            nonlocal handled
            handled += 1
            if handled == 1:
                await queue.cancel("me", nowait=True)

        await queue.consume(handle, consumer_tag="me")
        await eventually(lambda: handled)
        assert handled + await ready_in(queue) < total
        assert broker.queue_depths() == {"orders": total}


async def test_a_queue_that_another_connection_owns_is_refused(broker: BrokerUnderTest) -> None:
    # Rule: only this consumer waits, and says who may hold the queue; short heartbeats make the wait short.
    async with connected(broker.url) as first, connected(broker.url) as second:
        await (await first.channel()).declare_queue("mine", exclusive=True)
        channel = await second.channel()
        with pytest.raises(Exception, match="RESOURCE_LOCKED") as refused:
            await channel.declare_queue("mine", exclusive=True)
        assert type(refused.value).__name__ == "ChannelLockedResource"
