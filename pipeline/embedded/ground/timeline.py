"""What time it is for what happens now, and what is due later: TTL, expiry, timeouts. Pure: somebody outside hands
the time in, before each step. What is done when its time has come is for those who asked."""

import heapq
from collections.abc import Callable
from itertools import count

MOST_AT_ONCE = 10_000  # acts in one step; the rest follow in the next
FEW = 64  # cancelled timers that may lie about


class Timer:
    """Something that will be done. `cancel` is safe at any time, after it was done, too."""

    __slots__ = ("_act", "_cancelled", "at")

    def __init__(self, at: float, act: Callable[[], None], cancelled: Callable[[], None]) -> None:
        self.at = at
        self._act: Callable[[], None] | None = act
        self._cancelled = cancelled

    @property
    def pending(self) -> bool:
        return self._act is not None

    def cancel(self) -> None:
        if self._act is not None:
            self._act = None
            self._cancelled()

    def ring(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()


class Timeline:
    """`now` is in seconds on a clock that never goes back; `time` is the same moment in seconds since 1970."""

    def __init__(self) -> None:
        self.now = 0.0
        self.time = 0.0
        self.changed: Callable[[], None] = lambda: None  # called when something is due earlier than before
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0  # of the timers, at most
        self._numbers = count()  # what is due at the same time is done in the order it was asked for

    def after(self, seconds: float, act: Callable[[], None]) -> Timer:
        """Do this so much later than now."""
        timer = Timer(self.now + seconds, act, self._count_cancelled)
        earliest = not self._timers or timer.at < self._timers[0][0]
        heapq.heappush(self._timers, (timer.at, next(self._numbers), timer))
        if earliest:
            self.changed()
        return timer

    def _count_cancelled(self) -> None:
        """Once they are the larger part they are thrown out: far-off ones would lie here for days."""
        self._cancelled += 1
        if self._cancelled > max(FEW, len(self._timers) / 2):
            self._timers = [each for each in self._timers if each[2].pending]
            heapq.heapify(self._timers)
            self._cancelled = 0

    @property
    def next_due(self) -> float | None:
        """When there is something to be done next, on the clock of `now`."""
        while self._timers and not self._timers[0][2].pending:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, now: float, time: float) -> None:
        """Time has come this far. All that was due on the way is done in order, each act at the time it was due: a
        chain of delays that is moved over in one leap ends where it would have ended step by step."""
        for _ in range(MOST_AT_ONCE):
            due = self.next_due
            if due is None or due > now:
                break
            self.now = max(self.now, due)
            self.time = time - (now - self.now)
            heapq.heappop(self._timers)[2].ring()
        else:
            return  # not there yet; the next step goes on
        self.now = now
        self.time = time
