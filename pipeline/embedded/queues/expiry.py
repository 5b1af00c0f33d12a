"""When messages and queues expire: `x-message-ttl`, a message's `expiration`, `x-expires`. Tells the queue when it is
time; which message goes, and where to, the queue decides."""

from collections.abc import Callable

from pipeline.embedded.ground.timeline import Timeline, Timer
from pipeline.embedded.queues.entry import Entry
from pipeline.embedded.queues.store import Store
from pipeline.embedded.wire import content


class Expiry:
    """The end of messages in one queue: one timer, for the one that expires next. `at_least` is the shortest time
    that a message has, in seconds."""

    def __init__(
        self, ready: Store, timeline: Timeline, ring: Callable[[], None], ttl: int | None, at_least: float
    ) -> None:
        self._ready = ready
        self._timeline = timeline
        self._ring = ring
        self._ttl = ttl  # milliseconds; None: only messages that have an expiration of their own expire
        self._at_least = at_least
        self._timer: Timer | None = None

    def begin(self, entry: Entry) -> None:
        """The time of a message that has just come begins. Put back later, it keeps its end."""
        own = content.expiration(entry.message.header)
        times = [time for time in (self._ttl, own) if time is not None]
        if times:
            entry.due = self._timeline.now + max(min(times) / 1000, self._at_least)

    def take_due(self) -> list[Entry]:
        return self._ready.take_due(self._timeline.now)

    def watch(self) -> None:
        """Ring in time for what stands at the head now. A timer that rings too early does no harm: the queue finds
        nothing and comes here again."""
        due = self._ready.next_due()
        if due is None:
            return
        if self._timer is not None and self._timer.pending:
            if self._timer.at <= due:
                return
            self._timer.cancel()
        self._timer = self._timeline.after(due - self._timeline.now, self._ring)

    def rest(self) -> None:
        """Nothing is there any more: a timer that is far off would keep a queue that is deleted."""
        if self._timer is not None:
            self._timer.cancel()


class Lease:
    """`x-expires`: a queue that nobody uses for so long is deleted. `in_use` says whether somebody does now."""

    def __init__(
        self, milliseconds: int, timeline: Timeline, in_use: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        self._seconds = milliseconds / 1000
        self._timeline = timeline
        self._in_use = in_use
        self._end = end
        self._until = timeline.now + self._seconds
        self._timer = timeline.after(self._seconds, self._ring)

    def renew(self) -> None:
        """Somebody has used the queue. The timer stays as it is: a queue may be used very often."""
        self._until = self._timeline.now + self._seconds
        if not self._timer.pending:
            self._timer = self._timeline.after(self._seconds, self._ring)

    def cancel(self) -> None:
        self._timer.cancel()

    def _ring(self) -> None:
        if self._in_use():
            return  # the last one that goes renews it
        if self._until > self._timeline.now:
            self._timer = self._timeline.after(self._until - self._timeline.now, self._ring)
        else:
            self._end()
