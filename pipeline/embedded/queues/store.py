"""The ready messages of one queue in the order in which they go out: as they came, by priority, or those that came
back before all others. Knows of each when it expires; that it does, and what becomes of it then, is the queue's
business."""

from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Protocol

from pipeline.embedded.queues.entry import Entry
from pipeline.embedded.wire import content

_place = attrgetter("place")


class Store(Protocol):
    """Entries in order. Expiry acts at a head only, as in RabbitMQ; where there are several heads, each store says
    which of them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Entry]: ...

    def push(self, entry: Entry, /) -> None:
        """One that has just come."""

    def take(self) -> Entry:
        """The next one. There must be one."""

    def put_back(self, entries: Sequence[Entry], /) -> None:
        """Those that were taken before."""

    def take_due(self, now: float) -> list[Entry]:
        """All at the head that have expired, and those that come to the head by that."""

    def next_due(self) -> float | None:
        """When a head expires next."""

    def clear(self) -> None: ...


class Line(deque[Entry]):
    """In order of arrival."""

    push = deque.append
    take = deque.popleft

    def put_back(self, entries: Sequence[Entry], /) -> None:
        """Each at its place (RabbitMQ: "requeued to its original position in its queue, if possible"). Only earlier
        returns can stand before one of them."""
        for entry in sorted(entries, key=_place, reverse=True):
            if not self or entry.place < self[0].place:
                self.appendleft(entry)
            else:
                self.insert(bisect(self, entry.place, key=_place), entry)

    def take_due(self, now: float) -> list[Entry]:
        due: list[Entry] = []
        while self:
            at = self[0].due
            if at is None or at > now:
                break
            due.append(self.popleft())
        return due

    def next_due(self) -> float | None:
        return self[0].due if self else None


class Levels:
    """By priority, the highest first, and by arrival within each. A message above `highest` counts as that, one
    that has none as `usual`. With `each_head`, the heads of all levels expire; otherwise what waits behind a higher
    level that has messages does not (classic queues)."""

    def __init__(self, highest: int, usual: int, *, each_head: bool) -> None:
        self._highest = highest
        self._usual = usual
        self._each_head = each_head
        self._levels = [Line() for _ in range(highest + 1)]
        self._downwards = tuple(reversed(self._levels))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        for level in self._downwards:
            yield from level

    def _priority(self, entry: Entry) -> int:
        priority = content.priority(entry.message.header)
        return self._usual if priority is None else min(priority, self._highest)

    def push(self, entry: Entry, /) -> None:
        self._levels[self._priority(entry)].push(entry)
        self._count += 1

    def take(self) -> Entry:
        self._count -= 1
        return next(level for level in self._downwards if level).take()

    def put_back(self, entries: Sequence[Entry], /) -> None:
        by_level: dict[int, list[Entry]] = {}
        for entry in entries:
            by_level.setdefault(self._priority(entry), []).append(entry)
        for priority, theirs in by_level.items():
            self._levels[priority].put_back(theirs)
        self._count += len(entries)

    def take_due(self, now: float) -> list[Entry]:
        due: list[Entry] = []
        for level in self._downwards:
            due += level.take_due(now)
            if level and not self._each_head:
                break
        self._count -= len(due)
        return due

    def next_due(self) -> float | None:
        heads = (level for level in self._downwards if level)
        if not self._each_head:
            head = next(heads, None)
            return None if head is None else head.next_due()
        return earliest(level.next_due() for level in heads)

    def clear(self) -> None:
        for level in self._levels:
            level.clear()
        self._count = 0


class ReturnedFirst:
    """What came back stands before all that was never out, in order of coming back (quorum queues). With
    `each_head`, both may expire at the same time; otherwise only what is next to go out does."""

    def __init__(self, messages: Store, *, each_head: bool) -> None:
        self._returned = Line()
        self._messages = messages
        self._each_head = each_head

    def __len__(self) -> int:
        return len(self._returned) + len(self._messages)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._returned
        yield from self._messages

    def push(self, entry: Entry, /) -> None:
        self._messages.push(entry)

    def take(self) -> Entry:
        return (self._returned or self._messages).take()

    def put_back(self, entries: Sequence[Entry], /) -> None:
        self._returned.extend(entries)

    def take_due(self, now: float) -> list[Entry]:
        due = self._returned.take_due(now)
        if self._each_head or not self._returned:
            due += self._messages.take_due(now)
        return due

    def next_due(self) -> float | None:
        if self._each_head:
            return earliest((self._returned.next_due(), self._messages.next_due()))
        return (self._returned or self._messages).next_due()

    def clear(self) -> None:
        self._returned.clear()
        self._messages.clear()


def earliest(times: "Iterator[float | None] | Sequence[float | None]") -> float | None:
    return min((time for time in times if time is not None), default=None)
