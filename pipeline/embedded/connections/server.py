"""Lets the protocol core live in time and among clients: a port, the clients behind it, output that leaves once per
turn of the loop, one ticker for all heartbeats, one bell for all that is due. Runs on the loop of `host`; one client's
socket is `client`'s, AMQP's rules are `connection`'s."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pipeline.clock import Clock, SystemClock
from pipeline.embedded.connections.bell import Bell
from pipeline.embedded.connections.client import Client, log
from pipeline.embedded.connections.connection import Connection
from pipeline.embedded.connections.host import T
from pipeline.embedded.vhosts.node import Node
from pipeline.embedded.wire import refusals

CONNECTIONS_MAX = 1024
TICK_SECONDS = 0.25  # fine enough for the smallest heartbeat, which is one second
FAREWELL_SECONDS = 1  # for all peers together to answer our close at the end


class Server:
    """Listens, keeps the clients, and lets them go. `clock` is the messages' time, `link_clock` that of heartbeats
    and handshakes: the peers live in real time, whatever a test does to the messages."""

    def __init__(self, node: Node, clock: Clock, link_clock: Clock) -> None:
        self.node = node
        self.clients: dict[Client, None] = {}
        self.refusing = False  # whoever comes is hung up on
        self._bell = Bell(node.timeline, clock, self._ring)
        self._link_clock = link_clock
        self._waiting: list[Client] = []  # have something to send at the end of this turn
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._nobody_left = asyncio.Event()

    # Listening

    async def start(self, host: str, port: int) -> int:
        """The port it listens on. Raises OSError where it is taken."""
        loop = asyncio.get_running_loop()
        self._bell.start()
        self._server = await loop.create_server(lambda: Client(self), host, port, backlog=128)
        self._ticker = asyncio.create_task(self._tick())
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    async def stop(self) -> None:
        """Tell everybody, wait a moment for their answers, hang up."""
        assert self._server is not None and self._ticker is not None  # stop follows start
        self._server.close()
        self.refusing = True  # who was let in at the last moment
        self.each(lambda connection: connection.close(refusals.shutdown()))
        # Real time, whatever clock was handed in: the end must come where time stands still, too.
        with suppress(TimeoutError):
            async with SystemClock().deadline(FAREWELL_SECONDS):
                await self._all_gone()
        self.drop()
        await self._bell.stop()
        self._ticker.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticker
        await self._server.wait_closed()

    async def _all_gone(self) -> None:
        while self.clients:
            self._nobody_left.clear()
            await self._nobody_left.wait()  # ends when the last client is gone, or with the deadline

    # Clients

    def join(self, client: Client) -> bool:
        if self.refusing or len(self.clients) >= CONNECTIONS_MAX:
            return False
        self.clients[client] = None
        return True

    def leave(self, client: Client) -> None:
        self.clients.pop(client, None)
        if not self.clients:
            self._nobody_left.set()

    def each(self, act: Callable[[Connection], None]) -> None:
        """Do something to each connection, then see what has become of it."""
        self.step()
        for client in list(self.clients):
            client.do(act)

    def drop(self) -> None:
        """Cut all lines without a word."""
        for client in list(self.clients):
            client.abort()

    # Time, and what it has led to

    def do(self, act: Callable[[], T]) -> T:
        """Something from outside, now."""
        self.step()
        answer = act()
        self.look()
        return answer

    def step(self) -> None:
        """Before anything happens: this is when it happens. A mistake in something that was due is nobody's who is
        here by chance."""
        try:
            self._bell.tell_time()
        except Exception:
            log.exception("a mistake in the embedded broker: something that was due is left undone")

    def look(self) -> None:
        """After anything has happened: an alarm begins by itself, but those whom it has stopped are told of its end."""
        while self.node.look() and self.node.blocked is None:
            self.each(Connection.go_on)

    def advance(self, seconds: float) -> None:
        """Time has been moved on: all that is due by then has been done when this returns."""
        self._bell.advance(seconds)
        self._beat()

    def _ring(self) -> None:
        self.step()
        self.look()

    async def _tick(self) -> None:
        while True:
            await self._link_clock.sleep(TICK_SECONDS)
            self.step()
            self._beat()
            self.look()

    def _beat(self) -> None:
        now = self._link_clock.now()
        for client in list(self.clients):
            client.tell_time(now)

    # Output

    def wants_to_send(self, client: Client) -> None:
        """All output of one turn of the loop leaves in one write per client: a write costs more than a message."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(client)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            client.flush()
