"""Frames as octets, put together and taken apart by the paragraphs of AMQP 0-9-1 alone: neither our code nor the
client's codec has a hand in them, so that a mistake which both make is seen."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.message import Message

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"  # 4.2.7


def frame(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    """4.2.3: type, channel, size, payload, frame-end."""
    return bytes([kind]) + channel.to_bytes(2) + len(payload).to_bytes(4) + payload + bytes([end])


def short(text: str | bytes) -> bytes:
    """4.2.5.3: one octet of length, then so many octets."""
    octets = text.encode() if isinstance(text, str) else text
    return bytes([len(octets)]) + octets


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """4.2.4."""
    return frame(METHOD, channel, class_id.to_bytes(2) + method_id.to_bytes(2) + arguments)


def content_header(channel: int, body_size: int, properties: bytes = b"\x00\x00") -> bytes:
    """4.2.6.1: class basic, weight 0, body size; `properties`: flags and values."""
    return frame(HEADER, channel, b"\x00\x3c\x00\x00" + body_size.to_bytes(8) + properties)


def pieces(channel: int, body: bytes, most: int = 131_064) -> bytes:
    """The body frames of a content (4.2.6.2), each of `most` octets at most: none for an empty body."""
    return b"".join(frame(BODY, channel, body[at : at + most]) for at in range(0, len(body), most))


def content(channel: int, body: bytes, properties: bytes = b"\x00\x00", most: int = 131_064) -> bytes:
    return content_header(channel, len(body), properties) + pieces(channel, body, most)


def deliver_method(
    channel: int,
    tag: int,
    *,
    consumer: str | bytes = "c",
    redelivered: bool = False,
    exchange: str | bytes = "",
    routing_key: str | bytes = "q",
) -> bytes:
    arguments = short(consumer) + tag.to_bytes(8) + bytes([redelivered]) + short(exchange) + short(routing_key)
    return method(channel, 60, 60, arguments)


def delivered(channel: int, tag: int, body: bytes, properties: bytes = b"\x00\x00", most: int = 131_064) -> bytes:
    """basic.deliver and its content."""
    return deliver_method(channel, tag) + content(channel, body, properties, most)


def returned(channel: int, message_id: str, body: bytes = b"x", text: str = "NO_ROUTE") -> bytes:
    """basic.return (312) and its content, which has no other property than `message_id`."""
    arguments = (312).to_bytes(2) + short(text) + short("e") + short("k")
    return method(channel, 60, 50, arguments) + content(channel, body, b"\x00\x80" + short(message_id))


def confirmed(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    return method(channel, 60, 80, tag.to_bytes(8) + bytes([multiple]))


def refused(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """basic.nack: the bits multiple and requeue share an octet, from the lowest on (4.2.5.2)."""
    return method(channel, 60, 120, tag.to_bytes(8) + bytes([multiple]))


def open_ok(channel: int) -> bytes:
    return method(channel, 20, 11, b"\x00\x00\x00\x00")


def close(channel: int, code: int = 404, text: str = "NOT_FOUND") -> bytes:
    return method(channel, 20, 40, code.to_bytes(2) + short(text) + b"\x00\x00\x00\x00")


def close_ok(channel: int) -> bytes:
    return method(channel, 20, 41)


# Taking apart


@dataclass(frozen=True, kw_only=True)
class Frame:
    kind: int
    channel: int
    payload: bytes

    @property
    def called(self) -> tuple[int, int]:
        """Class and method."""
        return int.from_bytes(self.payload[:2]), int.from_bytes(self.payload[2:4])


def frames(octets: bytes) -> list[Frame]:
    """Whole frames and nothing else, or `AssertionError`."""
    found = []
    while octets:
        assert len(octets) >= 8, octets
        size = int.from_bytes(octets[3:7])
        assert len(octets) >= size + 8, octets
        assert octets[size + 7] == 0xCE, octets
        found.append(Frame(kind=octets[0], channel=int.from_bytes(octets[1:3]), payload=octets[7 : size + 7]))
        octets = octets[size + 8 :]
    return found


@dataclass(frozen=True, kw_only=True)
class Settlement:
    way: str
    tag: int
    multiple: bool = False
    requeue: bool = False


def settlement(sent: Frame) -> Settlement:
    """Read strictly: no octet more or less than the method has."""
    assert sent.kind == METHOD
    assert len(sent.payload) == 4 + 8 + 1
    tag, bits = int.from_bytes(sent.payload[4:12]), sent.payload[12]
    match sent.called:
        case (60, 80):
            assert bits in (0, 1)
            return Settlement(way="ack", tag=tag, multiple=bits == 1)
        case (60, 120):
            assert bits in (0, 1, 2, 3)
            return Settlement(way="nack", tag=tag, multiple=bool(bits & 1), requeue=bool(bits & 2))
        case (60, 90):
            assert bits in (0, 1)
            return Settlement(way="reject", tag=tag, requeue=bits == 1)
        case other:
            raise AssertionError(other)


def cut_at(octets: bytes, *places: int) -> list[bytes]:
    """In pieces, none of them empty."""
    edges = [0, *sorted({place for place in places if 0 < place < len(octets)}), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges) if start < end]


def attributes(message: Message) -> dict[str, Any]:
    """All that a message carries, for a comparison that names what differs."""
    return {name: getattr(message, name) for name in Message.__slots__ if name != "_settle"}
