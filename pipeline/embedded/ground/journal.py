"""What happens in the broker, as small records for those who want to assert on it. The parts tell it here, and only
while somebody listens; which of it a test waits for, and how, is `event_log`'s."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.embedded.ground.timeline import Timeline
from pipeline.embedded.wire.content import Message, text

BODY_KEPT = 256  # octets of a body that a record shows, so that a log of large messages stays small

Kind = Literal[
    "connection opened",
    "connection closed",
    "channel opened",
    "channel closed",
    "exchange declared",
    "exchange deleted",
    "queue declared",
    "queue deleted",
    "consumer added",
    "consumer cancelled",
    "published",
    "returned",
    "confirmed",
    "nacked",
    "delivered",
    "acknowledged",
    "rejected",
    "requeued",
    "expired",
    "dead-lettered",
    "dropped",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that has happened, at `time`, in seconds since 1970 as messages count them. What does not apply is
    empty. `connection` is the peer's address, `name` what the client calls itself; `tag` is a delivery tag or, of
    confirms, the message's number on its channel; `body` is no more than the first octets; `reason` says why."""

    kind: Kind
    time: float
    connection: str = ""
    name: str = ""
    channel: int = 0
    vhost: str = ""
    exchange: str = ""
    routing_key: str = ""
    queue: str = ""
    consumer: str = ""
    tag: int = 0
    redelivered: bool = False
    message_id: str = ""
    body: bytes = b""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Who:
    """A client, or one of its channels, as records name it."""

    connection: str
    name: str
    vhost: str
    channel: int = 0


class Journal:
    """`open` is there to be asked before anything is told: as long as nobody listens, that is all it costs."""

    def __init__(self, timeline: Timeline) -> None:
        self.open = False
        self._timeline = timeline
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)
        self.open = True

    def leave(self, listener: Callable[[Event], None]) -> None:
        self._listeners.remove(listener)
        self.open = bool(self._listeners)

    def tell(
        self,
        kind: Kind,
        who: Who | None = None,
        message: Message | None = None,
        *,
        vhost: str = "",
        exchange: str = "",
        queue: str = "",
        consumer: str = "",
        tag: int = 0,
        redelivered: bool = False,
        reason: str = "",
    ) -> None:
        event = Event(
            kind=kind,
            time=self._timeline.time,
            connection=who.connection if who else "",
            name=who.name if who else "",
            channel=who.channel if who else 0,
            vhost=who.vhost if who else vhost,
            exchange=message.exchange if message else exchange,
            routing_key=message.routing_key if message else "",
            queue=queue,
            consumer=consumer,
            tag=tag,
            redelivered=redelivered,
            message_id=(text(message.header, "message_id") or "") if message else "",
            body=message.body[:BODY_KEPT] if message else b"",
            reason=reason,
        )
        for listener in self._listeners:
            listener(event)

    def tell_if_open(
        self,
        kind: Kind,
        who: Who | None = None,
        *,
        vhost: str = "",
        exchange: str = "",
        queue: str = "",
        reason: str = "",
    ) -> None:
        """For what does not happen once per message."""
        if self.open:
            self.tell(kind, who, vhost=vhost, exchange=exchange, queue=queue, reason=reason)
