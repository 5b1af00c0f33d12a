"""What the broker sends on the channels that are ours, read straight from its octets: frames, deliveries, confirms,
returns. Pure; each offset with its paragraph of AMQP 0-9-1 (the specification, or `x.y` of its XML). What becomes of
what was read, and tables (the client's codec reads those), are not known here. Hot."""

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final

from pipeline.amqp.foreign import table

# A frame (4.2.3): type, channel and size in seven octets, the payload, and an end octet.
FRAME_HEADER: Final = Struct(">BHI")
PAYLOAD_AT: Final = 7
OUTSIDE_PAYLOAD: Final = 8
FRAME_END: Final = 0xCE
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8  # 4.2.3; RabbitMQ's heartbeats are of type 8, as 4.2.7 has them

# A method frame's payload (4.2.4): class-id and method-id, here read as one number, then the arguments.
DELIVER: Final = (
    60 << 16 | 60
)  # consumer-tag, delivery-tag, redelivered, exchange, routing-key (basic.deliver, 1.8.3.13)
RETURN: Final = 60 << 16 | 50  # reply-code, reply-text, exchange, routing-key (basic.return, 1.8.3.10)
ACK: Final = 60 << 16 | 80  # delivery-tag, multiple (basic.ack, 1.8.3.15)
NACK: Final = 60 << 16 | 120  # delivery-tag, then the bits multiple and requeue (RabbitMQ's extension basic.nack)
CONNECTION_BLOCKED: Final = 10 << 16 | 60  # and its end: RabbitMQ's extension
CONNECTION_UNBLOCKED: Final = 10 << 16 | 61
CHANNEL_OPEN_OK: Final = 20 << 16 | 11
CHANNEL_CLOSE: Final = 20 << 16 | 40
CHANNEL_CLOSE_OK: Final = 20 << 16 | 41

# The frame header with what follows it, so that a message costs few calls.
METHOD_START: Final = Struct(">BHIIB")  # ..., class and method, and the length of a short string as first argument
TAG_AND_REDELIVERED: Final = Struct(">Q?")
# A content header's payload (4.2.6.1): class-id, weight, body size, property flags, properties.
CONTENT_HEADER: Final = Struct(">BHIHHQ")
BODY_SIZE_AT: Final = 4  # in the payload
PROPERTY_FLAGS_AT: Final = 12
PROPERTIES_AT: Final = 14
CONFIRM: Final = Struct(">BHIIQB")  # a whole confirm but for its end octet
CONFIRM_LENGTH: Final = CONFIRM.size + 1

_FLAGS = Struct(">H")
_TABLE_SIZE = Struct(">I")  # 4.2.5.5
_TIMESTAMP = Struct(">Q")  # 4.2.5.4
_MORE_FLAGS = 1  # 4.2.6.1: the last bit says that another word of flags follows
_MESSAGE_ID = 1 << 7  # 1.8.1.9

_TEXT, _TABLE, _OCTET, _TIME = range(4)
# The properties of class basic (1.8.1) in the order of their flags, from bit 15 down.
_PROPERTIES = (
    *(("content_type", _TEXT), ("content_encoding", _TEXT), ("headers", _TABLE), ("delivery_mode", _OCTET)),
    *(("priority", _OCTET), ("correlation_id", _TEXT), ("reply_to", _TEXT), ("expiration", _TEXT)),
    *(("message_id", _TEXT), ("timestamp", _TIME), ("type", _TEXT), ("user_id", _TEXT), ("app_id", _TEXT)),
)

Properties = dict[str, str | int | bytes]


def short_string(data: bytes, at: int) -> tuple[str, int]:
    """A short string (4.2.5.3) and where it ends. Octets that are not UTF-8 are read as Latin-1, which has a character
    for each. Raises `IndexError` where it does not end in `data`."""
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError
    octets = data[at + 1 : end]
    try:
        return octets.decode(), end
    except UnicodeDecodeError:
        return octets.decode("latin-1"), end


def properties(data: bytes, at: int) -> Properties:
    """The properties of a content header, whose flags stand at `at`: only those that are there. `headers` are left as
    the octets of their table. What cannot be read, and what follows it, counts as absent: a message that means nothing
    to us must not cost more than itself."""
    found: Properties = {}
    try:
        (flags,) = _FLAGS.unpack_from(data, at)
        at += 2
        more = flags
        while more & _MORE_FLAGS:  # class basic has no properties there
            (more,) = _FLAGS.unpack_from(data, at)
            at += 2
        for name, kind in _present(flags):
            if kind == _TEXT:
                found[name], at = short_string(data, at)
            elif kind == _OCTET:
                found[name] = data[at]
                at += 1
            elif kind == _TIME:
                (found[name],) = _TIMESTAMP.unpack_from(data, at)
                at += 8
            else:
                end = at + 4 + _TABLE_SIZE.unpack_from(data, at)[0]
                if end > len(data):
                    break
                found[name] = data[at:end]
                at = end
    except (IndexError, StructError):
        pass
    return found


@lru_cache(maxsize=1_024)  # a program sends few kinds of messages; asking for each flag was most of the time
def _present(flags: int) -> tuple[tuple[str, int], ...]:
    return tuple(each for bit, each in enumerate(_PROPERTIES) if flags & 1 << 15 - bit)


def message_id(data: bytes, at: int) -> str | None:
    """The same for this property alone, which is asked for of nearly every message, and mostly of all it has."""
    try:
        (flags,) = _FLAGS.unpack_from(data, at)
        at += 2
        more = flags
        while more & _MORE_FLAGS:
            (more,) = _FLAGS.unpack_from(data, at)
            at += 2
        for kind in _up_to_message_id(flags):
            if kind == _OCTET:
                at += 1
            elif kind == _TEXT:
                at += 1 + data[at]
            else:
                at += 4 + _TABLE_SIZE.unpack_from(data, at)[0]
        return short_string(data, at)[0] if flags & _MESSAGE_ID else None
    except (IndexError, StructError):
        return None


@lru_cache(maxsize=1_024)
def _up_to_message_id(flags: int) -> tuple[int, ...]:
    """The kinds of what stands before it."""
    return tuple(kind for _, kind in _present(flags & ~(2 * _MESSAGE_ID - 1)))


def headers(octets: bytes) -> dict[str, object]:
    """A field table (4.2.5.5). One that cannot be read counts as empty."""
    try:
        return dict(table(octets)[1])
    except Exception:  # the client's codec raises what it comes upon
        return {}
