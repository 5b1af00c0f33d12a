"""Looking at queues: how deep, who consumes, and nothing is changed by it."""

from aio_pika.abc import AbstractIncomingMessage

from pipeline.amqp.inspect import Depth, depth
from tests.amqp.parts import generation_of
from tests.brokers import BrokerUnderTest


async def keep(message: AbstractIncomingMessage) -> None:
    """In hand, and never settled."""


async def test_a_look_tells_ready_messages_and_consumers(broker: BrokerUnderTest) -> None:
    await broker.declare("q")
    await broker.declare("busy")
    for name in ("q", "q", "busy"):
        await broker.publish(name, b"x")
    async with broker.channel() as channel, generation_of(broker.url) as generation:
        consumed = await channel.get_queue("busy")
        await consumed.consume(keep)

        depths = await depth(generation, ["q", "missing", "busy", "ключ", "also missing"])

        # What a consumer has in hand is not ready
        assert depths == {
            "q": Depth(ready=2, consumers=0),
            "missing": None,
            "busy": Depth(ready=0, consumers=1),
            "ключ": None,
            "also missing": None,
        }
        assert set(broker.queue_depths()) == {"q", "busy"}


async def test_a_queue_of_another_connection_is_not_seen(broker: BrokerUnderTest) -> None:
    async with broker.channel() as channel, generation_of(broker.url) as generation:
        await channel.declare_queue("mine", exclusive=True)

        assert await depth(generation, ["mine"]) == {"mine": None}
