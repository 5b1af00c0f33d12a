"""Traps of the client library: publishing, and what a message loses on its way through the client."""

import asyncio
import contextlib
import logging

import aio_pika
import aiormq
import pytest
from aio_pika.exceptions import DeliveryError, PublishError

from tests.amqp.traps import BadText, connected, orders
from tests.brokers import BrokerUnderTest
from tests.proxy import Proxy
from tests.waiting import deadline, eventually


async def test_an_unroutable_message_raises_nothing_by_default(broker: BrokerUnderTest) -> None:
    # Rule: every publishing channel is opened with on_return_raises=True.
    async with connected(broker.url) as connection:
        silent = await connection.channel()
        result = await silent.default_exchange.publish(aio_pika.Message(b"1"), "nowhere")
        assert isinstance(result, aiormq.abc.DeliveredMessage)
        loud = await connection.channel(on_return_raises=True)
        with pytest.raises(PublishError):
            await loud.default_exchange.publish(aio_pika.Message(b"1"), "nowhere")


async def test_without_confirms_a_returned_message_reaches_nobody(
    broker: BrokerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    # Rule: confirms are always on.
    returned: list[object] = []
    async with connected(broker.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        channel.return_callbacks.add(lambda _, message: returned.append(message))
        with caplog.at_level(logging.ERROR):
            await channel.default_exchange.publish(aio_pika.Message(b"1"), "nowhere")
            await eventually(lambda: caplog.records, told="the line in the log")
    assert "Unhandled message" in caplog.text
    assert returned == []


async def test_two_publishes_with_one_id_on_one_channel_swap_their_results(broker: BrokerUnderTest) -> None:
    # Rule: at most one publish of a message id is in flight on a channel; a second one takes another channel or waits.
    async with connected(broker.url) as connection:
        channel = await connection.channel(on_return_raises=True)
        await orders(channel)
        lost, kept = await asyncio.gather(
            *[
                channel.default_exchange.publish(aio_pika.Message(b"1", message_id="x"), key)
                for key in ("no", "orders")
            ],
            return_exceptions=True,
        )
        assert not isinstance(lost, BaseException)
        assert isinstance(kept, PublishError | DeliveryError)
    assert broker.queue_depths() == {"orders": 1}


async def test_a_publish_that_timed_out_may_still_arrive(broker: BrokerUnderTest) -> None:
    # Rule: while blocked nothing is sent a second time; we wait for ack, nack or the end of that channel.
    async with connected(broker.url) as connection:
        channel = await connection.channel()
        await orders(channel)
        broker.block()
        with pytest.raises(TimeoutError):
            await channel.default_exchange.publish(aio_pika.Message(b"1"), "orders", timeout=0.2)
        broker.unblock()
        await eventually(lambda: broker.queue_depths() == {"orders": 1}, told="the message that had timed out")


def test_a_message_is_transient_with_priority_nought_and_expires_in_seconds() -> None:
    # Rule: `amqp/convert.py` sets every property itself.
    message = aio_pika.Message(b"", expiration=5000)
    assert message.delivery_mode is aio_pika.DeliveryMode.NOT_PERSISTENT
    assert message.properties.priority == 0
    assert message.properties.expiration == "5000000"


async def test_floats_in_headers_lose_half_their_digits_or_cannot_be_sent(broker: BrokerUnderTest) -> None:
    # Rule: headers of our own are integers and text only.
    await broker.declare("orders")
    await broker.publish("orders", b"", headers={"rate": 0.1})
    (message,) = await broker.get_all("orders")
    assert message.headers["rate"] == pytest.approx(0.1)
    assert message.headers["rate"] != 0.1
    with pytest.raises(OverflowError):
        await broker.publish("orders", b"", headers={"rate": 1e300})


async def test_a_header_that_is_not_utf8_arrives_and_cannot_be_sent_again(broker: BrokerUnderTest) -> None:
    # Rule: a copy of such a message is not made by sending the headers as they came.
    await broker.declare("orders")
    await broker.publish("orders", b"", headers={"name": BadText("Müller")})
    (message,) = await broker.get_all("orders")
    assert message.headers["name"] == "Müller".encode("latin-1")
    with pytest.raises(TypeError, match="Unknown type"):
        await broker.publish("orders", b"", headers=message.headers)
    with pytest.raises(TypeError, match="Unknown type"):
        await broker.publish("orders", b"", headers={"pair": (1, 2)})


@pytest.mark.parametrize("end", ["cut", "our close"])
async def test_a_pending_publish_ends_with_an_error_or_with_a_cancellation_that_nobody_asked_for(
    broker: BrokerUnderTest, proxy: Proxy, end: str
) -> None:
    # Rule: one wrapper round every await of the library makes both the same "connection lost"; a CancelledError in a
    # task that nobody cancelled would end a task group's task without a sign.
    async with connected(proxy.url(broker.url)) as connection:
        channel = await connection.channel()
        await orders(channel)
        proxy.freeze()
        pending = asyncio.create_task(channel.default_exchange.publish(aio_pika.Message(b"1"), "orders"))
        await asyncio.wait([pending], timeout=0.1)
        if end == "cut":
            proxy.cut()
        else:
            await connection.close()
        await asyncio.wait([pending], timeout=deadline(10))
        assert pending.cancelling() == 0
        if end == "cut":
            assert isinstance(pending.exception(), aiormq.exceptions.AMQPConnectionError)
        else:
            assert pending.cancelled()


async def test_publishes_that_wait_are_still_written_to_a_channel_that_is_gone(rabbitmq_vhost_url: str) -> None:
    # Rule: a publishing channel writes its messages one after the other, and nothing once the broker has closed it.
    # RabbitMQ only: it answers a frame for a channel that is no more with 504, which ends the whole connection.
    ended: list[BaseException | None] = []
    async with connected(rabbitmq_vhost_url) as connection:
        connection.close_callbacks.add(lambda _, error: ended.append(error))
        for _ in range(50):  # a race, which is lost within a few rounds
            if ended:
                break
            with contextlib.suppress(Exception):
                async with asyncio.timeout(deadline(10)):
                    channel = await connection.channel()
                    missing = await channel.get_exchange("missing", ensure=False)
                    publishes = [missing.publish(aio_pika.Message(b"1"), "key") for _ in range(10)]
                    await asyncio.gather(*publishes, return_exceptions=True)
    assert "CHANNEL_ERROR" in str(ended[0])
