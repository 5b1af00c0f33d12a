"""A message, and its ways home. `Message` is what handlers get and return: body, headers, properties. `Delivery` is a
message that came from a queue, with what may be done with it. Channels, tags and the client are not known here."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

from pipeline.errors import SettlementError

Headers = dict[str, object]


class Message:
    """One message, received or to be sent.

    `body` is bytes on a received message; on one to be sent it may be any value: bytes stay, text becomes UTF-8,
    anything else JSON. Properties are AMQP's, None where they are absent. `expiration` is in milliseconds, `timestamp`
    in seconds since 1970. On a received message `exchange` and `routing_key` say how it was first published; on one
    that a handler returns they overrule the consumer's `publish`.
    """

    __slots__ = (
        "_settle",
        "app_id",
        "attempt",
        "body",
        "content_encoding",
        "content_type",
        "correlation_id",
        "delivery_mode",
        "exchange",
        "expiration",
        "headers",
        "message_id",
        "priority",
        "queue",
        "redelivered",
        "reply_to",
        "routing_key",
        "timestamp",
        "type",
        "user_id",
    )

    def __init__(
        self,
        body: object = b"",
        *,
        headers: Mapping[str, object] | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        delivery_mode: Literal["persistent", "transient"] | None = None,
        priority: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration: int | None = None,
        message_id: str | None = None,
        timestamp: int | None = None,
        type: str | None = None,
        user_id: str | None = None,
        app_id: str | None = None,
        exchange: str | None = None,
        routing_key: str | None = None,
        queue: str = "",
        redelivered: bool = False,
        attempt: int = 1,
    ) -> None:
        self.body: Any = body  # bytes when received; Any, so that a handler may say message.body.decode()
        self.headers: Headers = dict(headers) if headers else {}
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.delivery_mode = delivery_mode
        self.priority = priority
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.expiration = expiration
        self.message_id = message_id
        self.timestamp = timestamp
        self.type = type
        self.user_id = user_id
        self.app_id = app_id
        self.exchange = exchange
        self.routing_key = routing_key
        self.queue = queue
        self.redelivered = redelivered
        self.attempt = attempt
        self._settle: Settle | None = None

    def mentions(self, name: bytes) -> bool:
        """Whether it is worth looking for a header of this name: cheap, and right where it says no."""
        return name.decode() in self.headers

    async def ack(self) -> None:
        """Acknowledge, with `ack: manual`. Waits until everything published through `context.publish` for this
        message is confirmed. Raises `SettlementError` when the message was settled before or is not yours to settle."""
        await self._settled_by("ack", None)

    async def reject(self, reason: str = "rejected") -> None:
        """Send to the dead-letter queue with that reason, with `ack: manual`. Raises as `ack` does."""
        await self._settled_by("reject", reason)

    async def retry(self, after: str | float | None = None) -> None:
        """Give back for a later attempt, with `ack: manual`; `after` as in `Retry`. Raises as `ack` does."""
        await self._settled_by("retry", after)

    def hand_over(self, settle: "Settle") -> None:
        """From now on the holder of this message settles it. Called by the runtime in `ack: manual`."""
        self._settle = settle

    async def _settled_by(self, way: "Way", argument: str | float | None) -> None:
        if self._settle is None:
            raise SettlementError(
                f"message.{way}() is for consumers with `ack: manual`; elsewhere return, or raise Reject or Retry"
            )
        await self._settle(way, argument)

    def __repr__(self) -> str:
        size = len(self.body) if isinstance(self.body, bytes) else "?"
        return f"<Message {self.message_id or 'without id'} from {self.queue or self.routing_key!r}, {size} bytes>"


Way = Literal["ack", "reject", "retry"]
Settle = Callable[[Way, str | float | None], Awaitable[None]]


class Delivery(Protocol):
    """A message on its way through this process, and its ways home. Each delivery is settled at most once; a second
    settling call raises `SettlementError` before anything reaches the broker (a second ack would cost the channel,
    AMQP 0-9-1, basic.ack, rule "delivery-tag-exists"). All ways raise `ChannelGone` when the channel has ended: the
    broker then delivers the message again."""

    @property
    def message(self) -> Message: ...

    @property
    def alive(self) -> bool:
        """Whether the channel it came on is still open."""
        ...

    async def ack(self) -> None: ...

    async def nack(self) -> None:
        """Give it back innocent: basic.nack with requeue, which RabbitMQ 4.3 does not count as a failure."""
        ...

    async def reject(self, *, requeue: bool) -> None:
        """Give it back failed: basic.reject, which a quorum queue's delivery limit counts."""
        ...
