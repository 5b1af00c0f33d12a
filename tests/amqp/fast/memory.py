"""The real client on a line in memory, with a broker of a few answers at the other end: a test says octet by octet what
arrives, and in which readings; what the client and we write is there as frames. No broker's behaviour is played here
beyond opening a connection, a channel, and saying yes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from aio_pika import Connection
from aiormq.channel import Channel as ClientChannel
from aiormq.connection import TransportFactory
from pamqp import commands
from pamqp import frame as codec
from pamqp.common import FieldTable
from yarl import URL

from pipeline.amqp.fast.switch import Switch
from pipeline.amqp.foreign import tolerate
from tests.amqp.fast.octets import Frame, frames
from tests.waiting import deadline

FRAME_MAX = 4096
CAPABILITIES: FieldTable = {"publisher_confirms": True, "basic.nack": True}


class Memory(TransportFactory):
    """One line. `plain`: without a switch, as the plain line has it. `silent`: methods that get no answer."""

    def __init__(self, *, plain: bool = False) -> None:
        self.plain = plain
        self.switch: Switch | None = None
        self.silent: set[tuple[int, int]] = set()
        self.sent: list[Frame] = []  # everything that was written, whole frames in their order
        self.writes: list[bytes] = []
        self.line: Line | None = None
        self._protocol: asyncio.StreamReaderProtocol | None = None
        self._begun = b""

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        if self.plain:
            protocol = asyncio.StreamReaderProtocol(reader)
        else:
            protocol = self.switch = Switch(reader, loop)
        self._protocol = protocol
        self.line = Line(self._hear, protocol, loop)
        protocol.connection_made(self.line)
        return reader, asyncio.StreamWriter(self.line, protocol, reader, loop)

    def arrive(self, *readings: bytes) -> None:
        """What the broker sends, a reading of the socket each."""
        assert self._protocol is not None
        for reading in readings:
            if reading:
                self._protocol.data_received(reading)

    def fill(self) -> None:
        """The socket takes no more."""
        assert self._protocol is not None
        self._protocol.pause_writing()

    def drain(self) -> None:
        assert self._protocol is not None
        self._protocol.resume_writing()

    def sent_on(self, channel: int, class_id: int = 60) -> list[Frame]:
        """Methods of one class on one channel, in their order."""
        return [each for each in self.sent if each.channel == channel and each.kind == 1 and each.called[0] == class_id]

    def _hear(self, octets: bytes) -> None:
        assert self._protocol is not None
        self.writes.append(octets)
        octets = self._begun + octets
        answer = b""
        if octets.startswith(b"AMQP"):
            octets = octets[8:]
            start = commands.Connection.Start(mechanisms="PLAIN", server_properties={"capabilities": CAPABILITIES})
            answer += codec.marshal(start, 0)
        whole = 0
        while len(octets) - whole >= 8:
            after = whole + int.from_bytes(octets[whole + 3 : whole + 7]) + 8
            if after > len(octets):
                break
            (heard,) = frames(octets[whole:after])
            self.sent.append(heard)
            answer += self._answer(heard)
            whole = after
        self._begun = octets[whole:]
        if answer:
            asyncio.get_running_loop().call_soon(self._protocol.data_received, answer)

    def _answer(self, heard: Frame) -> bytes:
        if heard.kind != 1 or heard.called in self.silent:
            return b""
        make = ANSWERS.get(heard.called)
        return b"" if make is None else codec.marshal(make(), heard.channel)


ANSWERS: dict[tuple[int, int], Callable[[], Any]] = {
    (10, 11): lambda: commands.Connection.Tune(channel_max=100, frame_max=FRAME_MAX, heartbeat=0),
    (10, 40): commands.Connection.OpenOk,
    (10, 50): commands.Connection.CloseOk,
    (20, 10): commands.Channel.OpenOk,
    (20, 40): commands.Channel.CloseOk,
    (60, 10): commands.Basic.QosOk,
    (60, 20): lambda: commands.Basic.ConsumeOk("c"),
    (60, 30): lambda: commands.Basic.CancelOk("c"),
    (85, 10): commands.Confirm.SelectOk,
}


class Line(asyncio.Transport):
    """A socket's end that hands on what is written to it."""

    def __init__(
        self, hear: Callable[[bytes], None], protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self._hear = hear
        self._protocol = protocol
        self._loop = loop
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self._hear(bytes(data))

    def end(self, error: Exception | None = None) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def close(self) -> None:
        self.end()

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


@asynccontextmanager
async def connected(memory: Memory, *, heartbeat: int = 0) -> AsyncIterator[Connection]:
    """The client, connected over this line."""
    tolerate()
    connection = Connection(URL(f"amqp://memory/?heartbeat={heartbeat}"))
    connection.kwargs["transport_factory"] = memory
    async with asyncio.timeout(deadline(10)):
        await connection.connect()
        try:
            yield connection
        finally:
            await connection.close()


async def channel_of(connection: Connection, *, confirms: bool = False) -> ClientChannel:
    opened = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    await opened.initialize()
    return cast(ClientChannel, await opened.get_underlay_channel())


async def turns(number: int = 20) -> None:
    """So many turns of the loop: enough for whatever the client does in a chain of wake-ups."""
    for _ in range(number):
        await asyncio.sleep(0)
