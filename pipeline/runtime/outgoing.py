"""From a value to a message on its way out: the body encoded, the properties that `publish` asks for, the target. Who
made the value, and when it counts as sent, is not known here. Hot: `Stamp`."""

from collections.abc import Mapping

from pipeline.amqp.publish import Outgoing, Properties
from pipeline.codec import EncodeError, encode
from pipeline.config.model import Publish
from pipeline.failure.headers import ATTEMPT
from pipeline.message import Message


class Stamp:
    """`outgoing` for one `publish`: plain values share their properties, one set for each content type, and what the
    line makes of them. Looking at each property again on both sides costs more than all the rest."""

    __slots__ = ("_exchange", "_mandatory", "_properties", "_publish", "_routing_key")

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._exchange, self._routing_key, self._mandatory = publish.exchange, publish.routing_key, publish.mandatory
        self._properties: dict[str | None, Properties] = {}  # by what `encode` calls the body

    def outgoing(self, value: object, message_id: str) -> Outgoing:
        if isinstance(value, Message):
            return outgoing(value, self._publish, message_id=message_id)
        body, content_type = encode(value)
        properties = self._properties.get(content_type)
        if properties is None:
            properties = outgoing(value, self._publish, message_id=message_id).properties
            self._properties[content_type] = properties
        return Outgoing(self._exchange, self._routing_key, self._mandatory, body, message_id, properties)


def outgoing(
    value: object, publish: Publish, *, message_id: str, headers: Mapping[str, object] | None = None
) -> Outgoing:
    """`value` as `publish` says. A `Message` keeps what it carries itself: its exchange, routing key, headers and
    properties overrule, and its own `message_id` stays. One that was received is passed on: where it came from, and
    who sent it, does not overrule, and how often it failed there is left behind. `headers` overrule all others. Raises
    `codec.EncodeError` for what cannot be a body, or an id."""
    message = value if isinstance(value, Message) else Message(value)
    received = bool(message.queue)
    body, content_type = encode(message.body)
    if not isinstance(message.message_id, str | None):
        raise EncodeError(f"its message_id is of type {type(message.message_id).__name__}, and AMQP's is text")
    own = {**publish.headers, **message.headers}
    if received:
        own.pop(ATTEMPT, None)  # it counts what happened in the queue that it came from
    return Outgoing.of(
        Message(
            body,
            headers={**own, **(headers or {})},
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
        exchange=publish.exchange if message.exchange is None or received else message.exchange,
        routing_key=publish.routing_key if message.routing_key is None or received else message.routing_key,
        mandatory=publish.mandatory,
    )


def _expiration(message: Message, publish: Publish) -> int | None:
    if message.expiration is not None:
        return message.expiration
    return None if publish.expiration is None else round(publish.expiration * 1000)
