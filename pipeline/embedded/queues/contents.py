"""What is ready in one queue, with its limit (`limits`) and its ends (`expiry`): what is too much or too old is taken
out here, and handed to whoever decides what becomes of it. A queue that has neither asks `watched` and is done."""

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.embedded.ground.timeline import Timeline
from pipeline.embedded.queues.entry import Entry, Reason
from pipeline.embedded.queues.expiry import Expiry
from pipeline.embedded.queues.limits import Limit
from pipeline.embedded.queues.store import Store
from pipeline.embedded.wire import content
from pipeline.embedded.wire.content import Message


class Contents:
    """`ready` is changed by the queue, which tells it here where `watched` is true. `die` takes what must go, `ring`
    is called when something at a head has expired."""

    def __init__(
        self,
        ready: Store,
        limit: Limit | None,
        *,
        timeline: Timeline,
        ttl: int | None,
        at_least_to_live: float,
        die: Callable[[Entry, Reason], None],
        ring: Callable[[], None],
    ) -> None:
        self.ready = ready
        self.limit = limit
        self._make_expiry = partial(Expiry, ready, timeline, ring, ttl, at_least_to_live)
        self._expiry = None if ttl is None else self._make_expiry()
        self.watched = limit is not None or self._expiry is not None
        self._die = die

    # What the queue tells

    def came(self, entry: Entry) -> None:
        """For the first time. A message that expires makes it a queue in which messages do."""
        if self.limit is not None:
            self.limit.came(entry)
        if self._expiry is None and content.may_expire(entry.message.header):
            self._expiry = self._make_expiry()
            self.watched = True
        if self._expiry is not None:
            self._expiry.begin(entry)

    def came_back(self, entries: Sequence[Entry]) -> None:
        if self.limit is not None:
            for entry in entries:
                self.limit.came(entry)

    def left(self, entry: Entry) -> None:
        if self.limit is not None:
            self.limit.left(entry)

    def clear(self) -> None:
        self.ready.clear()
        if self.limit is not None:
            self.limit.clear()
        if self._expiry is not None:
            self._expiry.rest()

    # What it does with that

    def has_no_room_for(self, message: Message) -> bool:
        """Whether a publisher would be refused; where the oldest goes instead, never."""
        limit = self.limit
        return limit is not None and not limit.drops and limit.would_be_over(message)

    def trim(self) -> None:
        self.drop_surplus()
        self.drop_expired()

    def drop_surplus(self) -> None:
        limit = self.limit
        if limit is None or not limit.drops:
            return
        while self.ready and limit.is_over():
            entry = self.ready.take()
            limit.left(entry)
            self._die(entry, Reason.MAXLEN)

    def drop_expired(self) -> None:
        if self._expiry is None:
            return
        for entry in self._expiry.take_due():
            self.left(entry)
            self._die(entry, Reason.EXPIRED)
        self._expiry.watch()

    def look_at_the_head(self) -> None:
        """Ring when it expires; if it has, as soon as something else happens."""
        if self._expiry is not None:
            self._expiry.watch()
