"""A thread beside the event loop: it looks whether the loop turns, and when it does not, says where it stands and
whose code that is. It costs some looks a second, and nothing per message. What becomes of the line meanwhile is not
known here."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType, TracebackType

from pipeline.clock import Clock, processor_seconds
from pipeline.events import Event, LoopBlocked, LoopTurnsAgain
from pipeline.values import Frozen

LOOK_EVERY = 0.25  # seconds
FIRST_TOLD = 1.0  # seconds without a turn; with the looks in between it is told within two
_LATER = 10.0  # each time so many times later: after 1, 10, 100 seconds
# A look that comes later than this was held up as the loop was. The process was stopped (SIGSTOP, a suspended machine,
# a debugger from outside) or had no processor; or it runs code that keeps Python's lock, and only then it works.
_LONGEST_LOOK = 2 * LOOK_EVERY

_OUTERMOST, _INNERMOST = 3, 5  # frames: how the handler got there, and where it is
_OURS = __file__.rsplit("runtime", 1)[0]
_ASYNCIO = asyncio.__file__.rpartition("__init__")[0]
_DEBUGGERS = ("bdb", "pdb", "pydevd", "debugpy")


class Stands(Frozen, frozen=True):
    """It has not turned for so many seconds, which is to be told now."""

    seconds: float


class Turns(Frozen, frozen=True):
    """It turns again, after so many seconds, and that it stood was told."""

    seconds: float


class Looks:
    """What a row of looks at a loop comes to. Pure."""

    def __init__(self) -> None:
        self._standing = 0.0
        self._tell_at = FIRST_TOLD

    def look(self, *, turned: bool, passed: float, worked: float) -> Stands | Turns | None:
        """Whether it has turned since the last look, how many seconds have passed since, and for how many of them this
        process had a processor."""
        kept = min(passed, worked) if passed > _LONGEST_LOOK else 0.0
        if turned and kept < FIRST_TOLD:  # else it has turned before somebody kept the lock
            return self._turned()
        self._standing += max(kept, min(passed, _LONGEST_LOOK))
        if self._standing < self._tell_at:
            return None
        while self._tell_at <= self._standing:
            self._tell_at *= _LATER
        return Stands(self._standing)

    def forgive(self) -> None:
        """Begin anew: it stands because somebody wants it to."""
        self._standing, self._tell_at = 0.0, FIRST_TOLD

    def _turned(self) -> Turns | None:
        stood, told = self._standing, self._tell_at > FIRST_TOLD
        self.forgive()
        return Turns(stood) if told else None


class LoopWatchdog:
    """`with LoopWatchdog(...)`, on the loop that is to be watched. `emit` is called from another thread."""

    def __init__(self, *, clock: Clock, emit: Callable[[Event], None]) -> None:
        self._clock = clock
        self._emit = emit
        self._looks = Looks()
        self._turned = threading.Event()
        self._over = threading.Event()
        self._subject = ""  # of what was told last
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "LoopWatchdog":
        self._loop = asyncio.get_running_loop()
        self._looped = threading.get_ident()
        self._turned.set()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        moment, worked = self._clock.now(), processor_seconds()
        while not self._over.wait(LOOK_EVERY):
            before, moment = moment, self._clock.now()
            worked_before, worked = worked, processor_seconds()
            turned = self._turned.is_set()
            found = self._looks.look(turned=turned, passed=moment - before, worked=worked - worked_before)
            if found is not None:
                self._tell(found)
            if turned:
                self._turned.clear()
                with suppress(RuntimeError):  # the loop has just ended
                    self._loop.call_soon_threadsafe(self._turned.set)

    def _tell(self, found: Stands | Turns) -> None:
        if isinstance(found, Turns):
            self._emit(LoopTurnsAgain(subject=self._subject, seconds=found.seconds))
            return
        frames = list(_frames(sys._current_frames().get(self._looped)))
        if any(_debugs(frame) for frame in frames):
            self._looks.forgive()
            return
        self._subject = _whose(self._loop)
        self._emit(LoopBlocked(subject=self._subject, seconds=found.seconds, frames=_places(frames)))


def _whose(loop: asyncio.AbstractEventLoop) -> str:
    """Tasks that run code of the user's are named like the part of the file to which that belongs."""
    task = asyncio.current_task(loop)
    name = "" if task is None else task.get_name()
    return name if name.startswith(("consumer.", "producer.")) else "pipeline"


def _frames(innermost: FrameType | None) -> Iterator[FrameType]:
    """From the inside out."""
    while innermost is not None:
        yield innermost
        innermost = innermost.f_back


def _debugs(frame: FrameType) -> bool:
    """Whether somebody sits in front of a debugger, which holds the loop for as long as they think."""
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return module in _DEBUGGERS or module.startswith(("_pydevd", "pydevd"))


def _places(frames: list[FrameType]) -> tuple[str, ...]:
    """Where the loop stands, the innermost last: what it has called, without its own frames and ours."""
    inside = frames[::-1]
    loops = [number for number, frame in enumerate(inside) if frame.f_code.co_filename.startswith(_ASYNCIO)]
    called = inside[loops[0] :] if loops else inside
    theirs = [frame for frame in called if not frame.f_code.co_filename.startswith((_ASYNCIO, _OURS))]
    shown = [f"{each.f_code.co_filename}:{each.f_lineno} in {each.f_code.co_name}" for each in theirs or called]
    between = len(shown) - _OUTERMOST - _INNERMOST
    if between > 1:
        shown[_OUTERMOST:-_INNERMOST] = [f"... {between} more between"]
    return tuple(shown)
