"""What goes out and how it ends: a message with its destination, the contract of a confirming channel, and what the end
of such a channel means for what was in flight on it. Which message takes which channel is not known here."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from aiormq import exceptions as client

from pipeline.amqp.faults import why_ended
from pipeline.errors import ConnectionLost, Nacked, PublishRefused, TooLarge, Unroutable
from pipeline.message import Message
from pipeline.values import Light


class Properties:
    """All that a message says beside its body and its id: that of `like`, which is not changed any more. Many messages
    may share it. `written`: what a line makes of it with the first of them, and keeps here for the others."""

    __slots__ = ("like", "written")

    def __init__(self, like: Message) -> None:
        self.like = like
        self.written: Any = None


class Outgoing(Light):
    """A message with its destination. `bounded`: `max_message_size` is for it."""

    bounded: ClassVar = True  # what is the same for nearly all is not written into each

    exchange: str
    routing_key: str
    mandatory: bool
    body: bytes
    message_id: str
    properties: Properties

    @classmethod
    def of(cls, message: Message, *, exchange: str, routing_key: str, mandatory: bool) -> "Outgoing":
        """A message that shares nothing with others. Its body is bytes, and it has its `message_id`."""
        return cls(exchange, routing_key, mandatory, message.body, message.message_id or "", Properties(message))

    @property
    def message(self) -> Message:
        """It as a whole, made anew each time."""
        like = self.properties.like
        shared = {name: getattr(like, name) for name in _SHARED}
        return Message(self.body, message_id=self.message_id or None, **shared)

    def __str__(self) -> str:
        where = f'exchange "{self.exchange}"' if self.exchange else "the default exchange"
        return f'{where} with routing key "{self.routing_key}"'


class Kept(Outgoing):
    """A copy of what came from a queue and is not to be lost, however large it is."""

    bounded = False


class Suspicious(ConnectionLost):
    """Raised when the channel was closed over one of several messages, and nobody can tell over which."""


_SHARED = (
    *("headers", "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to"),
    *("expiration", "timestamp", "type", "user_id", "app_id"),
)

Answered = Callable[[str, Exception | None], None]
"""Called by an outlet once for each message, when nothing more will be heard of it: its id, and how it failed."""


class Outlet(Protocol):
    """A channel with confirms to publish on. One message of an id is in flight on it at a time, since a returned
    message is known by its id."""

    @property
    def closed(self) -> bool:
        """Nothing must be written to it any more: RabbitMQ ends the connection over what comes for a closed channel."""
        ...

    def takes(self, message_id: str) -> bool:
        """Not `closed`, `free`, and it does not carry one of this id: asked for each message, and so in one."""
        ...

    @property
    def free(self) -> bool:
        """Whether a message would be on its way at once. False while the socket takes no more."""
        ...

    async def until_free(self) -> None:
        """Returns when it may be free again, with its channel's end at the latest."""
        ...

    def carries(self, message_id: str) -> bool: ...

    async def answered(self, message_id: str) -> None:
        """Returns when the message with this id has its answer, which comes with the channel's end at the latest."""
        ...

    def send(self, outgoing: Outgoing) -> asyncio.Future[None]:
        """The message is on its way when this returns; what it returns ends with the confirm. Whoever stops waiting
        leaves the message on its way. Raises as `Publisher.send` does, and `Suspicious`, then or at once."""
        ...

    def retire(self) -> None:
        """Nothing more will be sent: the channel is closed when nothing is in flight on it."""
        ...


def unroutable(outgoing: Outgoing, reason: str) -> Unroutable:
    return Unroutable(exchange=outgoing.exchange, routing_key=outgoing.routing_key, reason=reason)


def too_large(outgoing: Outgoing, longest: int) -> TooLarge:
    return TooLarge(
        f"a message to {outgoing} is too large: {len(outgoing.body)} bytes, and `max_message_size` is {longest} bytes"
    )


def nacked(outgoing: Outgoing) -> Nacked:
    return Nacked(f"the broker did not take a message to {outgoing} (basic.nack): is a queue full?")


def ended(error: BaseException | None, outgoing: Outgoing, *, in_flight: int) -> Exception:
    """What the end of its channel means for a message in flight. `in_flight`: how many there were then."""
    if not isinstance(error, client.ChannelClosed):
        return ConnectionLost(
            f"the connection ended before the broker confirmed a message to {outgoing} ({why_ended(error)}); "
            "it may have arrived"
        )
    if in_flight == 1:
        return PublishRefused(f"the broker refused a message to {outgoing}: {why_ended(error)}")
    return Suspicious(
        f"the broker refused one of {in_flight} messages ({why_ended(error)}); one to {outgoing} was among "
        "them and is not confirmed"
    )
