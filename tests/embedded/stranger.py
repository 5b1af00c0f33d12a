"""Peers of a running broker: a bare socket that says what no client would, and how it ended for those who use one."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from pamqp import frame
from pamqp.commands import Channel, Connection

from pipeline.embedded import EmbeddedBroker
from tests.embedded.conversation import CAPABILITIES, PROTOCOL_HEADER
from tests.waiting import deadline


async def connect(url: str, name: str = "test") -> AbstractConnection:
    return await aio_pika.connect(url, timeout=deadline(10), client_properties={"connection_name": name})


def end_of(connection: AbstractConnection) -> asyncio.Future[BaseException | None]:
    """Why it was closed, as soon as it is."""
    closed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def note(_: object, reason: BaseException | None) -> None:
        if not closed.done():
            closed.set_result(reason)

    connection.close_callbacks.add(note)
    return closed


class Stranger:
    """A bare socket at the broker's port."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.socket = socket.create_connection(("127.0.0.1", broker.port), deadline(10))
        self._password = broker.password

    def say(self, channel: int, *frames: frame.FrameTypes) -> None:
        self.socket.sendall(b"".join(frame.marshal(each, channel) for each in frames))

    def open(self, heartbeat: int = 0) -> None:
        """Through the handshake to an open channel 1."""
        self.socket.sendall(PROTOCOL_HEADER)
        start: dict[str, Any] = {"capabilities": CAPABILITIES}
        self.say(0, Connection.StartOk(start, "PLAIN", f"\0piperun\0{self._password}", "en_US"))
        self.say(0, Connection.TuneOk(2047, 131_072, heartbeat), Connection.Open("/"))
        self.say(1, Channel.Open())
        opened = frame.marshal(Connection.OpenOk(), 0)
        heard = b""
        while opened not in heard or not heard.endswith(b"\x00\x14\x00\x0b\x00\x00\x00\x00\xce"):
            heard += self.socket.recv(65_536)

    def hear(self, size: int) -> bytes:
        """Exactly so many octets."""
        heard = b""
        while len(heard) < size:
            octets = self.socket.recv(min(65_536, size - len(heard)))
            if not octets:
                raise EOFError(heard)
            heard += octets
        return heard

    def hear_all(self) -> bytes:
        """Until the broker hangs up, which it must within the socket's deadline."""
        heard = b""
        with suppress(ConnectionResetError):
            while octets := self.socket.recv(65_536):
                heard += octets
        return heard


@contextmanager
def stranger(broker: EmbeddedBroker) -> Iterator[Stranger]:
    one = Stranger(broker)
    with one.socket:
        yield one
