"""How long a delivery may stay without an answer. RabbitMQ 3.10 looks at each channel once a minute (`Patience`), from
4.3 on the queue watches what it has handed out (`Watch`). What is done then is for those who asked."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from pipeline.embedded.ground.timeline import Timeline, Timer

CONSUMER_TIMEOUT = 1800.0  # seconds, RabbitMQ's default
LOOK_SECONDS = 60.0  # between two looks at the channels
GRAINS = 60  # deliveries are told apart by this part of the time they have; it saves a note for each of them
_ROUNDING = 1e-6


class Waiting(Protocol):
    """A channel, seen from here."""

    last_tag: int

    @property
    def unacked(self) -> Mapping[int, object]:
        """By delivery tag, in the order of delivery."""

    def too_long(self) -> None:
        """Its oldest delivery has been out for too long."""


class Patience:
    """For all channels of a node. Each look notes the newest delivery; whether one of a former look is still out is
    seen by its tag, so that a delivery costs nothing."""

    def __init__(self, timeline: Timeline, seconds: float) -> None:
        self._timeline = timeline
        self._seconds = seconds
        self._looks: dict[Waiting, deque[tuple[float, int]]] = {}  # when, and the newest tag at that time
        self._timer: Timer | None = None

    def watch(self, channel: Waiting) -> None:
        self._looks[channel] = deque()
        if self._timer is None:
            self._timer = self._timeline.after(min(LOOK_SECONDS, self._seconds), self._look)

    def leave(self, channel: Waiting) -> None:
        self._looks.pop(channel, None)
        if not self._looks and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._timeline.after(min(LOOK_SECONDS, self._seconds), self._look)
        for channel, looks in list(self._looks.items()):
            oldest = next(iter(channel.unacked), None)
            while looks and (oldest is None or looks[0][1] < oldest):
                looks.popleft()
            if looks and looks[0][0] + self._seconds <= self._timeline.now + _ROUNDING:
                channel.too_long()
            elif oldest is not None:
                looks.append((self._timeline.now, channel.last_tag))


class Watch:
    """For the deliveries of one consumer, or those by basic.get from one queue. `overdue` is called with the first tag
    that is not overdue, or None if all before now are. `watches` are those that wait for a time, to be ended."""

    def __init__(
        self, timeline: Timeline, seconds: float, overdue: Callable[[int | None], None], watches: "set[Watch]"
    ) -> None:
        self._timeline = timeline
        self._seconds = seconds
        self._overdue = overdue
        self._watches = watches
        self._marks: deque[tuple[float, int]] = deque()  # when, and the first tag of that grain
        self._next = 0.0
        self._timer: Timer | None = None

    def handed_out(self, tag: int) -> None:
        now = self._timeline.now
        if now >= self._next or not self._marks:
            self._next = now + self._seconds / GRAINS
            self._marks.append((now, tag))
            if self._timer is None:
                self._watches.add(self)
                self._wait()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        left = self._marks[0][0] + self._seconds - self._timeline.now
        self._timer = self._timeline.after(max(left, 0.0), self._ring)

    def _ring(self) -> None:
        while self._marks and self._marks[0][0] + self._seconds <= self._timeline.now + _ROUNDING:
            self._marks.popleft()
        if self._marks:
            self._wait()
        else:
            self._timer = None
            self._watches.discard(self)
        self._overdue(self._marks[0][1] if self._marks else None)
