"""Bytes to whole frames and back. Knows the seven-byte frame header, the end octet and the layout of methods (whose
fields pamqp names, which no other file of the broker imports). What a method means, and when it may come, is for
`connection` and `channel`."""

import struct
from collections.abc import Iterator
from typing import ClassVar

from pamqp import base, commands
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx
from pamqp.common import FieldTable, FieldValue

from pipeline.embedded.wire import refusals, tables
from pipeline.embedded.wire.tables import Table, short

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
    "short",
]

Frame = tuple[int, int, bytes]

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
# The first is 0-9-1; the other one is sent by old clients of 0-9, who speak the same, and RabbitMQ takes it, too.
PROTOCOL_HEADERS = (b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09")
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00" + END
OVERHEAD = 8  # seven octets of frame header and the end octet
SMALLEST_FRAME_MAX = 4096  # specification, tune: what any peer takes before it is negotiated

_head = struct.Struct(">BHI")


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
        first = self._buffer[: len(PROTOCOL_HEADERS[0])]
        if first not in PROTOCOL_HEADERS and any(header.startswith(first) for header in PROTOCOL_HEADERS):
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
                raise refusals.bad_end(kind, self._buffer[end], payload)
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
    _layout = struct.Struct(">4xQB")

    def __init__(self, payload: bytes) -> None:
        self.delivery_tag, bits = self._layout.unpack(payload)
        self.multiple = bool(bits & 1)


Method = base.Frame | Publish | Ack
Answer = base.Frame  # what goes out is always pamqp's

_PUBLISH = Publish.index.to_bytes(4)
_OFTEN: dict[bytes, type[Publish] | type[Ack]] = {
    _PUBLISH: Publish,
    Ack.index.to_bytes(4): Ack,
}


def decode_method(payload: bytes) -> Method:
    """Refuses unknown methods (503), arguments that do not add up (501) and tables that do not (502)."""
    often = _OFTEN.get(payload[:4])
    if often is None and payload[:4] not in _PLANS:
        raise refusals.unknown_method(*ids_of(payload))
    try:
        return often(payload) if often else _decode(payload)
    except UnicodeDecodeError:
        raise refusals.malformed_text() from None
    except (ValueError, IndexError, struct.error):
        raise refusals.undecodable(payload[4:]) from None


def _decode(payload: bytes) -> Method:
    """Raises ValueError or IndexError where octets and arguments do not add up."""
    kind, plan = _PLANS[payload[:4]]
    method = kind.__new__(kind)  # past __init__, where pamqp warns of methods that are out of fashion
    unread: list[tuple[str, bytes]] = []  # tables: only looked into when all around them adds up
    at = 4
    for argument, names in plan:
        if argument in _SIZES:
            start, at = at, at + _SIZES[argument]
            setattr(method, names[0], int.from_bytes(payload[start:at]))
        elif argument == "bit":
            for place, name in enumerate(names):
                setattr(method, name, bool(payload[at] >> place & 1))
            at += 1
        elif argument == "shortstr":
            start, at = at + 1, at + 1 + payload[at]
            setattr(method, names[0], payload[start:at].decode())
        else:
            start, at = at + 4, at + 4 + int.from_bytes(payload[at : at + 4])
            if argument == "table":
                unread.append((names[0], payload[start:at]))
            else:
                setattr(method, names[0], tables.text(payload[start:at]))
    if at != len(payload):
        raise ValueError("there are more octets than arguments, or fewer")
    for name, table in unread:
        setattr(method, name, _table(table))
    return method


_SIZES = {"octet": 1, "short": 2, "long": 4, "longlong": 8}

# Types and names of arguments. Bits that follow each other share an octet (specification 4.2.5.2); no method has more
# than eight of them.
_Plan = list[tuple[str, list[str]]]


def _plan(kind: type[base.Frame]) -> _Plan:
    plan: _Plan = []
    for name in kind.attributes():
        argument = kind.amqp_type(name)
        if plan and argument == plan[-1][0] == "bit":
            plan[-1][1].append(name)
        else:
            plan.append((argument, [name]))
    return plan


_PLANS: dict[bytes, tuple[type[base.Frame], _Plan]] = {
    index.to_bytes(4): (kind, _plan(kind)) for index, kind in commands.INDEX_MAPPING.items()
}


def _table(octets: bytes) -> Table:
    """With the types its fields had: RabbitMQ names them in its refusals."""
    try:
        return Table(tables.decode(octets), tables.kinds(octets))
    except ValueError:
        raise refusals.malformed("a table of arguments") from None


WithArguments = Queue.Declare | Queue.Bind | Exchange.Declare | Exchange.Bind | Basic.Consume


def arguments_of(method: WithArguments) -> Table:
    """The arguments of a method that came in, with their types on the wire."""
    assert isinstance(method.arguments, Table)  # see `decode_method`
    return method.arguments


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
