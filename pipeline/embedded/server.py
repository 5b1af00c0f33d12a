"""Sockets for the protocol core: one asyncio protocol per client, output that leaves once per turn of the loop and
waits for slow peers, one ticker for all heartbeats. Runs on the loop of `host`; AMQP's rules are `connection`'s."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pipeline.clock import Clock, SystemClock
from pipeline.embedded import refusals
from pipeline.embedded.connection import Connection
from pipeline.embedded.node import Node

CONNECTIONS_MAX = 1024
TICK_SECONDS = 0.25  # fine enough for the smallest heartbeat, which is one second
READ_SIZE = 64 * 1024  # what one peer may have handled before it is the next one's turn
HIGH_WATER = 1024 * 1024  # octets in a socket's buffer after which output waits
FAREWELL_SECONDS = 1  # for all peers together to answer our close at the end


class Server:
    """Listens, keeps the clients, and lets them go. `clock` is the messages' time, `link_clock` that of heartbeats
    and handshakes: the peers live in real time, whatever a test does to the messages."""

    def __init__(self, node: Node, clock: Clock, link_clock: Clock) -> None:
        self.node = node
        self.clock = clock
        self.clients: dict[Client, None] = {}
        self._link_clock = link_clock
        self._waiting: list[Client] = []  # have something to send at the end of this turn
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._nobody_left = asyncio.Event()

    # Listening

    async def start(self, host: str, port: int) -> int:
        """The port it listens on. Raises OSError where it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Client(self), host, port, backlog=128)
        self._ticker = asyncio.create_task(self._tick())
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    async def stop(self) -> None:
        """Tell everybody, wait a moment for their answers, hang up."""
        assert self._server is not None and self._ticker is not None  # stop follows start
        self._server.close()
        self.each(lambda connection: connection.close(refusals.shutdown()))
        # Real time, whatever clock was handed in: the end must come where time stands still, too.
        with suppress(TimeoutError):
            async with SystemClock().deadline(FAREWELL_SECONDS):
                await self._all_gone()
        self.drop()
        self._ticker.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticker
        await self._server.wait_closed()

    async def _all_gone(self) -> None:
        while self.clients:
            self._nobody_left.clear()
            await self._nobody_left.wait()  # ends when the last client is gone, or with the deadline

    # Clients

    def join(self, client: "Client") -> bool:
        if len(self.clients) >= CONNECTIONS_MAX:
            return False
        self.clients[client] = None
        return True

    def leave(self, client: "Client") -> None:
        self.clients.pop(client, None)
        if not self.clients:
            self._nobody_left.set()

    def each(self, act: Callable[[Connection], None]) -> None:
        """Do something to each connection, then see what has become of it."""
        self.step()
        for client in list(self.clients):
            act(client.connection)
            client.settle()

    def drop(self) -> None:
        """Cut all lines without a word."""
        for client in list(self.clients):
            client.abort()

    def step(self) -> None:
        """Before anything happens: this is when it happens."""
        self.node.timeline.advance(self.clock.now(), self.clock.time())

    async def _tick(self) -> None:
        while True:
            await self._link_clock.sleep(TICK_SECONDS)
            self.each(self._tell_time)

    def _tell_time(self, connection: Connection) -> None:
        connection.tick(self._link_clock.now())

    # Output

    def wants_to_send(self, client: "Client") -> None:
        """All output of one turn of the loop leaves in one write per client: a write costs more than a message."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(client)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            client.flush()


class Client(asyncio.BufferedProtocol):
    """One socket and its connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray(READ_SIZE)
        self._transport: asyncio.Transport | None = None
        self._keeps_up = True  # the socket takes more
        self._reading = True

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.connection = Connection(self._server.node, f"{peer[0]}:{peer[1]}", self._wake)
        if not self._server.join(self):
            transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._server.step()
        self.connection.receive(bytes(memoryview(self._buffer)[:nbytes]))
        self.settle()

    def eof_received(self) -> bool:
        return False  # asyncio closes the transport, connection_lost follows

    def pause_writing(self) -> None:
        self._keeps_up = False

    def resume_writing(self) -> None:
        self._keeps_up = True
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.step()
        self.connection.lost()
        self._server.leave(self)

    # Called by the server

    def _wake(self) -> None:
        self._server.wants_to_send(self)

    def flush(self) -> None:
        """Write what there is, unless the peer does not keep up. What has left makes room for deliveries."""
        if self._transport is None:
            return
        if self._keeps_up:
            octets = self.connection.outbox.take()
            if octets:
                self._transport.write(octets)
        if self._keeps_up:  # the write may have changed that
            self.connection.drained()
        self.settle()

    def settle(self) -> None:
        """Hang up when all is said; read only from those who may be read."""
        if self._transport is None:
            return
        if self.connection.finished:
            octets = self.connection.outbox.take()
            self._transport.write(octets)
            self._transport.close()
            return
        wanted = self.connection.wants_octets
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
