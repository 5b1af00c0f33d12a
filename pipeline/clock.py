"""Time, handed in: now, sleep and deadline. The only place that reads the system's time or sleeps.
Everything that waits for a duration from the user's file waits here, so that a test can move it.
Who waits, and why, is not known here."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol


class Clock(Protocol):
    """What the rest of piperun asks of time. Seconds everywhere."""

    def now(self) -> float:
        """Seconds on a clock that never goes backwards. Only differences mean something."""
        ...

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Wait until `now()` has come that far, even if time is moved while the wait begins."""
        ...

    def deadline(self, seconds: float | None) -> AbstractAsyncContextManager[None]:
        """Cancel what runs inside after that long and raise `TimeoutError`; None means no limit."""
        ...

    def alarm(self, moment: float, ring: Callable[[], object]) -> None:
        """Call `ring` on the running loop when `now()` has come that far. It cannot be taken back."""
        ...


def processor_seconds() -> float:
    """How long the processors have worked for this process. It stands still while the process is stopped."""
    return time.process_time()


class SystemClock:
    """The machine's time."""

    now = staticmethod(time.monotonic)  # no function of ours round it: it is asked several times for each message

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def sleep_until(self, moment: float) -> None:
        await asyncio.sleep(moment - time.monotonic())

    @asynccontextmanager
    async def deadline(self, seconds: float | None) -> AsyncIterator[None]:
        async with asyncio.timeout(seconds):
            yield

    def alarm(self, moment: float, ring: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(moment - time.monotonic(), ring)


class FakeClock:
    """Time that stands still until `advance` moves it. One may be shared by several event loops and threads:
    each waiter is woken on the loop it waits on."""

    def __init__(self, now: float = 1_000.0, time: float = 1_700_000_000.0) -> None:
        self._now = now
        self._offset = time - now
        self._lock = threading.Lock()
        self._alarms: list[_Alarm] = []

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._now + self._offset

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self._now + seconds)

    async def sleep_until(self, moment: float) -> None:
        if moment <= self._now:
            await asyncio.sleep(0)
            return
        moved = asyncio.Event()
        alarm = self._set(moment, moved.set)
        try:
            await moved.wait()  # ends with `advance`, or when the waiter is cancelled
        finally:
            self._drop(alarm)

    @asynccontextmanager
    async def deadline(self, seconds: float | None) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as limit:
            if seconds is None:
                yield
                return
            loop = asyncio.get_running_loop()
            if seconds <= 0:
                limit.reschedule(loop.time())  # over before it began, as on the machine's clock
            alarm = self._set(self._now + seconds, lambda: limit.reschedule(loop.time()))
            try:
                yield
            finally:
                self._drop(alarm)

    def alarm(self, moment: float, ring: Callable[[], object]) -> None:
        self._set(moment, ring)

    def advance(self, seconds: float) -> None:
        """Move time on and wake whoever waited for a moment in between. Callable from any thread."""
        with self._lock:
            self._now += seconds
            due = [alarm for alarm in self._alarms if alarm.at <= self._now]
            self._alarms = [alarm for alarm in self._alarms if alarm.at > self._now]
        for alarm in sorted(due, key=lambda alarm: alarm.at):
            alarm.ring()

    @property
    def waiting(self) -> int:
        """How many sleeps and deadlines are set: lets a test wait until somebody waits."""
        return len(self._alarms)

    def _set(self, moment: float, wake: "_Wake") -> "_Alarm":
        alarm = _Alarm(moment, asyncio.get_running_loop(), wake)
        with self._lock:  # another thread may be moving time just now, or have moved it past this moment
            passed = moment <= self._now
            if not passed:
                self._alarms.append(alarm)
        if passed:
            alarm.ring()
        return alarm

    def _drop(self, alarm: "_Alarm") -> None:
        alarm.dropped = True
        with self._lock:
            if alarm in self._alarms:
                self._alarms.remove(alarm)


class _Wake(Protocol):
    def __call__(self) -> object: ...


class _Alarm:
    __slots__ = ("at", "dropped", "loop", "wake")

    def __init__(self, at: float, loop: asyncio.AbstractEventLoop, wake: _Wake) -> None:
        self.at = at
        self.loop = loop
        self.wake = wake
        self.dropped = False

    def ring(self) -> None:
        with suppress(RuntimeError):  # the loop is closed; by another thread, it may be at this very moment
            self.loop.call_soon_threadsafe(self._fire)

    def _fire(self) -> None:
        if not self.dropped:  # the waiter may have left between the ring and this turn of its loop
            self.wake()
