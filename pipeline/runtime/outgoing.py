"""From a value to a message on its way out: the body encoded, the properties that `publish` asks for, the target. Who
made the value, and when it counts as sent, is not known here. Hot: `Stamp`."""

from typing import Any

from pipeline.amqp.publish import Outgoing
from pipeline.codec import encode
from pipeline.config.model import Publish
from pipeline.message import Message


class Stamp:
    """`outgoing` for one `publish`: what it adds to each plain value is gathered once, since most of the properties are
    absent, and looking at each of them on both sides costs more than all the rest."""

    __slots__ = ("_content_type", "_properties", "_publish")

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._content_type = publish.content_type
        own = outgoing(b"", publish, message_id="").message
        names = ("content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration", "type")
        self._properties: dict[str, Any] = {
            name: value for name in (*names, "app_id", "headers") if (value := getattr(own, name)) not in (None, {})
        }

    def outgoing(self, value: object, message_id: str) -> Outgoing:
        publish = self._publish
        if isinstance(value, Message):
            return outgoing(value, publish, message_id=message_id)
        body, content_type = encode(value)
        return Outgoing(
            exchange=publish.exchange,
            routing_key=publish.routing_key,
            mandatory=publish.mandatory,
            message=Message(
                body, content_type=self._content_type or content_type, message_id=message_id, **self._properties
            ),
        )


def outgoing(value: object, publish: Publish, *, message_id: str) -> Outgoing:
    """`value` as `publish` says. A `Message` keeps what it carries itself: its exchange, routing key, headers and
    properties overrule, and its own `message_id` stays. One that was received is passed on: where it came from, and
    who sent it, does not overrule. Raises `codec.EncodeError` for what cannot be a body."""
    message = value if isinstance(value, Message) else Message(value)
    received = bool(message.queue)
    body, content_type = encode(message.body)
    return Outgoing(
        exchange=publish.exchange if message.exchange is None or received else message.exchange,
        routing_key=publish.routing_key if message.routing_key is None or received else message.routing_key,
        mandatory=publish.mandatory,
        message=Message(
            body,
            headers={**publish.headers, **message.headers},
            content_type=message.content_type or publish.content_type or content_type,
            content_encoding=message.content_encoding or publish.content_encoding,
            delivery_mode=message.delivery_mode or publish.delivery_mode,
            priority=publish.priority if message.priority is None else message.priority,
            correlation_id=message.correlation_id or publish.correlation_id,
            reply_to=message.reply_to or publish.reply_to,
            expiration=_expiration(message, publish),
            message_id=message.message_id or message_id,
            timestamp=message.timestamp,
            type=message.type or publish.type,
            user_id=None if received else message.user_id,
            app_id=message.app_id or publish.app_id,
        ),
    )


def _expiration(message: Message, publish: Publish) -> int | None:
    if message.expiration is not None:
        return message.expiration
    return None if publish.expiration is None else round(publish.expiration * 1000)
