"""The face that tests use for both brokers does the same on either."""

import aio_pika
import pytest
from aio_pika.exceptions import AMQPConnectionError, DeliveryError, PublishError

from tests.brokers import BrokerUnderTest
from tests.proxy import Proxy
from tests.waiting import deadline, eventually


async def test_messages_come_out_in_the_order_they_went_in(broker: BrokerUnderTest) -> None:
    await broker.declare("orders", arguments={"x-max-priority": 3})
    await broker.publish("orders", b"1", headers={"n": 1}, message_id="a")
    await broker.publish("orders", b"2")
    assert broker.queue_depths() == {"orders": 2}
    first, second = await broker.get_all("orders")
    assert (first.body, first.headers, first.message_id, second.body) == (b"1", {"n": 1}, "a", b"2")
    assert broker.queue_depths() == {"orders": 0}


async def test_publishing_to_a_queue_that_is_not_there_fails(broker: BrokerUnderTest) -> None:
    with pytest.raises((PublishError, DeliveryError)):
        await broker.publish("nowhere", b"1")


@pytest.mark.parametrize("end", [BrokerUnderTest.drop_connections.__name__, BrokerUnderTest.close_connections.__name__])
async def test_connections_can_be_ended_from_the_side_of_the_broker(broker: BrokerUnderTest, end: str) -> None:
    connection = await aio_pika.connect(broker.url, timeout=deadline(10))
    ended: list[BaseException | None] = []
    connection.close_callbacks.add(lambda _, error: ended.append(error))
    getattr(broker, end)()
    await eventually(lambda: ended, told="the end of the connection")
    assert isinstance(ended[0], AMQPConnectionError)
    await connection.close()


async def test_a_blocked_broker_takes_nothing_until_it_is_unblocked(broker: BrokerUnderTest) -> None:
    await broker.declare("orders")
    async with broker.channel() as channel:
        broker.block()
        with pytest.raises(TimeoutError):
            await channel.default_exchange.publish(aio_pika.Message(b"1"), "orders", timeout=0.3)
        assert broker.queue_depths() == {"orders": 0}
        broker.unblock()
        await eventually(lambda: broker.queue_depths() == {"orders": 1}, told="the message that waited")


async def test_a_proxy_stands_before_either_broker(broker: BrokerUnderTest, proxy: Proxy) -> None:
    connection = await aio_pika.connect(proxy.url(broker.url), timeout=deadline(10))
    async with connection:
        await (await connection.channel()).declare_queue("through the line", durable=True)
    assert broker.queue_depths() == {"through the line": 0}
    assert proxy.accepted == 1
