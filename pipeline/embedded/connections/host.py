"""The broker's own thread and event loop, so that a handler that blocks does not stop it. Knows how to start, to
end, and to run something over there from any thread. What is served is not known here."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

START_SECONDS = 10  # for a thread, a loop and a port
CALL_SECONDS = 30  # for anything that is run over there


class Host:
    """One thread with one loop, from `start` to `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
        self._thread.start()
        if not ready.wait(START_SECONDS):
            raise TimeoutError(f"the thread {self._name} did not start within {START_SECONDS} s")

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(ready.set)
            self._loop.run_forever()

    def wait_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine over there and return what it returns. Raises what it raises."""

        async def run() -> T:
            return await work()

        assert self._loop is not None  # only between start and stop
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_SECONDS)

    def call(self, act: Callable[[], T]) -> T:
        """The same for a plain function."""

        async def run() -> T:
            return act()

        return self.wait_for(run)

    def stop(self) -> None:
        """Safe to call twice."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop = None
        self._thread = None
