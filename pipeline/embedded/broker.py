"""`EmbeddedBroker`: what others may ask of the broker in the box. Puts node, server and host together; every call
may come from any thread."""

import ipaddress
import secrets
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

from pipeline.clock import Clock, SystemClock
from pipeline.embedded.connections.host import Host, T
from pipeline.embedded.connections.server import Server
from pipeline.embedded.ground.event_log import EventLog
from pipeline.embedded.ground.memory import MEMORY_LIMIT
from pipeline.embedded.ground.patience import CONSUMER_TIMEOUT
from pipeline.embedded.ground.versions import NEWEST
from pipeline.embedded.line_controls import LineControls
from pipeline.embedded.message_controls import MessageControls
from pipeline.embedded.vhosts.node import Node

USERNAME = "piperun"


class EmbeddedBroker(LineControls, MessageControls):
    """An AMQP 0-9-1 broker in memory. Between `start` and `stop` it can be reached at `url`.

    It listens on loopback only, on a port of the system's choice unless one is given, and asks for a password that
    is random unless one is given: other users of the machine can reach loopback, too. `clock` is the time of
    messages; `link_clock` that of heartbeats and handshakes, real unless a test moves it, as clients live in real time.
    `rabbitmq_version` is the version it behaves like. Messages of more than `memory_limit` octets together block
    those who publish. After `consumer_timeout` seconds without an answer to a delivery 3.10 closes the channel, and 4.3
    takes it back, in quorum queues only. With `log_events` it remembers what happens, see `events`. Raises ValueError
    for an address that is not loopback, and for an unknown version."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        username: str = USERNAME,
        password: str | None = None,
        vhosts: Sequence[str] = ("/",),
        link_clock: Clock | None = None,
        rabbitmq_version: str = NEWEST,
        memory_limit: int = MEMORY_LIMIT,
        consumer_timeout: float = CONSUMER_TIMEOUT,
        log_events: bool = False,
    ) -> None:
        self._address = _loopback(host)
        self._port = port
        self._username = username
        self._password = password or secrets.token_urlsafe(24)
        self._node = Node(
            username=username,
            password=self._password,
            vhosts=vhosts,
            rabbitmq_version=rabbitmq_version,
            memory_limit=memory_limit,
            consumer_timeout=consumer_timeout,
        )
        self._clock = clock or SystemClock()
        self._link_clock = link_clock or SystemClock()
        self._host = Host("piperun-embedded-broker")
        self._server: Server | None = None
        self._events = EventLog() if log_events else None
        if self._events is not None:
            self._node.journal.listen(self._events.add)
        self._lock = threading.RLock()  # nobody asks over there while it is being stopped

    def __repr__(self) -> str:
        where = f"port {self._port}" if self._host.running else "not running"
        return f"<EmbeddedBroker {where}>"  # never the URL, which has the password

    # From start to end

    def start(self) -> None:
        """Returns when the port is open. Raises OSError where it is taken. Once: what has been stopped stays so."""
        if self._server is not None:
            raise RuntimeError("the embedded broker was started before; make a new one")
        self._host.start()
        try:
            self._port = self._host.wait_for(self._serve)
        except BaseException:
            self._host.stop()
            raise

    async def _serve(self) -> int:
        server = Server(self._node, self._clock, self._link_clock)
        port = await server.start(str(self._address), self._port)
        self._server = server
        return port

    def stop(self) -> None:
        """Close all connections (320, shutdown), then the port; the messages are gone. Waits a second at most for peers
        to answer. Safe to call twice."""
        with self._lock:
            try:
                if self._server is not None and self._host.running:
                    self._host.wait_for(self._server.stop)
            finally:
                self._host.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What it is and holds

    @property
    def port(self) -> int:
        return self._port

    @property
    def password(self) -> str:
        return self._password

    @property
    def url(self) -> str:
        """Contains the password. Its path `/` is the virtual host `/`."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """The URL of another virtual host."""
        login = f"{quote(self._username, safe='')}:{quote(self._password, safe='')}"
        host = f"[{self._address}]" if self._address.version == 6 else str(self._address)
        path = "" if vhost == "/" else quote(vhost, safe="")
        return f"amqp://{login}@{host}:{self._port}/{path}"

    @property
    def message_count(self) -> int:
        """Messages in all queues, ready or handed out: what is gone with it. Keeps its value after `stop`."""
        return self._over_there(lambda: sum(vhost.message_count for vhost in self._node.vhosts.values()))

    def queue_depths(self) -> dict[str, int]:
        """The same for each queue; those outside of `/` are named `vhost:queue`."""
        return self._over_there(self._node.queue_depths)

    @property
    def events(self) -> EventLog:
        """What has happened since the start, if it was made with `log_events`; see `recording` for a part of it."""
        if self._events is None:
            raise RuntimeError("nothing is remembered; make the broker with log_events=True, or use recording()")
        return self._events

    def add_vhost(self, name: str) -> None:
        """One that exists stays as it is."""
        self._over_there(lambda: self._node.add_vhost(name))

    def _running(self) -> Server:
        if self._server is None or not self._host.running:
            raise RuntimeError("the embedded broker is not running; call start() first")
        return self._server

    def _over_there(self, act: Callable[[], T]) -> T:
        """On the broker's thread while there is one; there is nobody to disturb before and after."""
        with self._lock:
            server = self._server
            if server is None or not self._host.running:
                return act()
            return self._host.call(lambda: server.do(act))


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"the embedded broker listens on 127.0.0.1 or ::1; {host!r} is no address") from None
    if not address.is_loopback:
        raise ValueError(
            f"the embedded broker listens on loopback only, not on {host}; use a RabbitMQ server for other machines"
        )
    return address
