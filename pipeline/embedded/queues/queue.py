"""One queue: how messages come in, go out, come back and die. What is ready, and when that is too much or too old, is
kept by `contents`; whose turn it is, by `attended`. Consumers are takers here; where dead letters go, others know."""

from collections.abc import Sequence

from pipeline.embedded.declarations.queue_arguments import QUORUM
from pipeline.embedded.queues.attended import Attended, number
from pipeline.embedded.queues.books import Books
from pipeline.embedded.queues.contents import Contents
from pipeline.embedded.queues.entry import Back, Entry, Reason
from pipeline.embedded.queues.limits import Limit, body_size, limit_of
from pipeline.embedded.queues.store import Levels, Line, Store
from pipeline.embedded.queues.surroundings import Surroundings
from pipeline.embedded.wire import content
from pipeline.embedded.wire.content import DeadLetter, Message
from pipeline.embedded.wire.frames import FieldTable
from pipeline.embedded.wire.tables import Table


class Queue(Attended):
    """A classic queue. Between any two calls either nothing is ready, or nobody who could take it has credit; but see
    `cancelled`."""

    at_least_to_live = 0.0  # seconds that a message lives even with a TTL of 0

    def __init__(
        self,
        *,
        name: str,
        durable: bool,
        auto_delete: bool,
        arguments: Table,
        owner: object | None,
        surroundings: Surroundings,
    ) -> None:
        super().__init__(name, arguments, surroundings)
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner  # the connection an exclusive queue belongs to
        self.patience: float | None = None  # seconds it waits for an answer to what it has handed out
        self.is_quorum = arguments.get("x-queue-type") == QUORUM
        self.unacked = 0
        self._books = Books(name, surroundings)
        self._undertaker = surroundings.undertaker
        self._buries = "x-dead-letter-exchange" in arguments
        self._next_place = 0
        self.ready = self._make_store()
        self._contents = Contents(
            self.ready,
            self._make_limit(),
            timeline=surroundings.shared.timeline,
            ttl=number(arguments, "x-message-ttl"),
            at_least_to_live=self.at_least_to_live,
            die=self._die,
            ring=self._ring,
        )

    # What it is made of

    def _make_store(self) -> Store:
        highest = number(self.arguments, "x-max-priority")
        return Line() if highest is None else Levels(highest, 0, each_head=False)

    def _make_limit(self) -> Limit | None:
        return limit_of(self.arguments, self.arguments.get("x-overflow"), body_size)

    # What it holds

    @property
    def message_count(self) -> int:
        return len(self.ready) + self.unacked

    # Coming in

    def push(self, message: Message) -> bool:
        """From a publisher. False: the queue is full and has refused it (x-overflow)."""
        if self._contents.watched and self._refuses(message):
            return False
        self._come_in(self._new_entry(message))
        return True

    def offer(self, letter: DeadLetter) -> bool:
        """From another queue, which keeps it if it is refused here."""
        if self._contents.watched and self._refuses(letter):
            return False
        self._take_letter(letter)
        return True

    def push_dead(self, letter: DeadLetter) -> None:
        """From another queue, at most once: whether it is refused here, nobody wants to know."""
        self.offer(letter)

    def _refuses(self, message: Message) -> bool:
        limit = self._contents.limit
        if not self._contents.has_no_room_for(message):
            return False
        if limit is not None and limit.buries_refused:
            self._bury(self._new_entry(message), Reason.MAXLEN)
            self._undertaker.work()
        return True

    def _new_entry(self, message: Message) -> Entry:
        entry = Entry(self, message, self._next_place)
        self._next_place += 1
        return entry

    def _take_letter(self, letter: DeadLetter) -> None:
        """One of which a delivery has failed before is redelivered, unless somebody waits for it here."""
        entry = self._new_entry(letter)
        self._come_in(entry)
        entry.redelivered = letter.failures > 0

    def _come_in(self, entry: Entry) -> None:
        message = entry.message
        self._books.came(message)
        if self._contents.watched or content.may_expire(message.header):
            self._contents.came(entry)
        self.ready.push(entry)
        self._dispatch()
        if self._contents.watched:
            self._trim()
            self._undertaker.work()

    def put_back(self, entries: Sequence[Entry], how: Back) -> None:
        """Take deliveries back to where they were, marked as redelivered."""
        if self.deleted:
            self._books.all_left(entries)
            return
        self._books.came_back(entries, how)
        self._settled(entries)
        for entry in entries:
            entry.redelivered = True
            entry.taker = None
            self._count(entry, how)
        self._return(entries, how)
        self._undertaker.work()

    def _settled(self, entries: Sequence[Entry]) -> None:
        self.unacked -= len(entries)

    def _count(self, entry: Entry, how: Back) -> None:
        entry.failed += how is not Back.HANDED_BACK

    def _return(self, entries: Sequence[Entry], how: Back) -> None:
        self.ready.put_back(entries)
        if self._contents.watched:
            self._contents.came_back(entries)
            self._trim()
        self._dispatch()

    # Going out

    def run(self) -> None:
        self._dispatch()
        if self._contents.watched:
            self._undertaker.work()

    def _dispatch(self) -> None:
        """One message to each consumer in turn, as long as somebody has credit."""
        contents, ready, next_taker = self._contents, self.ready, self.turns.next
        while ready:
            taker = next_taker()
            if taker is None:
                return
            entry = ready.take()
            if taker.no_ack:
                self._books.left(entry.message)
            else:
                self.unacked += 1
            if contents.watched:
                contents.left(entry)
                contents.drop_expired()
            taker.take(entry)

    def get(self, *, no_ack: bool) -> Entry | None:
        """The next message for basic.get, past all consumers."""
        if self._lease is not None:
            self._lease.renew()
        if not self.ready:
            return None
        entry = self.ready.take()
        if no_ack:
            self._books.left(entry.message)
        else:
            self.unacked += 1
        if self._contents.watched:
            self._contents.left(entry)
            self._got()
            self._undertaker.work()
        return entry

    def _got(self) -> None:
        """What has come to the head by basic.get may have expired long ago."""
        self._contents.drop_expired()

    def counts(self, entry: Entry, *, got: bool) -> FieldTable:
        """The headers in which it tells how often a message came back; a classic queue does not. `got` is true for
        basic.get."""
        return {}

    # Settling

    def acknowledge(self, entry: Entry) -> None:
        self._books.left(entry.message)
        if not self.deleted:
            self.unacked -= 1

    def discard(self, entries: Sequence[Entry], how: Back) -> None:
        """Rejected without requeue: gone from here, to the dead-letter exchange where there is one."""
        if self.deleted:
            self._books.all_left(entries)
            return
        self._settled(entries)
        for entry in entries:
            self._count(entry, how)
            self._die(entry, Reason.REJECTED)
        self._undertaker.work()
        self.run()

    def purge(self) -> int:
        count = len(self.ready)
        self._books.all_left(self.ready)
        self._contents.clear()
        return count

    # What must go

    def _ring(self) -> None:
        self._trim()
        self._undertaker.work()

    def _trim(self) -> None:
        self._contents.trim()

    def _die(self, entry: Entry, reason: Reason) -> None:
        self._books.died(entry, reason)
        self._books.left(entry.message)
        self._bury(entry, reason)

    def _bury(self, entry: Entry, reason: Reason) -> None:
        if self._buries:
            self._undertaker.bury(entry, reason)

    # Its end

    def delete(self) -> int:
        """Everything in it is gone, and nothing of that is a dead letter. The number of ready messages."""
        count = self.purge()
        self.unacked = 0
        self._close()
        return count
