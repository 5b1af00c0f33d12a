"""`x-dead-letter-strategy: at-least-once`: a quorum queue keeps its dead letters until the queues they are routed to
have taken them. What such a copy looks like, and where it is routed, `dead_letters` knows."""

from collections.abc import Callable
from functools import partial

from pipeline.embedded.ground.timeline import Timeline, Timer
from pipeline.embedded.queues.entry import Entry, Home, Reason
from pipeline.embedded.queues.surroundings import Undertaker
from pipeline.embedded.wire.content import DeadLetter

RETRY_SECONDS = 180  # RabbitMQ's dead_letter_worker_publisher_confirm_timeout


class Forwarding:
    """The dead letters of one queue that are still to be taken. `done` is told of each that has been."""

    def __init__(self, undertaker: Undertaker, timeline: Timeline, done: Callable[[Entry], None]) -> None:
        self._undertaker = undertaker
        self._timeline = timeline
        self._done = done
        self._pending: dict[_Pending, None] = {}
        self._timer: Timer | None = None
        self.octets = 0  # of all bodies together

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, entry: Entry, reason: Reason) -> None:
        pending = _Pending(entry, reason)
        self._pending[pending] = None
        self.octets += len(entry.message.body)
        self._undertaker.later(partial(self._send, pending))

    def forget(self) -> int:
        """They are given up. How many there were."""
        pending = list(self._pending)
        for each in pending:
            self._drop(each)
        if self._timer is not None:
            self._timer.cancel()
        return len(pending)

    def _send(self, pending: "_Pending") -> None:
        """Where it is routed nowhere, or one of its queues is full, it is tried again later; those that have it do
        not get it twice."""
        if pending not in self._pending:
            return
        if pending.copy is None:
            pending.copy = self._undertaker.copy(pending.entry, pending.reason)
        targets = self._undertaker.targets(pending.copy)
        for target in targets:
            if target not in pending.taken and target.offer(pending.copy):
                pending.taken.add(target)
                self._undertaker.tell(pending.copy, target, pending.reason)
        if pending.taken.issuperset(targets) and pending.taken:
            self._drop(pending)
        elif self._timer is None or not self._timer.pending:
            self._timer = self._timeline.after(RETRY_SECONDS, self._try_again)

    def _drop(self, pending: "_Pending") -> None:
        del self._pending[pending]
        self.octets -= len(pending.entry.message.body)
        self._done(pending.entry)

    def _try_again(self) -> None:
        for pending in self._pending:
            self._undertaker.later(partial(self._send, pending))
        self._undertaker.work()


class _Pending:
    """One dead letter, and who has taken it."""

    def __init__(self, entry: Entry, reason: Reason) -> None:
        self.entry = entry
        self.reason = reason
        self.copy: DeadLetter | None = None
        self.taken: set[Home] = set()
