"""AMQP as octets that are prepared before the clock starts: messages, deliveries and acks of known length, and a line
that is opened by hand. Knows the protocol as far as the load needs it; nothing here is counted or timed."""

import socket
import struct
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import unquote, urlsplit

from pamqp import base, body, commands, frame, header
from pamqp.commands import Basic, Channel, Connection

from benchmarks.embedded_broker.shapes import Letter

CHANNEL = 1
FRAME_MAX = 131_072
END = 0xCE
SETUP_SECONDS = 10  # for each answer outside of the measured time

# Frame type, channel, length, class and method, delivery tag, multiple, end octet. A confirm is the same method.
_ack = struct.Struct(">BHI4sQ?B")
ACK_LENGTH = _ack.size
ACK_START = _ack.pack(1, CHANNEL, 13, Basic.Ack.index.to_bytes(4), 0, False, END)[:11]
_TAG = slice(11, 19)

Answer = TypeVar("Answer", bound=base.Frame)


def published(exchange: str, letter: Letter, octets: bytes) -> bytes:
    """The frames of one message as it is published."""
    return _frames(Basic.Publish(0, exchange, letter.routing_key), letter, octets)


def delivered(consumer_tag: str, exchange: str, letter: Letter, octets: bytes) -> bytes:
    """The frames of one message as the broker delivers it, with the delivery tag 0."""
    return _frames(Basic.Deliver(consumer_tag, 0, False, exchange, letter.routing_key), letter, octets)


def last_octet_of_tag(consumer_tag: str) -> int:
    """Where in a delivery the delivery tag ends: behind frame header, method and consumer tag."""
    return 7 + 4 + 1 + len(consumer_tag) + 7


def _frames(method: Basic.Publish | Basic.Deliver, letter: Letter, octets: bytes) -> bytes:
    properties = Basic.Properties(**letter.properties)
    parts = (method, header.ContentHeader(0, len(octets), properties), body.ContentBody(octets))
    return b"".join(frame.marshal(part, CHANNEL) for part in parts)


def ack(tag: int, *, multiple: bool) -> bytes:
    return _ack.pack(1, CHANNEL, 13, ACK_START[7:], tag, multiple, END)


def acks(count: int) -> bytes:
    """An ack for each of the tags from 1 to `count`."""
    return b"".join(ack(tag, multiple=False) for tag in range(1, count + 1))


def last_tag(octets: bytes) -> int:
    """The tag of the last ack."""
    return int.from_bytes(octets[-ACK_LENGTH:][_TAG])


class Line:
    """One connection with one channel. Blocks while it is set up; reads no octet more than what it waits for, so that
    whoever goes on reading begins at the start of a frame."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port and parts.username and parts.password  # the broker's own URL has them
        self.socket = socket.create_connection((parts.hostname, parts.port), SETUP_SECONDS)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open(f"\0{unquote(parts.username)}\0{unquote(parts.password)}")
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def _open(self, login: str) -> None:
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._expect(Connection.Start)
        self.socket.sendall(frame.marshal(Connection.StartOk({}, "PLAIN", login, "en_US"), 0))
        self._expect(Connection.Tune)
        self.socket.sendall(frame.marshal(Connection.TuneOk(2047, FRAME_MAX, 0), 0))
        self.socket.sendall(frame.marshal(Connection.Open("/"), 0))
        self._expect(Connection.OpenOk)
        self.call(Channel.Open(), Channel.OpenOk)

    def call(self, method: base.Frame, answer: type[Answer]) -> Answer:
        """Send a method on the channel and wait for its answer, which must be what the broker says next."""
        self.socket.settimeout(SETUP_SECONDS)
        self.socket.sendall(frame.marshal(method, CHANNEL))
        return self._expect(answer)

    def finish(self) -> None:
        """Close the channel. The answer comes after all that was sent before has been worked off."""
        self.call(Channel.Close(0, "", 0, 0), Channel.CloseOk)

    def _expect(self, answer: type[Answer]) -> Answer:
        head = self._read(7)
        rest = self._read(int.from_bytes(head[3:]) + 1)
        said = frame.unmarshal(head + rest)[2]
        if not isinstance(said, answer):
            raise RuntimeError(f"the broker said {_words(said)} where {answer.name} was due")
        return said

    def _read(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            more = self.socket.recv(count - len(octets))
            if not more:
                raise RuntimeError("the broker closed the line")
            octets += more
        return octets


def _words(said: object) -> str:
    if isinstance(said, commands.Channel.Close | commands.Connection.Close):
        return f"{said.name} {said.reply_code} {said.reply_text}"
    return said.name if isinstance(said, base.Frame) else type(said).__name__
