"""Whether this process is to stop, why, and until when: signals in, one event and one deadline out. A second signal
forces. What stopping means for each part stands in `run.py`, in order."""

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, NoReturn

from pipeline.clock import Clock

FORCED = 130
# A worker stops by its own deadline; so many seconds later it is killed.
GRACE = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The last part of `shutdown_timeout` belongs to giving back and closing.
_CLOSING_SHARE = 0.1
_CLOSING_MOST = 2.0


class Stop:
    """Asked for once; the time allowed runs from that moment, whatever the process was doing then."""

    def __init__(self, *, clock: Clock, shutdown_timeout: float) -> None:
        self._clock = clock
        self._deadline = 0.0
        self.shutdown_timeout = shutdown_timeout
        self.event = asyncio.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        """Stop gracefully. Safe to call again: the first reason and deadline stay."""
        if not self.event.is_set():
            self.reason = reason
            self._deadline = self._clock.now() + self.shutdown_timeout
            self.event.set()

    @property
    def requested(self) -> bool:
        return self.event.is_set()

    async def unless_requested(self, step: Coroutine[Any, Any, None]) -> bool:
        """Whether the step came to its end before a stop was requested; else it is cancelled."""
        doing = asyncio.ensure_future(step)
        told = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            if not doing.done():
                doing.cancel()
        await asyncio.wait({doing})
        if doing.cancelled():
            return False
        doing.result()
        return True

    @property
    def remaining(self) -> float:
        """Seconds until everything must be over; 0 when time is up."""
        return max(0.0, self._deadline - self._clock.now())

    @property
    def remaining_for_work(self) -> float:
        """Seconds for handlers and confirms: a little less, since giving back and closing take time, too."""
        return max(0.0, self.remaining - min(_CLOSING_MOST, self.shutdown_timeout * _CLOSING_SHARE))


@contextlib.contextmanager
def on_signals(stop: Stop, *, forced: Callable[[], None] | None = None) -> Iterator[None]:
    """TERM, INT and HUP ask to stop, the second one forces. They are heard from here on, while connecting too.
    `forced` runs before the process leaves; it must not wait.

    asyncio runs the handler between two steps of the loop; a loop that a handler blocks hears nothing, so the second
    signal must not depend on it: a plain handler leaves at once. One and the same hears both, since the second may come
    while the first is still being heard."""
    loop = asyncio.get_running_loop()
    # What was ignored at the start stays ignored: nohup says so for HUP, a shell for INT behind `&`.
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    asked = False

    def heard(number: int) -> None:
        nonlocal asked
        if asked:
            leave()
        asked = True
        name = signal.Signals(number).name
        loop.call_soon_threadsafe(stop.request, f"{name} received")

    def leave() -> NoReturn:
        if forced is not None:
            forced()
        last_words(b"forced by a second signal: unsettled messages will be delivered again\n")
        os._exit(FORCED)

    for number in before:
        hear(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hear(number: int, handler: Callable[[int], None]) -> None:
    """Run `handler` on this signal, in this process only: a child that a user's code forks has the same handlers, and
    there the signal does what it does by default. So `multiprocessing` can end its children."""
    ours = os.getpid()

    def heard(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == ours:
            handler(number)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(number, heard)


def last_words(words: bytes) -> None:
    """Nothing may wait here: no lock, no flush of a stream that somebody else may hold, no pipe that is full."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # standard error may be closed
        stream = sys.stderr.fileno()
        if select.select([], [stream], [], 0)[1]:
            os.write(stream, words)
