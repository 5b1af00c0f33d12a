"""What a handler may ask for as `context`: a logger, publish, whether the pipeline is stopping, and what `lifespan`
made. Who provides these, and how something is published, is not known here."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Awaitable, Coroutine, Generator, Mapping
from typing import Any, Protocol

from pipeline.errors import ConnectionLost, NotConnected
from pipeline.values import Frozen


class Publish(Protocol):
    """Sends a value or a `Message` on behalf of the message in hand; ends when it is confirmed."""

    def __call__(
        self,
        body: object,
        *,
        exchange: str | None,
        routing_key: str | None,
        queue: str | None,
        headers: Mapping[str, object] | None,
    ) -> Coroutine[Any, Any, None]: ...


class Surroundings(Frozen, frozen=True, kw_only=True):
    """What stays the same for all messages of one consumer."""

    consumer: str
    logger: logging.Logger
    stopping: asyncio.Event
    state: object
    loop: asyncio.AbstractEventLoop


class Context:
    """Made for each message, so it only points at what is there already."""

    __slots__ = ("_publish", "around")

    def __init__(self, around: Surroundings, publish: Publish) -> None:
        self.around = around
        self._publish = publish

    @property
    def consumer(self) -> str:
        """The consumer's name in the file."""
        return self.around.consumer

    @property
    def logger(self) -> logging.Logger:
        """A logger with the consumer's name."""
        return self.around.logger

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the pipeline is asked to stop. For `async def`; a plain function reads `is_stopping`."""
        return self.around.stopping

    @property
    def is_stopping(self) -> bool:
        """Whether the pipeline was asked to stop. Safe in any thread."""
        return self.around.stopping.is_set()

    @property
    def state(self) -> Any:
        """What the `lifespan` yielded; None without one."""
        return self.around.state

    def publish(
        self,
        body: object,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        queue: str | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> Awaitable[None]:
        """Publish a value or a `Message`: to a queue, to an exchange, or where the consumer's `publish` says.

        To be awaited in an `async def`; in a plain function, which runs in a thread, the call itself returns after the
        confirm. Raises `PublishError` when the broker did not take it, `NotConnected` or `ConnectionLost` when there is
        nobody to confirm it."""
        if queue is not None and (exchange is not None or routing_key is not None):
            raise ValueError("publish to a queue or to an exchange with a routing key, not to both")
        publishing = self._publish(body, exchange=exchange, routing_key=routing_key, queue=queue, headers=headers)
        if _running_loop() is self.around.loop:
            return publishing
        _wait_in_thread(publishing, self.around.loop)
        return _CONFIRMED


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wait_in_thread(publishing: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    try:
        confirmed = asyncio.run_coroutine_threadsafe(publishing, loop)
    except RuntimeError:
        publishing.close()
        raise NotConnected("the pipeline has ended; nothing was sent") from None
    try:
        confirmed.result()  # ends with the confirm or its deadline, or cancelled when the loop ends
    except concurrent.futures.CancelledError:
        raise ConnectionLost("the pipeline ended before the confirm came: the message may have arrived") from None


class _Confirmed:
    """Lets `await` stand before a publish that has already waited."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_CONFIRMED = _Confirmed()
