"""Threads for plain functions. They are daemons: a thread cannot be stopped, and a process must be able to leave
without it, for which the standard library's pool would wait. What runs in them is not known here."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Any, TypeVar, cast

T = TypeVar("T")


class NotStarted(asyncio.CancelledError):
    """Raised instead of a plain cancellation when the handler had not been given its message yet."""


class Threads:
    """At most `size` threads, made when needed, used from one event loop. One that hangs keeps its place: a function
    that never ends costs `size` threads, and not one for each message."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self.left_behind = 0  # threads in which something still runs for which nobody waits any more
        self._missed: deque[asyncio.Future[None]] = deque()

    async def run(self, call: Callable[[], T]) -> T:
        """Run it in a thread, with the caller's context variables. Cancelling gives up waiting and leaves the thread
        to itself. Raises what the call raises, and `NotStarted` when cancelled before a thread was free."""
        worker = self._idle.pop() if self._idle else await self._free()
        try:  # as in `one`, without its context manager, which costs as much as the handing over
            return cast(T, _result(await worker.start(call)))
        finally:
            self._take_back(worker)

    @asynccontextmanager
    async def one(self) -> AsyncIterator["Worker"]:
        """One thread for several calls. Others get it after the last call has ended, even one given up on."""
        worker = await self._free()
        try:
            yield worker
        finally:
            self._take_back(worker)

    def busy(self) -> list[str]:
        """The names of the threads in which something runs."""
        return [worker.name for worker in self._workers if worker.running]

    def missed(self) -> "asyncio.Future[None]":
        """Done when one that was left behind has ended. Each end is told to one who asked, in the order of asking."""
        missed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missed.append(missed)
        return missed

    def close(self) -> None:
        """Let the threads end. One in which something runs ends after that, or with the process."""
        for worker in self._workers:
            worker.end()

    async def _free(self) -> "Worker":
        if self._idle:
            return self._idle.pop()
        if len(self._workers) < self._size:
            worker = Worker(f"{self._name}-{len(self._workers) + 1}")
            self._workers.append(worker)
            return worker
        turn: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn  # comes when a thread ends its work; the caller's time limit bounds it
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._hand_on(turn.result())
            raise NotStarted from None

    def _take_back(self, worker: "Worker") -> None:
        if worker.running:
            self.left_behind += 1
            worker.when_idle(self._returned)
        else:
            self._hand_on(worker)

    def _returned(self, worker: "Worker") -> None:
        self.left_behind -= 1
        self._hand_on(worker)
        while self._missed:
            missed = self._missed.popleft()
            if not missed.done():
                missed.set_result(None)
                return

    def _hand_on(self, worker: "Worker") -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)


class Worker:
    """One thread, and how many calls it still has to end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running = 0
        self._when_idle: Callable[[Worker], None] | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], T]) -> T:
        return cast(T, _result(await self.start(call)))

    def start(self, call: Callable[[], object]) -> "_Ended":
        """Begin it without waiting."""
        loop = asyncio.get_running_loop()
        ended: _Ended = loop.create_future()
        self.running += 1
        self._jobs.put((contextvars.copy_context(), call, loop, ended))
        return ended

    def when_idle(self, tell: Callable[["Worker"], None]) -> None:
        """Tell, once, when nothing runs here any more: now, or on the loop after the last call."""
        if self.running:
            self._when_idle = tell
        else:
            tell(self)

    def end(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            context, call, loop, ended = job
            value: Any = None
            error: BaseException | None = None
            try:
                value = context.run(call)
            except BaseException as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(self._done, ended, value, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            del job, context, call, ended, value, error  # an idle thread holds nothing of a message

    def _done(self, ended: "_Ended", value: object, error: BaseException | None) -> None:
        self.running -= 1
        if not ended.done():
            ended.set_result((value, error))  # a pair, for a future refuses to hold StopIteration as an exception
        if not self.running and self._when_idle is not None:
            tell, self._when_idle = self._when_idle, None
            tell(self)


def _result(ended: tuple[Any, BaseException | None]) -> Any:
    """What a call has returned, or raises what it has raised."""
    value, error = ended
    try:
        if error is not None:
            raise error
    finally:
        del ended, error  # its traceback leads here: together they would hold the message until the collector comes
    return value


_Ended = asyncio.Future[tuple[Any, BaseException | None]]
_Job = tuple[contextvars.Context, Callable[[], object], asyncio.AbstractEventLoop, _Ended]
