"""A daemon thread that makes one call at a time, for what may block without end: reading standard input, a user's
generator. Python does not wait for a daemon thread, so a call that never returns cannot keep the process alive."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """Calls are made in the order in which they were asked for. The thread begins with the first."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._last: Future[Any] | None = None

    async def run(self, step: Callable[[], T]) -> T:
        """Make this call and return what it returns; it must not raise `StopIteration`, which a future cannot carry.
        When the waiter is cancelled, a call that has begun goes on, and what it returns is thrown away."""
        future: Future[T] = Future()
        self._last = future
        self._calls.put(partial(_make, future, step))
        if not self._thread.is_alive():
            self._thread.start()
        return await asyncio.wrap_future(future)

    @property
    def busy(self) -> bool:
        """Whether the last call has not come back yet."""
        return self._last is not None and not self._last.done()

    def end(self) -> None:
        """The thread ends when the calls asked for so far are made."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _make(future: Future[T], step: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(step())
    except BaseException as error:
        future.set_exception(error)
