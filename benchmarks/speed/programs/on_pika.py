"""pika's `AsyncioConnection`, with callbacks, as in pika's examples of an asynchronous consumer and publisher. What
waits for a confirm is kept in a dict by its number."""

import asyncio
from collections.abc import Callable

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from benchmarks.speed.stopwatch import Stopwatch
from benchmarks.speed.task import IN, OUT, Task


class Program:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._watch = Stopwatch(task)
        self._over = asyncio.Event()
        self._body = b"x" * task.body
        self._properties = pika.BasicProperties(delivery_mode=2 if task.persistent else 1)
        self._sent = 0
        self._waiting: dict[int, Callable[[], None]] = {}  # number of a publish to what its confirm calls

    async def run(self) -> None:
        failed = asyncio.get_running_loop().create_future()
        connection = AsyncioConnection(
            pika.URLParameters(self._task.url),
            on_open_callback=lambda opened: opened.channel(on_open_callback=self._begin),
            on_open_error_callback=lambda _, error: failed.set_exception(error),
        )
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({over, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        closed = asyncio.Event()
        connection.add_on_close_callback(lambda *_: closed.set())
        connection.close()
        await closed.wait()

    def _begin(self, channel) -> None:
        self._channel = channel
        if self._task.kind == "consume":
            self._consume()
        else:
            channel.confirm_delivery(self._on_confirm, callback=lambda _: self._confirms_are_on())

    def _confirms_are_on(self) -> None:
        if self._task.kind == "pipe":
            self._consume()
        else:
            for _ in range(min(self._task.in_flight, self._task.messages)):
                self._publish_next()

    def _consume(self) -> None:
        callback = self._forward if self._task.kind == "pipe" else self._handle
        if self._task.prefetch:
            self._channel.basic_qos(prefetch_count=self._task.prefetch)
        self._channel.basic_consume(IN, callback, auto_ack=not self._task.prefetch)

    def _handle(self, channel, method, properties, body: bytes) -> None:
        last = self._watch.tick_with(body)
        if self._task.prefetch:
            channel.basic_ack(method.delivery_tag)
        if last:
            self._over.set()

    def _forward(self, channel, method, properties, body: bytes) -> None:
        def confirmed() -> None:
            channel.basic_ack(method.delivery_tag)
            if self._watch.tick():
                self._over.set()

        self._publish(body, confirmed)

    def _publish_next(self) -> None:
        self._publish(self._body, self._published)

    def _published(self) -> None:
        if self._watch.tick():
            self._over.set()
        elif self._sent < self._task.messages:
            self._publish_next()

    def _publish(self, body: bytes, confirmed: Callable[[], None]) -> None:
        self._sent += 1
        self._waiting[self._sent] = confirmed
        self._channel.basic_publish("", OUT, body, self._properties, mandatory=True)

    def _on_confirm(self, frame) -> None:
        tag = frame.method.delivery_tag
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            raise RuntimeError(f"publish {tag} was refused")
        if not frame.method.multiple:
            self._waiting.pop(tag)()
            return
        for number in [each for each in self._waiting if each <= tag]:
            self._waiting.pop(number)()


async def main() -> None:
    await Program(Task.from_environment()).run()


if __name__ == "__main__":
    asyncio.run(main())
