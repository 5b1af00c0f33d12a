"""Peers of a running broker: a bare socket that says what no client would, and how it ended for those who use one; and
a broker whose lines live on a clock that is moved by hand."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import aio_pika
from aio_pika.abc import AbstractConnection

from pipeline.clock import FakeClock
from pipeline.embedded import EmbeddedBroker
from tests.embedded.wire import Wire
from tests.waiting import deadline, wait_until


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
    """A bare socket at the broker's port, with an ear for octets."""

    def __init__(self, wire: Wire) -> None:
        self.socket = wire.socket
        self.say = wire.say
        self._wire = wire

    def open(self, heartbeat: int = 0) -> None:
        """Through the handshake to an open channel 1."""
        self._wire.open(1, heartbeat=heartbeat)

    def hear(self, size: int) -> bytes:
        """Exactly so many octets."""
        heard = self._wire.octets(size)
        if len(heard) < size:
            raise EOFError(heard)
        return heard

    def hear_all(self) -> bytes:
        """Until the broker hangs up, which it must within the socket's deadline."""
        return self._wire.octets(sys.maxsize)


@contextmanager
def stranger(broker: EmbeddedBroker) -> Iterator[Stranger]:
    with Wire(broker.url) as wire:
        yield Stranger(wire)


# Time of the line


@contextmanager
def on_fake_time() -> Iterator[tuple[EmbeddedBroker, FakeClock]]:
    """A broker whose handshakes and heartbeats take their time from a clock that is moved by hand."""
    clock = FakeClock()
    with EmbeddedBroker(link_clock=clock) as broker:
        wait_until(lambda: clock.waiting)
        yield broker, clock


def pass_by(broker: EmbeddedBroker, clock: FakeClock, seconds: float) -> None:
    """So much time, and the broker has noticed."""
    clock.advance(seconds)
    wait_until(lambda: clock.waiting)
    broker.connections()
