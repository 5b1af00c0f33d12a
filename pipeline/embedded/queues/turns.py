"""Whose turn it is: the consumers of one queue, which of them gets the next message. Knows them as takers with or
without credit. What they are given is the queue's business."""

from collections import deque
from typing import Protocol

from pipeline.embedded.queues.entry import Taker


class Turns(Protocol):
    @property
    def consumers(self) -> list[Taker]:
        """All of them, in order of coming."""

    def add(self, taker: Taker) -> None: ...

    def remove(self, taker: Taker) -> None: ...

    def unpark(self, taker: Taker) -> None:
        """It was without credit and may have some again."""

    def next(self) -> Taker | None:
        """Who gets the next message; it must be given one. None if nobody can take it now."""

    def active(self) -> int:
        """How many may get messages at all."""

    def clear(self) -> None: ...


class RoundRobin:
    """One after the other among those of the highest priority that have credit."""

    def __init__(self) -> None:
        self.consumers: list[Taker] = []
        self._levels: list[tuple[int, deque[Taker]]] = []  # those that may have credit; the left one is next

    def add(self, taker: Taker) -> None:
        self.consumers.append(taker)
        self._level(taker.priority).append(taker)

    def remove(self, taker: Taker) -> None:
        if taker in self.consumers:
            self.consumers.remove(taker)
        taker.parked = False  # whatever it settles later, it gets nothing more
        level = self._level(taker.priority)
        if taker in level:
            level.remove(taker)
        self._levels = [each for each in self._levels if each[1]]

    def unpark(self, taker: Taker) -> None:
        """It joins at the end of the line."""
        if taker.parked:
            taker.parked = False
            self._level(taker.priority).append(taker)

    def next(self) -> Taker | None:
        for _, level in self._levels:
            while level:
                taker = level[0]
                if taker.has_credit():
                    level.rotate(-1)
                    return taker
                taker.parked = True
                level.popleft()
        return None

    def active(self) -> int:
        return len(self.consumers)

    def clear(self) -> None:
        self.consumers = []
        self._levels = []

    def _level(self, priority: int) -> deque[Taker]:
        for found, level in self._levels:
            if found == priority:
                return level
        new: deque[Taker] = deque()
        self._levels.append((priority, new))
        self._levels.sort(key=lambda each: -each[0])
        return new


class SingleActive:
    """`x-single-active-consumer`: the first one gets all, until it goes; then the next one does. With
    `by_priority`, that is the one of the highest priority."""

    def __init__(self, *, by_priority: bool) -> None:
        self.consumers: list[Taker] = []
        self.chosen: Taker | None = None
        self._by_priority = by_priority

    def add(self, taker: Taker) -> None:
        self.consumers.append(taker)
        if self.chosen is None:
            self.chosen = taker

    def remove(self, taker: Taker) -> None:
        if taker in self.consumers:
            self.consumers.remove(taker)
        taker.parked = False
        if taker is self.chosen:
            self.chosen = self._following(self.consumers)

    def unpark(self, taker: Taker) -> None:
        taker.parked = False

    def next(self) -> Taker | None:
        taker = self.chosen
        if taker is not None and not taker.has_credit():
            taker.parked = True
            return None
        return taker

    def active(self) -> int:
        return self.chosen is not None

    def clear(self) -> None:
        self.consumers = []
        self.chosen = None

    def _following(self, takers: list[Taker]) -> Taker | None:
        if not self._by_priority:
            return takers[0] if takers else None
        return max(takers, key=lambda taker: taker.priority, default=None)  # the first of several


class SingleActiveYielding(SingleActive):
    """The same in quorum queues of RabbitMQ 4.3, where the active one yields to a higher priority: it gets nothing
    more, and when it has settled all it had in hand, the other one is active. Of the same priority, the one that may
    have more in hand comes first."""

    def __init__(self) -> None:
        super().__init__(by_priority=True)
        self._yields = False

    def next(self) -> Taker | None:
        self._look_for_higher()
        return None if self._yields else super().next()

    def remove(self, taker: Taker) -> None:
        if taker is self.chosen:
            self._yields = False
        super().remove(taker)

    def _look_for_higher(self) -> None:
        if self.chosen is None:
            return
        following = self._following([taker for taker in self.consumers if taker is not self.chosen])
        if following is not None and following.priority > self.chosen.priority:
            self._yields = True
        if self._yields and not self.chosen.in_hand:
            self._yields = False
            self.chosen = following or self.chosen

    def _following(self, takers: list[Taker]) -> Taker | None:
        return max(takers, key=lambda taker: (taker.priority, taker.limit or UNLIMITED), default=None)


UNLIMITED = 2000  # what a quorum queue takes for a consumer without prefetch
