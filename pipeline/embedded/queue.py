"""One queue: what is ready and what is handed out, in which order it goes out, and to whom. Knows consumers only
as takers with or without credit. Exchanges, frames and what becomes of dead letters are not known here."""

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from pipeline.embedded.arguments import QUORUM
from pipeline.embedded.content import Message
from pipeline.embedded.tables import Table


class Reason(Enum):
    """Why a message left a queue other than by acknowledgement; the word in `x-death`."""

    REJECTED = "rejected"
    DELIVERY_LIMIT = "delivery_limit"


class Entry:
    """A message's place in one queue. `returns` counts how often a quorum queue took it back."""

    __slots__ = ("message", "place", "queue", "redelivered", "returns", "taker")

    def __init__(self, queue: "Queue", message: Message, place: int) -> None:
        self.queue = queue
        self.message = message
        self.place = place
        self.redelivered = False
        self.returns = 0
        self.taker: Taker | None = None  # who has it in hand; nobody after basic.get


class Taker(Protocol):
    """A consumer, seen from its queue."""

    parked: bool  # without credit when it was last asked; `Queue.wake` brings it back
    no_ack: bool
    exclusive: bool
    in_hand: int
    queue: "Queue"

    def has_credit(self) -> bool: ...

    def take(self, entry: Entry) -> None: ...

    def queue_deleted(self) -> None: ...


Bury = Callable[["Queue", Message, Reason], None]


class Queue:
    """Ready messages in order of arrival, consumers in turn."""

    def __init__(
        self, *, name: str, durable: bool, auto_delete: bool, arguments: Table, owner: object | None, bury: Bury
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.owner = owner  # the connection an exclusive queue belongs to
        self.is_quorum = arguments.get("x-queue-type") == QUORUM
        limit = arguments.get("x-delivery-limit") if self.is_quorum else None
        self.delivery_limit = limit if isinstance(limit, int) else None
        self.deleted = False
        self.ready: deque[Entry] = deque()
        self.unacked = 0
        self.consumers: list[Taker] = []
        self._bury = bury
        self._turn: deque[Taker] = deque()  # consumers that may have credit; the left one is next
        self._next_place = 0

    @property
    def message_count(self) -> int:
        return len(self.ready) + self.unacked

    # Coming in

    def push(self, message: Message) -> None:
        self.ready.append(Entry(self, message, self._next_place))
        self._next_place += 1
        if self._turn:
            self._dispatch()

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Take deliveries back to where they were, marked as redelivered (RabbitMQ: "requeued to its original
        position in its queue, if possible"). A quorum queue counts them, and buries what has come back too often."""
        if self.deleted:
            return
        self.unacked -= len(entries)
        for entry in entries:
            entry.redelivered = True
            entry.taker = None
            entry.returns += self.is_quorum
        self._insert([entry for entry in entries if not self._is_worn_out(entry)])
        self._dispatch()
        for entry in entries:
            if self._is_worn_out(entry):
                self._bury(self, entry.message, Reason.DELIVERY_LIMIT)

    def _is_worn_out(self, entry: Entry) -> bool:
        return self.delivery_limit is not None and entry.returns > self.delivery_limit

    def _insert(self, entries: Sequence[Entry]) -> None:
        """Each at its place. Only earlier returns can stand before one of them, so few are ever moved."""
        moved: list[Entry] = []
        for entry in sorted(entries, key=lambda entry: entry.place):
            while self.ready and self.ready[0].place < entry.place:
                moved.append(self.ready.popleft())
            moved.append(entry)
        self.ready.extendleft(reversed(moved))

    # Going out

    def _dispatch(self) -> None:
        """One message to each consumer in turn, as long as somebody has credit."""
        turn, ready = self._turn, self.ready
        while ready and turn:
            taker = turn[0]
            if not taker.has_credit():
                taker.parked = True
                turn.popleft()
                continue
            turn.rotate(-1)
            entry = ready.popleft()
            if not taker.no_ack:
                self.unacked += 1
            taker.take(entry)

    def get(self, *, no_ack: bool) -> Entry | None:
        """The next message for basic.get, past all consumers."""
        if not self.ready:
            return None
        if not no_ack:
            self.unacked += 1
        return self.ready.popleft()

    # Settling

    def acknowledge(self, entry: Entry) -> None:
        if not self.deleted:
            self.unacked -= 1

    def reject(self, entry: Entry) -> None:
        """Gone from here; to the dead-letter exchange where there is one."""
        if not self.deleted:
            self.unacked -= 1
            self._bury(self, entry.message, Reason.REJECTED)

    def purge(self) -> int:
        count = len(self.ready)
        self.ready.clear()
        return count

    # Consumers

    def add(self, taker: Taker) -> None:
        self.consumers.append(taker)
        self._turn.append(taker)
        self._dispatch()

    def remove(self, taker: Taker) -> None:
        if taker in self.consumers:
            self.consumers.remove(taker)
        if taker in self._turn:
            self._turn.remove(taker)

    def wake(self, taker: Taker) -> None:
        """A consumer that was without credit may have some again. It joins at the end of the line."""
        if taker.parked and not self.deleted:
            taker.parked = False
            self._turn.append(taker)
            self._dispatch()

    def delete(self) -> int:
        """Everything in it is gone; consumers are told. The number of ready messages."""
        count = self.purge()
        self.deleted = True
        self.unacked = 0
        self._turn.clear()
        consumers, self.consumers = self.consumers, []
        for taker in consumers:
            taker.queue_deleted()
        return count
