"""A daemon thread that makes calls one after another, for what may block: the file of keys. Every so often it also
makes one of its own, whether or not the event loop turns. What the calls do is not known here."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from pipeline.clock import Clock

T = TypeVar("T")


class Desk:
    """Begins with its first call. Python does not wait for a daemon thread, so a call that never returns keeps no
    process alive."""

    def __init__(self, name: str, *, clock: Clock, every: float, meanwhile: Callable[[], None]) -> None:
        """`meanwhile` is called in the thread, `every` so many seconds. It raises nothing."""
        self._clock = clock
        self._every = every
        self._meanwhile = meanwhile
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._began = False

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises. When the waiter is cancelled, the call is made all the same."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()
        self.tell(partial(_answer, call, loop, ended))
        return await ended

    def tell(self, call: Callable[[], object]) -> None:
        """Without waiting; the call must raise nothing."""
        self._calls.put(call)
        if not self._began:
            self._began = True
            self._thread.start()

    def end(self) -> None:
        """The thread ends when the calls that it has been told are made."""
        self._calls.put(None)

    def _work(self) -> None:
        due = self._clock.now() + self._every
        while True:
            try:
                call = self._calls.get(timeout=max(0.0, due - self._clock.now()))
                if call is None:
                    return
                call()
                del call  # an idle thread holds nothing of a message
            except Empty:
                pass
            if self._clock.now() >= due:
                self._meanwhile()
                due = self._clock.now() + self._every


def _answer(call: Callable[[], Any], loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[Any]") -> None:
    value: Any = None
    error: BaseException | None = None
    try:
        value = call()
    except BaseException as caught:
        error = caught
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_tell, ended, value, error)


def _tell(ended: "asyncio.Future[Any]", value: object, error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(value)
    else:
        ended.set_exception(error)
