"""What we send on the channels that are ours, as octets: settlements and publishes. Pure; each field with its paragraph
of AMQP 0-9-1 (the specification, or `x.y` of its XML). When it is sent is not known here. Hot."""

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct
from typing import Final

from pamqp import encode

from pipeline.amqp.convert import room_for_properties, to_table
from pipeline.amqp.outlet import Outgoing
from pipeline.message import Message

# A frame (4.2.3): type, channel, size, payload, end octet.
_FRAME = Struct(">BHI")
_END: Final = b"\xce"
_METHOD, _HEADER, _BODY = 1, 2, 3
OUTSIDE_PAYLOAD: Final = 8

_BASIC: Final = 60
_PUBLISH, _REJECT, _ACK, _NACK = (
    40,
    90,
    80,
    120,
)  # basic.publish 1.8.3.7, .reject 1.8.3.16, .ack 1.8.3.15; RabbitMQ's .nack
_MULTIPLE, _REQUEUE_NACKED = 1, 2  # bits are packed from the lowest (4.2.5.2): basic.nack has multiple, then requeue
_SETTLEMENT = Struct(">BHIHHQBB")  # a whole frame, end octet included: class, method, delivery-tag, bits
_SETTLEMENT_SIZE = 2 + 2 + 8 + 1
_END_OCTET = 0xCE

# Flags of the properties of class basic (1.8.1), from bit 15 down in the order in which they are written.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _PRIORITY = (1 << bit for bit in range(15, 10, -1))
_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID, _TIMESTAMP = (1 << bit for bit in range(10, 5, -1))
_TYPE, _USER_ID, _APP_ID = (1 << bit for bit in range(5, 2, -1))
_TRANSIENT, _PERSISTENT = b"\1", b"\2"  # delivery-mode

_CONTENT_HEADER = Struct(">BHIHHQH")  # a frame header, then class-id, weight, body size, property flags (4.2.6.1)
_IN_CONTENT_HEADER = 2 + 2 + 8 + 2
_FLAGS_SIZE = 2
_ALWAYS_ROOM = 2_048  # no peer may ask for frames below 4,096 octets (the XML's frame-min-size)
_TIME = Struct(">Q")


def basic_ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """basic.ack; `multiple`: all up to and including this tag."""
    return _SETTLEMENT.pack(_METHOD, channel, _SETTLEMENT_SIZE, _BASIC, _ACK, tag, _MULTIPLE * multiple, _END_OCTET)


def basic_nack(channel: int, tag: int) -> bytes:
    """basic.nack with requeue, for one message."""
    return _SETTLEMENT.pack(_METHOD, channel, _SETTLEMENT_SIZE, _BASIC, _NACK, tag, _REQUEUE_NACKED, _END_OCTET)


def basic_reject(channel: int, tag: int, *, requeue: bool) -> bytes:
    """basic.reject."""
    return _SETTLEMENT.pack(_METHOD, channel, _SETTLEMENT_SIZE, _BASIC, _REJECT, tag, requeue, _END_OCTET)


def publish(channel: int, outgoing: Outgoing, *, frame_max: int) -> tuple[bytes, bytes]:
    """basic.publish, its content header, and the body where it fits into one frame; else it comes back as the rest, for
    `long_body`. Raises `ValueError` and what else is in `convert.UNWRITABLE` for what AMQP cannot carry."""
    properties = outgoing.properties
    written = properties.written
    if written is None:
        written = properties.written = _written(properties.like)
    flags, size, before, after = written
    body, message_id = outgoing.body, b""
    if outgoing.message_id:
        flags |= _MESSAGE_ID
        message_id = _short_string(outgoing.message_id, "message_id")
    length = len(body)
    size += len(message_id)
    if size > _ALWAYS_ROOM and _FLAGS_SIZE + size > (room := room_for_properties(frame_max)):
        raise ValueError(f"headers and properties take {_FLAGS_SIZE + size} bytes, and the broker allows {room}")
    method = _publish_method(channel, outgoing.exchange, outgoing.routing_key, outgoing.mandatory)
    header = _CONTENT_HEADER.pack(_HEADER, channel, _IN_CONTENT_HEADER + size, _BASIC, 0, length, flags)
    if not length or (frame_max and length > frame_max - OUTSIDE_PAYLOAD):  # empty is no body frame (4.2.6.2)
        return b"".join((method, header, before, message_id, after, _END)), body
    frame = _FRAME.pack(_BODY, channel, length)
    return b"".join((method, header, before, message_id, after, _END, frame, body, _END)), b""


def long_body(channel: int, octets: bytes, *, frame_max: int) -> Iterator[bytes]:
    """One that does not, a frame at a time."""
    whole, most = memoryview(octets), frame_max - OUTSIDE_PAYLOAD
    for at in range(0, len(octets), most):
        piece = whole[at : at + most]
        yield b"".join((_FRAME.pack(_BODY, channel, len(piece)), piece, _END))


@lru_cache(maxsize=1_024)  # a program publishes to few places; a place costs four times as much as looking it up
def _publish_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """reserved-1, exchange, routing-key, and the bits mandatory and immediate."""
    payload = b"".join(
        (
            _IDS.pack(_BASIC, _PUBLISH),
            b"\0\0",
            _short_string(exchange, "exchange"),
            _short_string(routing_key, "routing key"),
            bytes([mandatory]),
        )
    )
    return _FRAME.pack(_METHOD, channel, len(payload)) + payload + _END


_IDS = Struct(">HH")


def _written(message: Message) -> tuple[int, int, bytes, bytes]:
    """Flags, and values before and behind the message-id, which stands between them, with the size of both: persistent
    unless the message says otherwise; an empty text is absent, as the client has it."""
    flags = _DELIVERY_MODE
    before: list[bytes] = []
    after: list[bytes] = []
    if message.content_type:
        flags |= _CONTENT_TYPE
        before.append(_short_string(message.content_type, "content_type"))
    if message.content_encoding:
        flags |= _CONTENT_ENCODING
        before.append(_short_string(message.content_encoding, "content_encoding"))
    if message.headers:
        flags |= _HEADERS
        before.append(encode.field_table(to_table(message.headers)))
    before.append(_TRANSIENT if message.delivery_mode == "transient" else _PERSISTENT)
    if message.priority is not None:
        flags |= _PRIORITY
        before.append(bytes([message.priority]))
    if message.correlation_id:
        flags |= _CORRELATION_ID
        before.append(_short_string(message.correlation_id, "correlation_id"))
    if message.reply_to:
        flags |= _REPLY_TO
        before.append(_short_string(message.reply_to, "reply_to"))
    if message.expiration is not None:
        flags |= _EXPIRATION
        before.append(_short_string(str(message.expiration), "expiration"))
    if message.timestamp is not None:
        flags |= _TIMESTAMP
        after.append(_TIME.pack(message.timestamp))
    if message.type:
        flags |= _TYPE
        after.append(_short_string(message.type, "type"))
    if message.user_id:
        flags |= _USER_ID
        after.append(_short_string(message.user_id, "user_id"))
    if message.app_id:
        flags |= _APP_ID
        after.append(_short_string(message.app_id, "app_id"))
    values = b"".join(before), b"".join(after)
    return flags, len(values[0]) + len(values[1]), *values


def _short_string(text: str, name: str) -> bytes:
    """At most 255 octets (4.2.5.3)."""
    octets = text.encode()
    if len(octets) > 255:
        raise ValueError(f"its {name} takes {len(octets)} bytes, and AMQP allows 255")
    return _ONE_OCTET[len(octets)] + octets


_ONE_OCTET = [bytes([number]) for number in range(256)]
