"""What becomes of a message that a queue gets rid of: the copy that goes to the dead-letter exchange, with its
history in `x-death`. Where the copy is routed, and which queue keeps it, is `vhost`'s business."""

from collections.abc import Iterable
from datetime import UTC, datetime

from pipeline.embedded import content, frames
from pipeline.embedded.content import Message
from pipeline.embedded.frames import FieldTable, FieldValue
from pipeline.embedded.queue import Queue, Reason


def dead_letter(message: Message, queue: Queue, reason: Reason, now: float) -> Message | None:
    """The copy for the queue's dead-letter exchange; None where it has none (the message is gone then).
    `now` is in seconds since 1970."""
    exchange = queue.arguments.get("x-dead-letter-exchange")
    if not isinstance(exchange, str):
        return None
    routing_key = queue.arguments.get("x-dead-letter-routing-key", message.routing_key)
    assert isinstance(routing_key, str)  # arguments are checked when the queue is declared
    return Message(
        exchange,
        routing_key,
        frames.short(exchange) + frames.short(routing_key),
        content.rewrite(message.header, _headers(message, queue, reason, now), drop_expiration=True),
        message.body,
    )


def _headers(message: Message, queue: Queue, reason: Reason, now: float) -> FieldTable:
    death: FieldTable = {
        "count": 1,
        "reason": reason.value,
        "queue": queue.name,
        "time": datetime.fromtimestamp(now, UTC),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key],
    }
    expiration = content.text(message.header, "expiration")
    if expiration is not None:
        death["original-expiration"] = expiration
    headers: FieldTable = {"x-death": _history(message.headers.get("x-death"), death)}
    if "x-first-death-reason" not in message.headers:
        headers["x-first-death-reason"] = reason.value
        headers["x-first-death-queue"] = queue.name
        headers["x-first-death-exchange"] = message.exchange
    return headers


def _history(before: FieldValue, death: FieldTable) -> list[FieldValue]:
    """Newest first, one entry per queue and reason. A repeated death keeps its first entry's time and counts on."""
    # RabbitMQ starts anew where a publisher wrote something else under this name.
    entries = [entry for entry in before if isinstance(entry, dict)] if isinstance(before, list) else []
    same = [entry for entry in entries if _place(entry) == _place(death)]
    others: list[FieldValue] = [entry for entry in entries if _place(entry) != _place(death)]
    if not same:
        return [death, *others]
    count = same[0].get("count")
    again = {**same[0], "count": (count if isinstance(count, int) else len(same)) + 1}
    return [again, *others]


def _place(entry: FieldTable) -> tuple[FieldValue, FieldValue]:
    return entry.get("queue"), entry.get("reason")


def outside_a_circle(copy: Message, queues: Iterable[Queue]) -> list[Queue]:
    """Without those the message has died in before and has come back to with no rejection on the way: it would
    go round for ever (RabbitMQ: "automatic dead-letter cycles" are dropped)."""
    return [queue for queue in queues if not _comes_round(copy, queue.name)]


def _comes_round(copy: Message, name: str) -> bool:
    deaths = copy.headers["x-death"]
    assert isinstance(deaths, list)  # written above
    since: list[FieldValue] = []
    for death in deaths:
        assert isinstance(death, dict)
        since.append(death.get("reason"))
        if death.get("queue") == name:
            return Reason.REJECTED.value not in since
    return False
