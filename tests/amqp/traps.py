"""What the tests of the client library's traps share. Those tests know nothing of piperun: they show what plain
aio-pika really does, and each names the rule of `pipeline.amqp` that rests on it. When one fails after an upgrade,
the trap may be gone, and its rule with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

from tests.waiting import deadline


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[AbstractConnection]:
    """A plain connection, closed at the end whatever has become of it."""
    connection = await aio_pika.connect(url, **{"timeout": deadline(10), **options})
    try:
        yield connection
    finally:
        async with asyncio.timeout(deadline(10)):
            await connection.close()


async def orders(channel: AbstractChannel, *bodies: bytes) -> AbstractQueue:
    """The queue `orders` with these messages."""
    queue = await channel.declare_queue("orders", durable=True)
    for body in bodies:
        await channel.default_exchange.publish(aio_pika.Message(body), "orders")
    return queue


async def ready_in(queue: AbstractQueue) -> int:
    """How many messages wait for a consumer, asked on the queue's own channel."""
    declared = await queue.channel.declare_queue(queue.name, passive=True)
    return declared.declaration_result.message_count or 0


class Handler:
    """A consume callback that starts, waits for ever, and remembers how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.message: AbstractIncomingMessage | None = None

    async def __call__(self, message: AbstractIncomingMessage) -> None:
        self.message = message
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()  # ends with cancellation only
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def soon(event: asyncio.Event) -> None:
    """Wait for something that must come."""
    async with asyncio.timeout(deadline(10)):
        await event.wait()


class BadText(str):
    """Text that travels as Latin-1, as careless publishers send it."""

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1", errors)
