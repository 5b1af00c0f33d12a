"""Bytes to whole frames and back. Knows the seven-byte frame header, the end octet, the layout of methods and
of table values (through pamqp, which no other file of the broker imports). What a method means, and when it
may come, is for `connection` and `channel`."""

import struct
from collections.abc import Iterator
from typing import ClassVar

from pamqp import base, commands, decode, encode, exceptions
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx
from pamqp.common import FieldTable, FieldValue

from pipeline.embedded import refusals, tables
from pipeline.embedded.tables import Table

__all__ = [
    "Basic",
    "Channel",
    "Confirm",
    "Connection",
    "Exchange",
    "FieldTable",
    "FieldValue",
    "Queue",
    "Tx",
]

Frame = tuple[int, int, bytes]

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00" + END
OVERHEAD = 8  # seven octets of frame header and the end octet
SMALLEST_FRAME_MAX = 4096  # specification, tune: what any peer takes before it is negotiated

_head = struct.Struct(">BHI")

# All that pamqp raises on octets that make no sense.
_UNDECODABLE = (
    exceptions.UnmarshalingException,
    ValueError,
    struct.error,
    IndexError,
    TypeError,
    ArithmeticError,
    OSError,
    RecursionError,
)


# Cutting


class Cutter:
    """Takes bytes as they come, gives whole frames. Holds at most one frame and what came with it."""

    def __init__(self) -> None:
        self.frame_max = SMALLEST_FRAME_MAX
        self._buffer = b""
        self._at = 0

    def feed(self, octets: bytes) -> None:
        self._buffer = self._buffer[self._at :] + octets if self._at < len(self._buffer) else octets
        self._at = 0

    def protocol_header(self) -> bytes | None:
        """The first eight octets of a connection, as soon as they are there or can no longer be ours."""
        first = self._buffer[: len(PROTOCOL_HEADER)]
        if len(first) < len(PROTOCOL_HEADER) and PROTOCOL_HEADER.startswith(first):
            return None
        self._at = len(first)
        return first

    def frames(self) -> Iterator[Frame]:
        """Type, channel and payload of each whole frame. Refuses (501) what is too long or ends wrongly."""
        while len(self._buffer) - self._at >= _head.size:
            kind, channel, size = _head.unpack_from(self._buffer, self._at)
            # RabbitMQ counts the payload alone against frame_max, for clients that reckon without the overhead.
            if size > self.frame_max:
                raise refusals.frame_error(kind, f"{{frame_too_large,{size},{self.frame_max - OVERHEAD}}}")
            start = self._at + 7
            end = start + size
            if end >= len(self._buffer):
                return
            payload = self._buffer[start:end]
            # The codec does not look at the end octet of a heartbeat, so it is looked at here for all frames.
            if self._buffer[end] != 0xCE:
                what = f"{{invalid_frame_end_marker,{self._buffer[end]}}}"
                raise refusals.frame_error(kind, what, payload)
            self._at = end + 1
            yield kind, channel, payload


# Methods in


class Publish:
    """basic.publish, decoded by hand because it comes once per message. `address` is exchange and routing key as
    they lie on the wire: they go out again in deliver, get-ok and return without being encoded anew."""

    __slots__ = ("address", "exchange", "immediate", "mandatory", "routing_key")
    name: ClassVar[str] = Basic.Publish.name
    index: ClassVar[int] = Basic.Publish.index

    def __init__(self, payload: bytes) -> None:
        # Layout (specification, basic.publish): ticket short, exchange shortstr, routing key shortstr, two bits.
        key = 7 + payload[6]
        bits = key + 1 + payload[key]
        if bits + 1 != len(payload):
            raise ValueError("basic.publish has another length")
        # Keys are octets: those that are not UTF-8 must come out as they came in.
        self.exchange = payload[7:key].decode(errors="surrogateescape")
        self.routing_key = payload[key + 1 : bits].decode(errors="surrogateescape")
        self.mandatory = bool(payload[bits] & 1)
        self.immediate = bool(payload[bits] & 2)
        self.address = payload[6:bits]


class Ack:
    """basic.ack, decoded by hand for the same reason."""

    __slots__ = ("delivery_tag", "multiple")
    name: ClassVar[str] = Basic.Ack.name
    index: ClassVar[int] = Basic.Ack.index
    _layout = struct.Struct(">Q?")

    def __init__(self, payload: bytes) -> None:
        self.delivery_tag, self.multiple = self._layout.unpack_from(payload, 4)


Method = base.Frame | Publish | Ack
Answer = base.Frame  # what goes out is always pamqp's

_PUBLISH = Publish.index.to_bytes(4)
_OFTEN: dict[bytes, type[Publish] | type[Ack]] = {
    _PUBLISH: Publish,
    Ack.index.to_bytes(4): Ack,
}


def decode_method(payload: bytes) -> Method:
    """Refuses unknown methods (503) and arguments that cannot be read (502)."""
    often = _OFTEN.get(payload[:4])
    kind: type[Method] | None = often or commands.INDEX_MAPPING.get(int.from_bytes(payload[:4]))
    if kind is None:
        raise refusals.unknown_method(*ids_of(payload))
    try:
        return often(payload) if often else _decode(kind, payload)
    except _UNDECODABLE:
        raise refusals.undecodable(_words(kind.name)) from None


def _decode(kind: type[Method], payload: bytes) -> Method:
    known: type[base.Frame] = commands.INDEX_MAPPING[kind.index]
    method = known.__new__(known)  # past __init__, where pamqp warns of methods that are out of fashion
    if not isinstance(method, WithArguments):
        method.unmarshal(payload[4:])
        return method
    kinds = _kinds(payload, _NAMES_BEFORE[type(method)])
    method.unmarshal(payload[4:])
    method.arguments = Table(method.arguments or {}, kinds)
    return method


WithArguments = Queue.Declare | Queue.Bind | Exchange.Declare | Exchange.Bind | Basic.Consume

# These have the same layout: ticket short, so many shortstr, one octet of bits, the table of arguments.
_NAMES_BEFORE: dict[type[base.Frame], int] = {
    Queue.Declare: 1,
    Queue.Bind: 3,
    Exchange.Declare: 2,
    Exchange.Bind: 3,
    Basic.Consume: 2,
}


def _kinds(payload: bytes, names: int) -> dict[str, str]:
    """RabbitMQ names the types of arguments in its refusals; pamqp's values no longer tell them."""
    at = 6
    for _ in range(names):
        at += 1 + payload[at]
    try:
        return tables.kinds(payload[at + 5 :])
    except ValueError:
        raise refusals.malformed("a table of arguments") from None


def is_publish(kind: int, payload: bytes) -> bool:
    return kind == METHOD and payload[:4] == _PUBLISH


def arguments_of(method: WithArguments) -> Table:
    """The arguments of a method that came in, with their types on the wire."""
    assert isinstance(method.arguments, Table)  # see `decode_method`
    return method.arguments


def _words(name: str) -> str:
    group, _, rest = name.partition(".")
    return group.lower() + "." + "".join("_" + c.lower() if c.isupper() else c for c in rest).lstrip("_")


def ids_of(payload: bytes) -> tuple[int, int]:
    """Class and method id, for the close that answers a method; zeros where it answers none."""
    return int.from_bytes(payload[:2]), int.from_bytes(payload[2:4])


# Methods out


def encode_method(channel: int, method: Answer) -> bytes:
    payload = method.index.to_bytes(4) + method.marshal()
    return _head.pack(METHOD, channel, len(payload)) + payload + END


def channel_open_ok(channel: int) -> bytes:
    """channel.open-ok by hand: pamqp sends `0` as its channel-id, RabbitMQ nothing."""
    payload = Channel.OpenOk.index.to_bytes(4) + bytes(4)
    return _head.pack(METHOD, channel, len(payload)) + payload + END


def declare_ok(channel: int, queue: str, messages: int, consumers: int) -> bytes:
    """queue.declare-ok by hand: pamqp refuses to send queue names that RabbitMQ takes, such as `заказы`."""
    payload = Queue.DeclareOk.index.to_bytes(4) + short(queue) + struct.pack(">II", messages, consumers)
    return _head.pack(METHOD, channel, len(payload)) + payload + END


def short(text: str) -> bytes:
    octets = text.encode(errors="surrogateescape")
    return bytes((len(octets),)) + octets


def deliver_prefix(consumer_tag: str) -> bytes:
    """What is the same in each basic.deliver of one consumer."""
    return Basic.Deliver.index.to_bytes(4) + short(consumer_tag)


_deliver_tail = struct.Struct(">QB")


def deliver(prefix: bytes, tag: int, redelivered: bool, address: bytes) -> bytes:
    return prefix + _deliver_tail.pack(tag, redelivered) + address


def get_ok(tag: int, redelivered: bool, address: bytes, remaining: int) -> bytes:
    payload = Basic.GetOk.index.to_bytes(4) + _deliver_tail.pack(tag, redelivered)
    return payload + address + remaining.to_bytes(4)


def returned(code: int, text: str, address: bytes) -> bytes:
    return Basic.Return.index.to_bytes(4) + code.to_bytes(2) + short(text) + address


def content(channel: int, method: bytes, header: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """The frames of a method with content, in pieces to be joined with others: the body is not copied here."""
    pieces = [_head.pack(METHOD, channel, len(method)), method, END]
    pieces += (_head.pack(HEADER, channel, len(header)), header, END)
    room = frame_max - OVERHEAD
    if len(body) > room:
        for start in range(0, len(body), room):
            part = body[start : start + room]
            pieces += (_head.pack(BODY, channel, len(part)), part, END)
    elif body:
        pieces += (_head.pack(BODY, channel, len(body)), body, END)
    return pieces


# Tables


def decode_table(octets: bytes) -> FieldTable:
    """A table with its length in front. Raises ValueError."""
    try:
        return decode.field_table(octets)[1]
    except _UNDECODABLE as error:
        raise ValueError("not a table") from error


def encode_value(value: FieldValue) -> bytes:
    """A table's value with its type octet in front."""
    return encode.encode_table_value(_encodable(value))


def _encodable(value: FieldValue) -> FieldValue:
    """pamqp reads strings that are not UTF-8 as bytes, and does not write bytes."""
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return value
