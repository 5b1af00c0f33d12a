"""A client on a bare socket, for tests that send what no client library would, or must know exactly what has come
and when. Reads frame by frame and waits with a deadline; says nothing on its own, not even a close-ok."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pamqp import frame
from pamqp.commands import Channel, Connection

from tests.embedded.conversation import CAPABILITIES, PROTOCOL_HEADER, Seen
from tests.waiting import deadline

FRAME_MAX = 131_072


def frame_of(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    """A frame as it lies on the wire, whatever is in it."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def marshalled(channel: int, *frames: frame.FrameTypes) -> bytes:
    return b"".join(frame.marshal(each, channel) for each in frames)


class Wire:
    """One connection to the broker of a URL, at first without a word."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port and parts.username and parts.password
        self.vhost = unquote(parts.path[1:]) or "/"
        self._login = f"\0{unquote(parts.username)}\0{unquote(parts.password)}"
        self.socket = socket.create_connection((parts.hostname, parts.port), deadline(10))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Hang up without a word."""
        self.socket.close()

    def finish(self) -> None:
        """Say no more, and wait until the broker hangs up."""
        with suppress(OSError):  # it has done so before
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(65_536):
                pass

    # Handshake

    def greet(self) -> None:
        self.send(PROTOCOL_HEADER)
        self.expect(0, Connection.Start)

    def log_in(self) -> None:
        properties: dict[str, Any] = {"capabilities": dict(CAPABILITIES)}
        self.say(0, Connection.StartOk(properties, "PLAIN", self._login, "en_US"))
        self.expect(0, Connection.Tune)

    def open(self, *channels: int, frame_max: int = FRAME_MAX, heartbeat: int = 0) -> Self:
        """Through the handshake, and these channels."""
        self.greet()
        self.log_in()
        self.say(0, Connection.TuneOk(2047, frame_max, heartbeat), Connection.Open(self.vhost))
        self.expect(0, Connection.OpenOk)
        for channel in channels:
            self.say(channel, Channel.Open())
            self.expect(channel, Channel.OpenOk)
        return self

    # Saying and hearing

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def send_what_fits(self, octets: bytes, *, patience: float) -> int:
        """How many octets the broker takes before it has not read on for so many seconds."""
        sent = 0
        before = self.socket.gettimeout()
        self.socket.settimeout(patience)
        with suppress(TimeoutError, BlockingIOError):
            while sent < len(octets):
                sent += self.socket.send(octets[sent : sent + 65_536])
        self.socket.settimeout(before)
        return sent

    def say(self, channel: int, *frames: frame.FrameTypes) -> None:
        self.send(marshalled(channel, *frames))

    def hear(self) -> Seen | None:
        """The next frame, heartbeats too; None when the broker has hung up. Raises TimeoutError."""
        first = self.octets(7)
        if first.startswith(b"AMQP"):
            return 0, first + self.octets(1)
        if len(first) < 7:
            return None
        _, channel, size = struct.unpack(">BHI", first)
        whole = first + self.octets(size + 1)
        return channel, frame.unmarshal(whole)[2]

    def expect(self, channel: int, kind: type[Any]) -> Any:
        """The next frame, which must be this one."""
        heard = self.hear()
        assert heard is not None and heard[0] == channel and isinstance(heard[1], kind), heard
        return heard[1]

    def hear_all(self) -> list[Seen]:
        """All that comes until the broker hangs up."""
        heard: list[Seen] = []
        while (seen := self.hear()) is not None:
            heard.append(seen)
        return heard

    def octets(self, size: int) -> bytes:
        """So many octets, or fewer where the broker hangs up before."""
        while len(self._heard) < size:
            try:
                octets = self.socket.recv(65_536)
            except ConnectionResetError:
                octets = b""
            if not octets:
                break
            self._heard += octets
        taken, self._heard = self._heard[:size], self._heard[size:]
        return taken


@contextmanager
def opened(url: str, *channels: int) -> Iterator[Wire]:
    with Wire(url) as wire:
        yield wire.open(*channels)
