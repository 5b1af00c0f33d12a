"""Which messages each worker has in hand, in memory that all processes of a run share, so that it can still be read
when the worker has died: for each slot of each consumer an identity, or nothing. What a death means for a message is
not known here. Hot: `Hands.take` and `let_go`."""

import mmap
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

from pipeline.message import Message
from pipeline.runtime.plan import ConsumerPlan, Plan
from pipeline.runtime.suspects import SUSPECT, Suspects
from pipeline.runtime.table import Table
from pipeline.values import Frozen

_WIDTH: Final = 128  # bytes for each slot: the identity's length, then the identity
LONGEST: Final = _WIDTH - 1
_ENTRY: Final = Struct(f"{_WIDTH}p")  # nothing is allocated: the length and the octets are written where they belong
_ALONE: Final = Struct("Q")
_HASH: Final = b"\xff"  # no UTF-8 text begins so: no message id passes for a hash
# Of a large body the ends are hashed: a few milliseconds of the loop for 16 MiB would meet everybody.
_BODY_END: Final = 64 * 1024
# What the broker or we ourselves change from one delivery of a message to the next.
_CHANGING: Final = frozenset(
    {"x-death", "x-delivery-count", "x-acquired-count"}
    | {f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")}
)


def identity(message: Message) -> bytes:
    """The same for every delivery of one message of a consumer, also from another worker and after a retry: its
    `message_id`, or a hash where it has none or a very long one. Two messages without an id that are alike in every
    part are one and the same here."""
    octets = (message.message_id or "").encode("utf-8", "replace")
    if octets and len(octets) <= LONGEST:
        return octets
    return _HASH + (blake2b(octets, digest_size=32).digest() if octets else _content(message))


def shown(identity: bytes) -> str | None:
    """The message id, for people; None for a hash."""
    return None if identity.startswith(_HASH) else identity.decode(errors="replace")


def _content(message: Message) -> bytes:
    body = message.body if isinstance(message.body, bytes) else b""
    ends = body if len(body) <= 2 * _BODY_END else body[:_BODY_END] + body[-_BODY_END:]
    headers = [
        each for each in sorted(message.headers.items()) if each[0] not in _CHANGING and each[0][:10] != "x-piperun-"
    ]
    told = repr((headers, message.type, message.correlation_id, message.timestamp, len(body)))
    return blake2b(told.encode(errors="replace") + ends, digest_size=32).digest()


class _Place(Frozen, frozen=True, kw_only=True):
    """Where a consumer's slots stand in a row, counted in slots. None of them with `ack: none`: what the broker has
    forgotten cannot come again."""

    number: int  # of the consumer, over all files
    first: int
    count: int


class InHand:
    """The rows of all workers, and behind them the suspects. Made by whoever starts the workers; a worker opens it
    again by its file descriptor."""

    def __init__(self, plans: Sequence[Plan], *, rows: int, fileno: int = -1, offset: int = 0) -> None:
        self._rows = rows
        self._places = _places(plans)
        self._slots = sum(place.count for _, place in self._places)
        self._memory = mmap.mmap(fileno, _size(rows, self._slots), offset=offset)
        after = rows * self._row_width
        self.suspects = Suspects(self._memory, start=after, count=_suspects(rows * self._slots))

    @classmethod
    def shared(cls, plans: Sequence[Plan], *, rows: int, fileno: int) -> "InHand":
        """In the file that begins with the table of numbers."""
        return cls(plans, rows=rows, fileno=fileno, offset=_offset(plans, rows))

    @staticmethod
    def end(plans: Sequence[Plan], *, rows: int) -> int:
        """How many bytes that file must have. Most of it is never touched, and so takes no room."""
        return _offset(plans, rows) + _size(rows, sum(place.count for _, place in _places(plans)))

    def row(self, row: int) -> "OwnRow":
        return OwnRow(self, row)

    def found(self, row: int) -> Iterator[tuple[int, bytes]]:
        """What a worker had in hand when it died and is to be counted, each message once, as number of the consumer and
        identity. One that was being handled alone stands for all: the others had their time and did not end."""
        (alone,) = _ALONE.unpack_from(self._memory, row * self._row_width)
        seen: set[tuple[int, bytes]] = set()
        for _, place in self._places:
            for slot in range(place.first, place.first + place.count):
                (held,) = _ENTRY.unpack_from(self._memory, self._at(row, slot))
                if held and alone in (0, slot + 1) and (place.number, held) not in seen:
                    seen.add((place.number, held))
                    yield place.number, held

    def empty(self, row: int) -> None:
        """For the next worker of this row."""
        start = row * self._row_width
        self._memory[start : start + self._row_width] = bytes(self._row_width)

    @property
    def _row_width(self) -> int:
        return (1 + self._slots) * _WIDTH

    def _at(self, row: int, slot: int) -> int:
        return row * self._row_width + (1 + slot) * _WIDTH

    def _holds(self, row: int, place: _Place, held: bytes) -> bool:
        start, end = self._at(row, place.first), self._at(row, place.first + place.count)
        entry = bytes([len(held)]) + held
        at = self._memory.find(entry, start, end)
        while at >= 0 and (at - start) % _WIDTH:
            at = self._memory.find(entry, at + 1, end)
        return at >= 0


class OwnRow:
    """One worker's part."""

    def __init__(self, shared: InHand, row: int) -> None:
        self._shared = shared
        self._row = row

    def hands(self, consumer: ConsumerPlan) -> "Hands":
        """`consumer` as it stands in the plans, for a run may have the same file twice."""
        place = next(place for plan, place in self._shared._places if plan is consumer)
        return Hands(self._shared, self._row, place)

    def mark_alone(self, slot: int) -> None:
        """From now on this slot's message is the only one that a death counts for."""
        _ALONE.pack_into(self._shared._memory, self._shared._row_width * self._row, slot + 1)

    def unmark_alone(self) -> None:
        _ALONE.pack_into(self._shared._memory, self._shared._row_width * self._row, 0)


class Hands:
    """One consumer's slots in one worker."""

    def __init__(self, shared: InHand, row: int, place: _Place) -> None:
        self._shared = shared
        self._row = row
        self._place = place
        self._memory = shared._memory
        self._first = shared._at(row, place.first)
        self._suspects = shared.suspects
        self._others = [each for each in range(shared._rows) if each != row]

    def take(self, slot: int, message: Message) -> None:
        """Before the message is handled: whatever happens to this process from here on, it is known what it held."""
        _ENTRY.pack_into(self._memory, self._first + slot * _WIDTH, identity(message))

    def let_go(self, slot: int) -> None:
        """After it is settled or given back."""
        self._memory[self._first + slot * _WIDTH] = 0  # its length

    def slot_in_row(self, slot: int) -> int:
        return self._place.first + slot

    def held_elsewhere(self, held: bytes) -> bool:
        """Whether another worker has it in hand: one that has just died, and whose death is not counted yet, or one
        that has lost its line."""
        return any(self._shared._holds(row, self._place, held) for row in self._others)

    def deaths(self, held: bytes) -> int:
        """How many workers died with it in hand, as far as the supervisor has counted."""
        return self._suspects.deaths(self._place.number, held)

    def last_status(self, held: bytes) -> int:
        return self._suspects.last_status(self._place.number, held)

    def clear(self, held: bytes) -> None:
        self._suspects.clear(self._place.number, held)


def _places(plans: Sequence[Plan]) -> list[tuple[ConsumerPlan, _Place]]:
    places: list[tuple[ConsumerPlan, _Place]] = []
    first = 0
    for number, each in enumerate(each for plan in plans for each in plan.consumers):
        count = 0 if each.consumer.ack == "none" else each.consumer.concurrency
        places.append((each, _Place(number=number, first=first, count=count)))
        first += count
    return places


def _offset(plans: Sequence[Plan], rows: int) -> int:
    """A mapping begins with a page."""
    return -(-Table.size(plans, rows=rows) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


def _size(rows: int, slots: int) -> int:
    return rows * (1 + slots) * _WIDTH + _suspects(rows * slots) * SUSPECT


def _suspects(slots: int) -> int:
    """Room for all that is in hand at the death of every worker, and as many again that were before."""
    return min(max(64, 2 * slots), 65_536)
