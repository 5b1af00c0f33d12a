"""Looking at a real broker: what is seen is what is there, and nothing is there that was not before."""

import asyncio
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from pipeline.amqp.inspect import Depth, Unseen
from pipeline.clock import SystemClock
from pipeline.config.model import Pipeline
from pipeline.runtime.drift import Seen
from pipeline.runtime.examine import examine
from pipeline.runtime.plan import plan
from tests.amqp.parts import broker_of, exchange
from tests.brokers import BrokerUnderTest
from tests.models import a_consumer, a_pipeline, a_queue
from tests.rabbitmq import PrivateRabbitMQ


async def seen(pipeline: Pipeline, *, comparing: bool = False) -> Seen:
    """In a thread, since it has a loop of its own."""
    return await asyncio.to_thread(examine, plan(pipeline), comparing=comparing, clock=SystemClock())


def shop(url: str, **changes: Any) -> Pipeline:
    usual: dict[str, Any] = {
        "broker": broker_of(url),
        "exchanges": (exchange("orders"), exchange("missing")),
        "queues": (a_queue("billing", arguments={"x-queue-type": "classic", "x-max-length": 7}), a_queue("gone")),
        "consumers": (a_consumer(),),
    }
    return a_pipeline(**{**usual, **changes})


async def keep(message: AbstractIncomingMessage) -> None:
    """In hand, and never settled."""


async def test_what_is_seen_is_what_is_there(broker: BrokerUnderTest) -> None:
    # Given some of what the file names, one of it made otherwise, one for another connection alone
    async with broker.channel() as channel:
        await channel.declare_exchange("orders", "topic", durable=True)
        await channel.declare_queue("mine", exclusive=True)
        billing = await channel.declare_queue("billing", durable=True)
        await billing.consume(keep)
        await broker.declare("billing.dlq", arguments={"x-queue-type": "classic"})
        await broker.publish("billing.dlq", b"failed")
        # When somebody looks, and compares
        pipeline = shop(broker.url)
        mine = a_queue("mine", exclusive=True, dead_letter=False)
        looked = await seen(shop(broker.url, queues=(*pipeline.queues, mine)), comparing=True)
        again = await seen(pipeline)

    # Then each thing is there as it is
    assert looked.server.product == "RabbitMQ"
    assert looked.server.version[0] in "34"
    assert looked.exchanges["orders"] is None
    assert isinstance(looked.exchanges["missing"], Unseen)
    depths = {name: each if isinstance(each, Depth) else each.code for name, each in looked.queues.items()}
    assert depths == {
        "billing": Depth(ready=0, consumers=1),
        "billing.dlq": Depth(ready=1, consumers=0),
        "gone": 404,
        "mine": 405,
    }
    assert looked.differences is not None
    assert [each.sentence for each in looked.differences] == [
        'queue "billing" is on the broker without x-max-length, the file says 7'
    ]
    assert (looked.publishing, again.publishing, again.differences) == ("taken", "taken", None)
    # And nothing was made
    assert broker.queue_depths() == {"billing": 0, "billing.dlq": 1}
    async with broker.channel() as channel:
        try:
            await channel.get_exchange("missing")
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return
    raise AssertionError("the exchange was made")


async def test_an_alarm_is_seen_and_the_rest_as_well(broker: BrokerUnderTest) -> None:
    await broker.declare("billing")
    broker.block()
    looked = await seen(shop(broker.url))
    broker.unblock()
    assert looked.publishing == "blocked"
    assert looked.queues["billing"] == Depth(ready=0, consumers=0)


async def test_missing_rights_are_seen_where_something_is_compared(rabbitmq: PrivateRabbitMQ) -> None:
    # Given a user who may only read, without which RabbitMQ 4.3 shows nothing, and a queue that is there
    vhost = rabbitmq.add_vhost()
    user = f"reader-in-{vhost}"
    rabbitmq.add_user(user, "reader-password")
    rabbitmq.set_permissions(user, vhost, configure="^$", write="^$", read=".*")
    async with await aio_pika.connect(rabbitmq.url(vhost)) as connection:
        await (await connection.channel()).declare_queue("billing", durable=True)
    # When they look
    pipeline = shop(rabbitmq.url(vhost, user, "reader-password"))
    looked = await seen(pipeline, comparing=True)
    # Then the rights that are missing are told, and the queue is seen all the same
    assert looked.publishing == "forbidden"
    assert isinstance(looked.queues["billing"], Depth)
    assert looked.differences is not None
    (forbidden,) = looked.differences
    assert forbidden.forbidden and 'queue "billing" may not be declared, a right is missing' in forbidden.sentence
