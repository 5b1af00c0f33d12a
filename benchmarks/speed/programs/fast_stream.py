"""FastStream used as its documentation teaches: a broker, a subscriber with the default policy of acknowledgement, a
publisher by decorator. Without its two log lines for each message, as one would run it where speed counts."""

import asyncio

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from benchmarks.speed.stopwatch import Stopwatch
from benchmarks.speed.task import IN, OUT, Task

task = Task.from_environment()
watch = Stopwatch(task)
broker = RabbitBroker(task.url, logger=None)
app = FastStream(broker, logger=None)


def subscriber():
    return broker.subscriber(
        RabbitQueue(IN, declare=False),
        channel=Channel(prefetch_count=task.prefetch or None),
        ack_policy=AckPolicy.REJECT_ON_ERROR if task.prefetch else AckPolicy.ACK_FIRST,
    )


if task.kind == "consume":

    @subscriber()
    async def handle(body: bytes) -> None:
        if watch.tick_with(body):
            app.exit()


if task.kind == "pipe":

    @subscriber()
    @broker.publisher(RabbitQueue(OUT, declare=False), persist=task.persistent)
    async def forward(body: bytes) -> bytes:
        if watch.tick():
            app.exit()
        return body


if task.kind == "publish":
    publisher = broker.publisher(RabbitQueue(OUT, declare=False), persist=task.persistent)

    @app.after_startup
    async def publish() -> None:
        body = b"x" * task.body
        left = iter(range(task.messages))

        async def one_after_the_other() -> None:
            for _ in left:
                await publisher.publish(body)
                watch.tick()

        await asyncio.gather(*(one_after_the_other() for _ in range(task.in_flight)))
        app.exit()


if __name__ == "__main__":
    asyncio.run(app.run())
