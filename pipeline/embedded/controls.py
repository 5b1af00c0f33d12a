"""What a test may do to the broker in the box, beside being its client: what all controls share, and those of time, of
what is recorded, and of alarms. Those of lines and of messages stand in files of their own."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.embedded.connections.client import Client
from pipeline.embedded.connections.connection import Connection
from pipeline.embedded.connections.host import T
from pipeline.embedded.connections.server import Server
from pipeline.embedded.ground.event_log import MOST_EVENTS, EventLog
from pipeline.embedded.vhosts.node import Node
from pipeline.embedded.wire.tables import SHORT_MAX


@dataclass(frozen=True, kw_only=True)
class ConnectionSeen:
    """A client as the broker sees it: the name it gave itself, where it comes from, and the channels it has open."""

    name: str
    peer: str
    channels: tuple[int, ...]


Which = ConnectionSeen | str | None


class Controls(ABC):
    """Where connections are chosen, `which` is one of `connections()`, or the name that a client gave itself, or its
    peer's address as `connections()` shows it. Left out it means all that are there now. Raises LookupError where it
    fits none, and RuntimeError before the start and after the end."""

    _node: Node

    @abstractmethod
    def _over_there(self, act: Callable[[], T]) -> T: ...

    @abstractmethod
    def _running(self) -> Server: ...

    # Time

    def time(self) -> float:
        """Seconds since 1970 for messages: by the clock that was handed in, and by what it has been moved on."""
        return self._over_there(lambda: self._node.timeline.time)

    def advance(self, seconds: float) -> None:
        """Move time on: when this returns, everything that is due by then has happened, in the order of its moments.
        A `FakeClock` that was handed in is moved itself; of any other clock the broker is ahead from now on. Clients
        live in real time: heartbeats keep to `link_clock`. Raises ValueError where it would go back."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes on and not back; it cannot be moved by {seconds} s")
        self._over_there(lambda: self._running().advance(seconds))

    # Events

    @contextmanager
    def recording(self, most: int = MOST_EVENTS) -> Iterator[EventLog]:
        """What happens inside the block, to look at and to wait on; the newest `most` events. Costs time for each
        message, which is why it is not always on."""
        log = EventLog(most)
        journal = self._node.journal
        self._over_there(lambda: journal.listen(log.add))
        try:
            yield log
        finally:
            self._over_there(lambda: journal.leave(log.add))

    # Alarms

    @property
    def alarm(self) -> str | None:
        """Why publishers are blocked now, in the words they are told; None if they are not."""
        return self._over_there(lambda: self._node.blocked)

    def block(self, reason: str) -> None:
        """Raise an alarm: from now on a connection that publishes is told, and not read any more."""
        check_reason(reason)
        self._over_there(lambda: self._node.block(reason))

    def unblock(self) -> None:
        """The alarm is over; what the publishers have sent meanwhile is worked off. One that memory has raised lasts
        until consumers have made room."""
        self._over_there(lambda: self._node.block(None))

    # One and all

    def _each(self, which: Which, act: Callable[[Client], None]) -> None:
        def each() -> None:
            for client in self._chosen(which):
                act(client)

        self._over_there(each)

    def _chosen(self, which: Which) -> list[Client]:
        clients = list(self._running().clients)
        if which is None:
            return clients
        chosen = [client for client in clients if _fits(client.connection, which)]
        if not chosen:
            known = listed(f"{client.connection.name} ({client.connection.peer})" for client in clients)
            raise LookupError(f"no connection {which!r}; there are: {known}")
        return chosen


def _fits(connection: Connection, which: ConnectionSeen | str) -> bool:
    if isinstance(which, ConnectionSeen):
        return connection.peer == which.peer
    return which in (connection.name, connection.peer)


def on_connection(act: Callable[[Connection], None]) -> Callable[[Client], None]:
    """And see what has become of it."""

    def on_client(client: Client) -> None:
        act(client.connection)
        client.settle()

    return on_client


def check_reason(reason: str) -> None:
    """It goes out as a short string. Raises ValueError."""
    if len(reason.encode()) > SHORT_MAX:
        raise ValueError(f"a reason has {SHORT_MAX} octets at most; {reason[:40]!r}... has {len(reason.encode())}")


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
