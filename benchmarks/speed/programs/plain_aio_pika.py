"""aio-pika used as its documentation teaches: `connect_robust`, `queue.consume` with `message.process()`, and
`exchange.publish` awaited by as many coroutines as publishes may be in flight. On uvloop with the argument `uvloop`."""

import asyncio
import importlib
import sys

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from benchmarks.speed.stopwatch import Stopwatch
from benchmarks.speed.task import IN, OUT, Task


async def main() -> None:
    task = Task.from_environment()
    connection = await aio_pika.connect_robust(task.url)
    async with connection:
        channel = await connection.channel()
        watch = Stopwatch(task)
        if task.kind == "publish":
            await publish(channel, task, watch)
        else:
            await consume(channel, task, watch)


async def consume(channel: AbstractChannel, task: Task, watch: Stopwatch) -> None:
    over = asyncio.Event()

    async def forget(message: AbstractIncomingMessage) -> None:
        if watch.tick_with(message.body):
            over.set()

    async def handle(message: AbstractIncomingMessage) -> None:
        async with message.process():
            last = watch.tick_with(message.body)
        if last:
            over.set()

    async def forward(message: AbstractIncomingMessage) -> None:
        async with message.process():
            await channel.default_exchange.publish(made(message.body, task), routing_key=OUT)
        if watch.tick():
            over.set()

    if task.prefetch:
        await channel.set_qos(prefetch_count=task.prefetch)
    queue = await channel.get_queue(IN)
    callback = forward if task.kind == "pipe" else handle if task.prefetch else forget
    await queue.consume(callback, no_ack=not task.prefetch)
    await over.wait()


async def publish(channel: AbstractChannel, task: Task, watch: Stopwatch) -> None:
    body = b"x" * task.body
    left = iter(range(task.messages))

    async def one_after_the_other() -> None:
        for _ in left:
            await channel.default_exchange.publish(made(body, task), routing_key=OUT)
            watch.tick()

    await asyncio.gather(*(one_after_the_other() for _ in range(task.in_flight)))


def made(body: bytes, task: Task) -> aio_pika.Message:
    mode = aio_pika.DeliveryMode.PERSISTENT if task.persistent else aio_pika.DeliveryMode.NOT_PERSISTENT
    return aio_pika.Message(body, delivery_mode=mode)


if __name__ == "__main__":
    factory = importlib.import_module("uvloop").new_event_loop if "uvloop" in sys.argv else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
