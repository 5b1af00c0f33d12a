"""A message's place in a queue, and the two that hand it to each other: the queue it belongs to and the consumer that
takes it, each as the other sees it. Both exist elsewhere, in `queue` and `deliveries`."""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from pipeline.embedded.wire.content import DeadLetter, Message
from pipeline.embedded.wire.frames import FieldTable
from pipeline.embedded.wire.tables import Table


class Reason(Enum):
    """Why a message left a queue other than by acknowledgement; the word in `x-death`."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    MAXLEN = "maxlen"
    DELIVERY_LIMIT = "delivery_limit"


class Back(Enum):
    """How a delivery came back to its queue."""

    HANDED_BACK = "basic.nack, basic.recover"
    REJECTED = "basic.reject"
    LOST = "its channel is gone"


class Entry:
    """A message's place in one queue. `failed` and `acquired` count how often it came back, see `quorum`."""

    __slots__ = ("acquired", "due", "failed", "message", "place", "queue", "redelivered", "taker")

    def __init__(self, queue: "Home", message: Message, place: int) -> None:
        self.queue = queue
        self.message = message
        self.place = place
        self.redelivered = False
        self.due: float | None = None  # when it expires, on the clock of the timeline
        self.failed = 0
        self.acquired = 0
        self.taker: Taker | None = None  # who has it in hand; nobody after basic.get


class Home(Protocol):
    """A queue, seen from whoever has its messages in hand, or gives it some."""

    name: str
    arguments: Table
    is_quorum: bool

    def acknowledge(self, entry: Entry) -> None: ...

    def put_back(self, entries: Sequence[Entry], how: Back) -> None: ...

    def discard(self, entries: Sequence[Entry], how: Back) -> None: ...

    def counts(self, entry: Entry, *, got: bool) -> FieldTable: ...

    def offer(self, letter: DeadLetter) -> bool: ...

    def unpark(self, taker: "Taker") -> None: ...

    def wake(self, taker: "Taker") -> None: ...


class Taker(Protocol):
    """A consumer, seen from its queue."""

    parked: bool  # without credit when it was last asked; `Queue.wake` brings it back
    no_ack: bool
    exclusive: bool
    priority: int
    limit: int  # prefetch; 0 is without limit
    in_hand: int

    @property
    def queue(self) -> Home: ...

    def has_credit(self) -> bool: ...

    def take(self, entry: Entry) -> None: ...

    def queue_deleted(self) -> None: ...
