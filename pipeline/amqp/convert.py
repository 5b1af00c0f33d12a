"""The client's message to `Message` and back, both directions side by side, each property as it was or absent. Goes
below aio-pika's message class, whose defaults change what they carry. Everything else is not known here."""

import struct
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable

from pipeline.amqp.foreign import SentTime
from pipeline.config.model import DeliveryMode
from pipeline.message import Message

_TRANSIENT, _PERSISTENT = 1, 2  # AMQP 0-9-1, basic, delivery-mode
DELIVERY_MODES: dict[int | None, DeliveryMode] = {_TRANSIENT: "transient", _PERSISTENT: "persistent"}
_FIELD = 16  # octets that the type and length of a header take at most, with some to spare
_FRAME_OVERHEAD = 8 + 14  # octets round the properties in their frame (AMQP 0-9-1, 4.2.3 and 4.2.6.1)

# What the codec raises for values that AMQP cannot carry.
UNWRITABLE = (TypeError, ValueError, OverflowError, AttributeError, struct.error)


def to_message(incoming: DeliveredMessage, queue: str) -> Message:
    """What came from `queue`. Never fails: a property that means nothing counts as absent."""
    properties = incoming.header.properties
    deliver = incoming.delivery
    assert isinstance(deliver, Basic.Deliver | Basic.GetOk)
    return Message(
        incoming.body,
        headers=properties.headers,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        delivery_mode=DELIVERY_MODES.get(properties.delivery_mode),
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=milliseconds(properties.expiration),
        message_id=properties.message_id,
        timestamp=_seconds(properties.timestamp),
        type=properties.message_type,
        user_id=properties.user_id,
        app_id=properties.app_id,
        exchange=deliver.exchange,
        routing_key=deliver.routing_key,
        queue=queue,
        redelivered=bool(deliver.redelivered),
    )


def to_properties(message: Message) -> Basic.Properties:
    """What goes out: persistent unless the message says otherwise. Headers keep their values, with two exceptions that
    AMQP's table does not know: bytes become a byte array, tuples a list. Raises `TypeError` for a header that cannot be
    written."""
    return Basic.Properties(
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=to_table(message.headers) if message.headers else None,
        delivery_mode=_TRANSIENT if message.delivery_mode == "transient" else _PERSISTENT,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expiration is None else str(message.expiration),
        message_id=message.message_id,
        timestamp=message.timestamp,  # type: ignore[arg-type]  # written as it is, see `foreign.encode_timestamp`
        message_type=message.type,
        user_id=message.user_id,
        app_id=message.app_id,
    )


def room_for_properties(frame_max: int) -> int:
    """Octets for headers and properties, which are one frame; 0 in `connection.tune` means no limit. RabbitMQ answers a
    longer one by ending the connection, with all that is on it."""
    return frame_max - _FRAME_OVERHEAD if frame_max else sys.maxsize


def longest(headers: object) -> int:
    """How many octets these headers take on the wire at most. Cheap, for it is asked for each message."""
    if isinstance(headers, str):
        return _FIELD + 4 * len(headers)
    if isinstance(headers, bytes | bytearray):
        return _FIELD + len(headers)
    if isinstance(headers, Mapping):
        return _FIELD + sum(longest(name) + longest(value) for name, value in headers.items())
    if isinstance(headers, list | tuple):
        return _FIELD + sum(map(longest, headers))
    return _FIELD


def to_table(headers: Mapping[str, object]) -> FieldTable:
    """Headers as the codec can write them. Raises `TypeError` for a name that is not text."""
    return cast(FieldTable, _table(headers))


def milliseconds(expiration: str | None) -> int | None:
    # RabbitMQ refuses what is not a number; other brokers may not.
    return int(expiration) if expiration and expiration.isdecimal() else None


def _seconds(timestamp: datetime | None) -> int | None:
    if timestamp is None:
        return None
    return timestamp.number if isinstance(timestamp, SentTime) else int(timestamp.timestamp())


def _table(headers: Mapping[str, object]) -> dict[str, object]:
    for name in headers:
        if not isinstance(name, str):
            raise TypeError(f"the name of header {name!r} is not text")
    return {name: _field(value) for name, value in headers.items()}


def _field(value: object) -> object:
    match value:
        case str() | int():
            return value
        case bytes():
            return bytearray(value)
        case list() | tuple():
            return [_field(each) for each in value]
        case Mapping():
            return _table(value)
        case _:
            return value
