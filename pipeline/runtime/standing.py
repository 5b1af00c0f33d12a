"""How one file stands in one process: its connections and its consumers at the broker, in integers that processes
share. Hears it from events, and writes only when something changes. What it means for health is not known here."""

from collections.abc import Callable, Iterator
from enum import IntEnum
from itertools import takewhile
from typing import cast

from pipeline import events
from pipeline.events import Event
from pipeline.ledger import Cells
from pipeline.observe.health import Connection, Registered, Registration
from pipeline.runtime.plan import LinkName, Plan

_TEXT = 24  # cells for a reason
_LONGEST = _TEXT * 8  # bytes
WIDTH = 2 + _TEXT


class _Line(IntEnum):
    NEVER = 0
    UP = 1
    BLOCKED = 2
    DOWN = 3


_REGISTRATIONS: tuple[Registration, ...] = ("waiting", "registered", "paused", "interrupted", "conflict")


class Mark:
    """One connection or consumer: a code, a count, and why. Whoever reads while it is written may see half of each
    reason; a moment later it is whole."""

    __slots__ = ("_cells", "_first")

    def __init__(self, cells: Cells, first: int) -> None:
        self._cells = cells
        self._first = first

    @property
    def code(self) -> int:
        return self._cells[self._first]

    @property
    def count(self) -> int:
        return self._cells[self._first + 1]

    def count_one(self) -> None:
        self._cells[self._first + 1] += 1

    @property
    def reason(self) -> str:
        numbers = takewhile(bool, (self._cells[at] for at in self._of_reason()))  # most have none
        text = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
        return text.rstrip(b"\0").decode(errors="ignore")

    def set(self, code: int, reason: str = "") -> None:
        self._cells[self._first] = code
        text = _shortened(reason).ljust(_LONGEST, b"\0")
        for number, at in enumerate(self._of_reason()):
            self._cells[at] = int.from_bytes(text[number * 8 : number * 8 + 8], "little", signed=True)

    def _of_reason(self) -> range:
        return range(self._first + 2, self._first + WIDTH)


class Standing:
    """One file's connections and consumers, in the order of its plan."""

    def __init__(self, cells: Cells, plan: Plan) -> None:
        self._plan = plan
        marks = [Mark(cells, number * WIDTH) for number in range(width_of(plan) // WIDTH)]
        self._lines = dict(zip(plan.topologies, marks, strict=False))
        after = marks[len(self._lines) :]
        self._consumers = {each.consumer.name: mark for each, mark in zip(plan.consumers, after, strict=True)}
        self._homes = {each.consumer.name: each.link for each in plan.consumers}

    def listening(self, emit: Callable[[Event], None], mask: Callable[[str], str]) -> Callable[[Event], None]:
        """What the parts of this file, and no other, emit through. Texts of other systems are masked before they are
        kept."""

        def hear(event: Event) -> None:
            self._hear(event, mask)
            emit(event)

        return hear

    def clear(self) -> None:
        """For the next process of this row. Counts stay."""
        for mark in (*self._lines.values(), *self._consumers.values()):
            mark.set(0)

    def connections(self) -> Iterator[Connection]:
        for name, mark in self._lines.items():
            yield Connection(
                pipeline=self._plan.pipeline.name,
                name=name,
                up=mark.code in (_Line.UP, _Line.BLOCKED),
                blocked=mark.code == _Line.BLOCKED,
                reconnects=mark.count,
                reason=mark.reason,
            )

    def consumers(self) -> Iterator[Registered]:
        for each in self._plan.consumers:
            mark = self._consumers[each.consumer.name]
            yield Registered(
                pipeline=self._plan.pipeline.name,
                consumer=each.consumer.name,
                queue=each.queue.name,
                state=_REGISTRATIONS[mark.code],
                reason=mark.reason,
            )

    def _hear(self, event: Event, mask: Callable[[str], str]) -> None:
        match event:
            case events.Connected(link=link):
                self._connected(self._lines[_name(link)])
            case events.ConnectFailed(link=link, reason=reason):
                line = self._lines[_name(link)]
                line.set(line.code, mask(reason))
            case events.ConnectionLost(link=link, reason=reason):
                self._lines[_name(link)].set(_Line.DOWN, mask(reason))
                self._unregister(_name(link))
            case events.Blocked(link=link):
                self._lines[_name(link)].set(_Line.BLOCKED)
            case events.Unblocked(link=link):
                line = self._lines[_name(link)]
                line.set(_Line.UP if line.code == _Line.BLOCKED else line.code, line.reason)
            case events.ConsumerStarted(consumer=name) | events.ConsumerResumed(consumer=name):
                self._consumers[name].set(_code("registered"))
            case events.ConsumerPaused(consumer=name):
                self._consumers[name].set(_code("paused"))
            case events.ConsumerInterrupted(consumer=name, reason=reason):
                self._consumers[name].set(_code("interrupted"), mask(reason))
            case events.ConsumerInConflict(consumer=name, reason=reason):
                self._consumers[name].set(_code("conflict"), mask(reason))
            case events.HandlerStuck(consumer=name, stuck=stuck, slots=slots) if stuck == slots:
                self._consumers[name].set(_code("interrupted"), "every slot is taken by a thread that does not end")
            case events.HandlerFreed(consumer=name, stuck=stuck, slots=slots) if stuck == slots - 1:
                consumer = self._consumers[name]
                if consumer.code != _code("conflict"):
                    consumer.set(_code("registered"))
            case _:
                pass

    def _connected(self, line: Mark) -> None:
        if line.code != _Line.NEVER:
            line.count_one()
        line.set(_Line.UP)

    def _unregister(self, link: LinkName) -> None:
        """A consumer that we have paused ourselves is not asked for when the connection is back, either."""
        for name, mark in self._consumers.items():
            if self._homes[name] == link and mark.code != _code("paused"):
                mark.set(_code("waiting"))


def width_of(plan: Plan) -> int:
    """How many cells the standing of a file takes."""
    return (len(plan.topologies) + len(plan.consumers)) * WIDTH


def _code(state: Registration) -> int:
    return _REGISTRATIONS.index(state)


def _name(link: str) -> LinkName:
    return cast(LinkName, link)


def _shortened(reason: str) -> bytes:
    """One line of it, as much as there is room for."""
    line = "".join(each if each.isprintable() else " " for each in reason).encode(errors="replace")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + b"..."
