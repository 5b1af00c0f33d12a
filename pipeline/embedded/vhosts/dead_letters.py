"""What becomes of a message that a queue gets rid of: the copy that goes to the dead-letter exchange, with its
history in `x-death`, and which queues it may go to. Why it died, the queue knows; where an exchange leads,
`routing`."""

from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from pipeline.embedded.ground.shared import Shared
from pipeline.embedded.queues.entry import Entry, Home, Reason
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.vhosts.routing import Routing
from pipeline.embedded.wire import content
from pipeline.embedded.wire.content import DeadLetter, Message
from pipeline.embedded.wire.frames import FieldTable, FieldValue
from pipeline.embedded.wire.tables import short

MOST_AT_ONCE = 50_000  # letters, or
MOST_EACH = 100  # queues that a letter passes at one moment: far more than where none comes round
PAUSE_SECONDS = 60.0  # for those that are still on their way then


class DeadLetters:
    """The way of dead letters in one virtual host: one after the other, each when the queue it comes from is at rest.
    So chains of queues, however long, need no deeper stack."""

    def __init__(self, routing: Routing, shared: Shared) -> None:
        self._routing = routing
        self._shared = shared
        self._waiting: deque[Callable[[], None]] = deque()
        self._working = False

    def bury(self, entry: Entry, reason: Reason) -> None:
        """At most once: where the exchange is missing or routes nowhere, the message is gone."""
        self._waiting.append(partial(self._send, entry, reason))

    def later(self, act: Callable[[], None]) -> None:
        """Do something that changes other queues, in its turn."""
        self._waiting.append(act)

    def work(self) -> None:
        if self._working or not self._waiting:
            return
        self._working = True
        try:
            self._go_round()
        finally:
            self._working = False

    def _go_round(self) -> None:
        # RabbitMQ 3.10 does not see that a letter comes round between two queues if it was once rejected in a third.
        # If both keep nothing it never ends: such letters rest from time to time, so that all else goes on.
        for _ in range(max(MOST_AT_ONCE, MOST_EACH * len(self._waiting))):
            if not self._waiting:
                return
            self._waiting.popleft()()
        resting = list(self._waiting)
        self._waiting.clear()
        self._shared.timeline.after(PAUSE_SECONDS, partial(self._go_on_with, resting))

    def _go_on_with(self, acts: list[Callable[[], None]]) -> None:
        self._waiting.extend(acts)
        self.work()

    def _send(self, entry: Entry, reason: Reason) -> None:
        copy = self.copy(entry, reason)
        for target in self.targets(copy):
            self.tell(copy, target, reason)
            target.push_dead(copy)

    def tell(self, copy: DeadLetter, target: Home, reason: Reason) -> None:
        """That a dead letter has come to a queue."""
        journal = self._shared.journal
        if journal.open:
            journal.tell(
                "dead-lettered", message=copy, vhost=self._routing.vhost, queue=target.name, reason=reason.value
            )

    def targets(self, copy: DeadLetter) -> list[Queue]:
        """Without those the message has died in before and would come back to with no rejection on the way: it
        would go round for ever (RabbitMQ: "automatic dead-letter cycles" are dropped)."""
        return [queue for queue in self._routing.route_dead(copy) if not _comes_round(copy, queue.name)]

    def copy(self, entry: Entry, reason: Reason) -> DeadLetter:
        """With a routing key of the queue's own, the message's other keys (CC, BCC) count no more."""
        queue, message, apart = entry.queue, entry.message, self._shared.behaviour.deaths_apart
        exchange = str(queue.arguments["x-dead-letter-exchange"])
        own_key = queue.arguments.get("x-dead-letter-routing-key")
        key = message.routing_key if own_key is None else str(own_key)
        deaths = self._deaths(queue, message, reason)
        copy = DeadLetter(
            exchange,
            key,
            short(exchange) + short(key),
            content.rewrite(
                message.header,
                _headers(queue, message, reason, deaths, apart=apart),
                without=() if own_key is None or apart else ("CC",),
                drop_expiration=True,
            ),
            message.body,
            message.copies if own_key is None else (),
            message.blind_copies if own_key is None else (),
        )
        copy.deaths = deaths
        copy.failures = entry.failed or message.failures if apart else 0
        return copy

    def _deaths(self, queue: Home, message: Message, reason: Reason) -> list[FieldTable]:
        """Newest first, one entry per queue and reason. A repeated death keeps its first entry's time and counts
        on."""
        apart = self._shared.behaviour.deaths_apart
        before = message.deaths if apart else _published(message)
        death: FieldTable = {
            "count": 1,
            "reason": reason.value,
            "queue": queue.name,
            "time": datetime.fromtimestamp(int(self._shared.timeline.time), UTC),
            "exchange": message.exchange,
            "routing-keys": list(message.named_keys),
        }
        expiration = content.text(message.header, "expiration")
        if expiration is not None:
            death["original-expiration"] = str(int(expiration)) if apart else expiration
        for again in before:
            if _place(again) == _place(death):
                count = again.get("count")
                death = {**again, "count": (count if isinstance(count, int) else 0) + 1}
        return [death, *(each for each in before if _place(each) != _place(death))]


def _headers(queue: Home, message: Message, reason: Reason, deaths: list[FieldTable], *, apart: bool) -> FieldTable:
    headers: FieldTable = {"x-death": list(deaths)}
    names = {"exchange": message.exchange, "queue": queue.name, "reason": reason.value}
    if not message.deaths if apart else "x-death" not in message.headers:
        headers |= {f"x-first-death-{name}": value for name, value in names.items()}
    if apart:
        headers |= {f"x-last-death-{name}": value for name, value in names.items()}
    return headers


def _published(message: Message) -> list[FieldTable]:
    """RabbitMQ 3.10 goes on with what it finds in `x-death`, whoever wrote it, and starts anew where that is no
    array. It gathers those of one place, and turns the order round by that."""
    before = message.headers.get("x-death")
    tables = [each for each in before if isinstance(each, dict)] if isinstance(before, list) else []
    if len(tables) < 2:
        return tables
    same = Counter(map(_place, tables))
    found: dict[tuple[str, str], FieldTable] = {}
    for table in tables:
        found.setdefault(_place(table), {"count": same[_place(table)], **table})
    return list(reversed(found.values()))


def _place(death: FieldTable) -> tuple[str, str]:
    return str(death.get("queue")), str(death.get("reason"))


def _comes_round(copy: DeadLetter, name: str) -> bool:
    since: list[FieldValue] = []
    for death in copy.deaths:
        since.append(death.get("reason"))
        if death.get("queue") == name:
            return Reason.REJECTED.value not in since
    return False
