"""What is noted of a queue's messages: their weight, in the memory of the whole broker, and in the journal how they
leave or come back."""

from collections.abc import Iterable

from pipeline.embedded.ground.journal import Kind
from pipeline.embedded.ground.memory import MESSAGE_WEIGHT
from pipeline.embedded.queues.entry import Back, Entry, Reason
from pipeline.embedded.queues.surroundings import Surroundings
from pipeline.embedded.wire.content import Message

_KINDS: dict[Reason, Kind] = {  # what the journal calls it
    Reason.REJECTED: "rejected",
    Reason.EXPIRED: "expired",
    Reason.MAXLEN: "dropped",
    Reason.DELIVERY_LIMIT: "dropped",
}


class Books:
    """The books of one queue."""

    def __init__(self, queue: str, surroundings: Surroundings) -> None:
        self._queue = queue
        self._vhost = surroundings.vhost
        self._memory = surroundings.shared.memory
        self._journal = surroundings.shared.journal

    def came(self, message: Message) -> None:
        self._memory.used += len(message.header) + len(message.body) + MESSAGE_WEIGHT

    def left(self, message: Message) -> None:
        self._memory.used -= len(message.header) + len(message.body) + MESSAGE_WEIGHT

    def all_left(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.left(entry.message)

    def came_back(self, entries: Iterable[Entry], how: Back) -> None:
        if self._journal.open:
            for entry in entries:
                self._tell("requeued", entry, how.value)

    def died(self, entry: Entry, reason: Reason) -> None:
        if self._journal.open:
            self._tell(_KINDS[reason], entry, reason.value)

    def _tell(self, kind: Kind, entry: Entry, reason: str) -> None:
        self._journal.tell(kind, message=entry.message, vhost=self._vhost, queue=self._queue, reason=reason)
