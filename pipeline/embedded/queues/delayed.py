"""Delayed retry of quorum queues (`x-delayed-retry-type`, RabbitMQ 4.3): what came back waits before it is ready
again, longer with each failure. What is counted as a failure, and where it stands then, the queue decides."""

import heapq
from collections.abc import Callable

from pipeline.embedded.ground.timeline import Timeline, Timer
from pipeline.embedded.queues.entry import Entry
from pipeline.embedded.wire.tables import Table


class Delayed:
    """Those that wait, by the time when they are ready. `ring` is called then."""

    def __init__(self, kind: str, least: int, most: int, *, timeline: Timeline, ring: Callable[[], None]) -> None:
        self._kind = kind
        self._least = least  # milliseconds, as all here
        self._most = most
        self._timeline = timeline
        self._ring = ring
        self._waiting: list[tuple[float, int, Entry]] = []
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def concerns(self, *, failed: bool) -> bool:
        return self._kind == "all" or self._kind == ("failed" if failed else "returned")

    def add(self, entry: Entry) -> None:
        milliseconds = min(self._least * max(1, entry.failed), self._most)
        heapq.heappush(self._waiting, (self._timeline.now + milliseconds / 1000, entry.place, entry))
        self._watch()

    def take_ready(self) -> list[Entry]:
        ready: list[Entry] = []
        while self._waiting and self._waiting[0][0] <= self._timeline.now:
            ready.append(heapq.heappop(self._waiting)[2])
        self._watch()
        return ready

    def take_all(self) -> list[Entry]:
        waiting, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
        return [entry for _, _, entry in waiting]

    def _watch(self) -> None:
        if not self._waiting:
            return
        at = self._waiting[0][0]
        if self._timer is not None and self._timer.pending:
            if self._timer.at <= at:
                return
            self._timer.cancel()
        self._timer = self._timeline.after(at - self._timeline.now, self._ring)


def delayed_of(arguments: Table, timeline: Timeline, ring: Callable[[], None]) -> Delayed | None:
    """Of a queue with these arguments; None where nothing is delayed."""
    kind, least = arguments.get("x-delayed-retry-type"), arguments.get("x-delayed-retry-min")
    if kind not in ("all", "failed", "returned") or not isinstance(least, int):
        return None
    most = arguments.get("x-delayed-retry-max")
    return Delayed(str(kind), least, most if isinstance(most, int) else least, timeline=timeline, ring=ring)
