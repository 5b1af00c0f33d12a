"""A bounded list of what has happened in the broker, to look at and to wait on from any thread and any event loop. What
the records are, `journal` says."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, fields

from pipeline.clock import SystemClock
from pipeline.embedded.ground.journal import KINDS, Event, Kind

MOST_EVENTS = 10_000
SHOWN = 20  # events in the error of a wait that was in vain

_FIELDS = frozenset(field.name for field in fields(Event)) - {"kind"}


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Events of a kind, whose fields have these values."""

    kind: Kind
    values: dict[str, object]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no event is called {self.kind!r}; there are: {', '.join(KINDS)}")
        for name in self.values.keys() - _FIELDS:
            raise ValueError(f"an event has no {name!r}; it has: {', '.join(sorted(_FIELDS))}")

    def __str__(self) -> str:
        values = "".join(f", {name}={value!r}" for name, value in self.values.items())
        return f"{self.kind!r}{values}"

    def fits(self, event: Event) -> bool:
        return event.kind == self.kind and all(getattr(event, name) == value for name, value in self.values.items())


@dataclass(kw_only=True, eq=False)
class _Waiter:
    """Somebody who waits for as many more of what is wanted as are `left`."""

    wanted: _Wanted
    left: int
    future: Future[Event]

    def take(self, event: Event) -> bool:
        """Whether that was the last one. Nobody is told who has left in the meantime."""
        if not self.wanted.fits(event):
            return False
        self.left -= 1
        if self.left == 0 and self.future.set_running_or_notify_cancel():
            self.future.set_result(event)
        return self.left == 0


class EventLog:
    """The newest `most` events, oldest first. What is wanted is a kind, and values that fields of the record must have:
    `log.wait_for("acknowledged", queue="orders", count=3)`. Kinds and fields that do not exist raise ValueError."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=most)
        self._waiting: list[_Waiter] = []

    def add(self, event: Event) -> None:
        """Called on the broker's thread, as things happen."""
        with self._lock:
            self._events.append(event)
            if self._waiting:
                self._waiting = [waiter for waiter in self._waiting if not waiter.take(event)]

    # To look at

    def __iter__(self) -> Iterator[Event]:
        """Those there are at this moment; what happens meanwhile disturbs nobody."""
        with self._lock:
            return iter(list(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def of(self, kind: Kind, **values: object) -> list[Event]:
        """All events of this kind and with these values."""
        wanted = _Wanted(kind=kind, values=values)
        return [event for event in self if wanted.fits(event)]

    # To wait on

    def wait_for(self, kind: Kind, *, count: int = 1, seconds: float = 10, **values: object) -> Event:
        """Block until there are so many such events, those from before the call included; the last of them. Raises
        TimeoutError, with the newest events in its text. Not on an event loop, which it would stop: see `seen`."""
        waiter = self._want(kind, count, values)
        try:
            return waiter.future.result(seconds)
        except TimeoutError:
            raise self._in_vain(waiter, seconds) from None
        finally:
            self._leave(waiter)

    async def seen(self, kind: Kind, *, count: int = 1, seconds: float = 10, **values: object) -> Event:
        """The same for `await`."""
        waiter = self._want(kind, count, values)
        try:
            async with SystemClock().deadline(seconds):
                return await asyncio.wrap_future(waiter.future)
        except TimeoutError:
            raise self._in_vain(waiter, seconds) from None
        finally:
            self._leave(waiter)

    def _want(self, kind: Kind, count: int, values: dict[str, object]) -> _Waiter:
        if count < 1:
            raise ValueError(f"cannot wait for {count} events; 1 or more")
        waiter = _Waiter(wanted=_Wanted(kind=kind, values=values), left=count, future=Future())
        with self._lock:
            if not any(waiter.take(event) for event in self._events):
                self._waiting.append(waiter)
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _in_vain(self, waiter: _Waiter, seconds: float) -> TimeoutError:
        newest = [_told(event) for event in self][-SHOWN:]
        return TimeoutError(
            "\n  ".join(
                [f"{waiter.left} x {waiter.wanted} did not come within {seconds:g} s; the newest events:", *newest]
            )
        )


def _told(event: Event) -> str:
    """Without what is empty."""
    values = ((name, getattr(event, name)) for name in sorted(_FIELDS - {"time"}))
    return event.kind + "".join(f", {name}={value!r}" for name, value in values if value)
