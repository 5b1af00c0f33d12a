"""One socket and its connection: octets in, octets out as far as the peer takes them, and the end. Runs on the loop of
`host`; when everything is written is `server`'s decision, what a test breaks on the way is `line_faults`'."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from pipeline.embedded.connections.connection import CLOSING_SECONDS, Connection
from pipeline.embedded.connections.line_faults import Cut
from pipeline.embedded.connections.pulse import Pulse
from pipeline.embedded.vhosts.node import Node

log = logging.getLogger("piperun.embedded")

READ_SIZE = 64 * 1024  # what one peer may have handled before it is the next one's turn
HIGH_WATER = 1024 * 1024  # octets in a socket's buffer after which output waits


class House(Protocol):
    """The server, seen from one of its clients."""

    node: Node

    def join(self, client: "Client") -> bool: ...

    def leave(self, client: "Client") -> None: ...

    def step(self) -> None: ...

    def look(self) -> None: ...

    def wants_to_send(self, client: "Client") -> None: ...


class Client(asyncio.BufferedProtocol):
    """Between `connection_made` and `connection_lost` it is one of the server's clients."""

    def __init__(self, house: House) -> None:
        self.frozen = False
        self.cut: Cut | None = None
        self._house = house
        self._buffer = bytearray(READ_SIZE)
        self._transport: asyncio.Transport | None = None
        self._keeps_up = True  # the socket takes more
        self._reading = True
        self._hanging_up = Pulse()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.connection = Connection(self._house.node, f"{peer[0]}:{peer[1]}", self._wake)
        if not self._house.join(self):
            transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._house.step()
        octets = bytes(memoryview(self._buffer)[:nbytes])
        self.do(lambda connection: connection.receive(octets))
        self._house.look()

    def eof_received(self) -> bool:
        return False  # asyncio closes the transport, connection_lost follows

    def pause_writing(self) -> None:
        self._keeps_up = False

    def resume_writing(self) -> None:
        self._keeps_up = True
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._house.step()
        self.do(Connection.lost)
        self._house.leave(self)
        self._house.look()

    # Called by the server

    def _wake(self) -> None:
        self._house.wants_to_send(self)

    def do(self, act: Callable[[Connection], None]) -> None:
        """Then see what has become of it. A mistake of ours costs this connection, and nobody else's."""
        try:
            act(self.connection)
        except Exception:
            log.exception("a mistake in the embedded broker: it costs %s its connection", self.connection.peer)
            self._fail()
        self.settle()

    def _fail(self) -> None:
        try:
            self.connection.fail()
        except Exception:
            log.exception("a mistake in the embedded broker: %s cannot even be told so", self.connection.peer)
            self.abort()

    def flush(self) -> None:
        """Write what there is, unless the peer does not keep up. What has left makes room for deliveries."""
        if self._transport is None or self.frozen:
            return
        if self._keeps_up:
            self._write(self._transport, self.connection.outbox.take())
        if self._keeps_up:  # the write may have changed that
            self.do(Connection.drained)
        else:
            self.settle()

    def _write(self, transport: asyncio.Transport, octets: bytes) -> None:
        if transport.is_closing():
            return
        if self.cut is not None:
            octets = self.cut.lets_through(octets)
        if octets:
            transport.write(octets)
        if self.cut is not None and self.cut.done:
            transport.close()

    def settle(self) -> None:
        """Hang up when all is said; read only from those who may be read."""
        if self._transport is None or self._transport.is_closing():
            return
        if self.connection.finished and not self.frozen:
            self._write(self._transport, self.connection.outbox.take())
            self._transport.close()
            return
        wanted = self.connection.wants_octets and not self.frozen
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def tell_time(self, now: float) -> None:
        """For heartbeats, which a line that is frozen does not have."""
        if self.frozen:
            return
        self.do(lambda connection: connection.tick(now))
        closing = self._transport is not None and self._transport.is_closing()
        # A socket that is closed still waits for its peer to read what was written before, however long that takes.
        if closing and self._hanging_up.is_late(now, CLOSING_SECONDS):
            self.abort()

    # What tests do to it

    def freeze(self) -> None:
        self.frozen = True
        self.settle()

    def thaw(self) -> None:
        """Its silence is forgiven: what the peer has sent meanwhile lies in the socket, unread."""
        self.frozen = False
        self.do(lambda connection: connection.receive(b""))
        self.flush()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
