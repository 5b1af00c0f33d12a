"""One face for the two brokers that tests run against, the embedded one and RabbitMQ: its URL, the faults it can
make, and short cuts to put messages in and take them out. Each test has a broker or a virtual host of its own."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal, Self

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from pipeline.embedded import EmbeddedBroker
from tests.declared import Declared
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline

NEEDS_CONTROL = "needs control of the RabbitMQ node"


class BrokerUnderTest(ABC):
    """What a test that runs against both brokers may ask of either."""

    kind: ClassVar[Literal["embedded", "rabbitmq"]]
    url: str

    @abstractmethod
    def queue_depths(self) -> dict[str, int]:
        """Name to number of messages, ready and unacknowledged."""

    @abstractmethod
    def drop_connections(self) -> None:
        """Cut every connection without a word."""

    @abstractmethod
    def close_connections(self) -> None:
        """Close every connection with 320."""

    @abstractmethod
    def block(self) -> None:
        """Raise an alarm: connections that publish are blocked."""

    @abstractmethod
    def unblock(self) -> None:
        """Clear the alarm."""

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel on a connection of its own, which lasts as long as the block."""
        connection = await aio_pika.connect(self.url, timeout=deadline(10))
        async with connection:
            yield await connection.channel(on_return_raises=True)

    async def declare(self, queue: str, **options: Any) -> None:
        """A queue, durable unless the options say otherwise (they are those of aio-pika)."""
        async with self.channel() as channel:
            await channel.declare_queue(queue, **{"durable": True, **options})

    async def publish(self, queue: str, body: bytes, **properties: Any) -> None:
        """One confirmed message through the default exchange. Fails if there is no such queue."""
        async with self.channel() as channel:
            message = aio_pika.Message(body, **properties)
            await channel.default_exchange.publish(message, routing_key=queue, timeout=deadline(10))

    async def get_all(self, queue: str) -> list[AbstractIncomingMessage]:
        """Take out all that is ready in the queue, in order."""
        taken: list[AbstractIncomingMessage] = []
        async with self.channel() as channel:
            source = await channel.get_queue(queue)
            while (message := await source.get(no_ack=True, fail=False, timeout=deadline(10))) is not None:
                taken.append(message)
        return taken


class EmbeddedUnderTest(BrokerUnderTest):
    """An embedded broker, from its start to its stop."""

    kind = "embedded"

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker
        self.url = broker.url

    def queue_depths(self) -> dict[str, int]:
        return self.broker.queue_depths()

    def drop_connections(self) -> None:
        self.broker.drop_connections()

    def close_connections(self) -> None:
        self.broker.close_connections()

    def block(self) -> None:
        self.broker.block("low on memory")

    def unblock(self) -> None:
        self.broker.unblock()


class RabbitMQUnderTest(BrokerUnderTest):
    """A virtual host of the session's node. The alarm is the node's: whoever raised it has it cleared afterwards."""

    kind = "rabbitmq"

    def __init__(self, node: PrivateRabbitMQ, vhost: str) -> None:
        self.node = node
        self.vhost = vhost
        self.url = node.url(vhost)
        self._blocked = False

    def queue_depths(self) -> dict[str, int]:
        return self.node.list_queues(self.vhost)

    def drop_connections(self) -> None:
        self.node.drop_connections(self.vhost)

    def close_connections(self) -> None:
        self.node.close_connections(self.vhost)

    def block(self) -> None:
        self._blocked = True
        self.node.set_alarm()

    def unblock(self) -> None:
        self._blocked = False
        self.node.clear_alarm()

    def close(self) -> None:
        """Take back the alarm and the virtual host."""
        if self._blocked:
            self.unblock()
        self.node.delete_vhost(self.vhost)


class ForeignUnderTest(BrokerUnderTest):
    """A RabbitMQ that runs elsewhere, with one virtual host for all tests: what a test declares there is deleted after
    it. Whatever only the owner of a node can do ends the test as skipped."""

    kind = "rabbitmq"

    def __init__(self, url: str) -> None:
        self._direct = url
        self._declared = Declared()
        self._line = Proxy.before(url, self._declared.feed)

    def __enter__(self) -> Self:
        self._line.__enter__()
        self.url = self._line.url(self._direct)
        return self

    def __exit__(self, *error: object) -> None:
        self._line.__exit__(None, None, None)
        with ThreadPoolExecutor(1) as elsewhere:  # the loop of the tests is not running at this moment
            elsewhere.submit(asyncio.run, self._clean_up()).result(deadline(30))

    def queue_depths(self) -> dict[str, int]:
        pytest.skip(NEEDS_CONTROL)

    def drop_connections(self) -> None:
        self._line.cut()

    def close_connections(self) -> None:
        pytest.skip(NEEDS_CONTROL)

    def block(self) -> None:
        pytest.skip(NEEDS_CONTROL)

    def unblock(self) -> None:
        pytest.skip(NEEDS_CONTROL)

    async def _clean_up(self) -> None:
        async with await aio_pika.connect(self._direct, timeout=deadline(10)) as connection:
            channel = await connection.channel()
            for queue in self._declared.queues:
                await channel.queue_delete(queue, timeout=deadline(10))
            for exchange in self._declared.exchanges:
                await channel.exchange_delete(exchange, timeout=deadline(10))
