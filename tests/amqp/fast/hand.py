"""A switch at the end of a line that is moved by hand: what arrives is handed in, what is written is gathered, a turn
of the loop happens when a test says so, and time stands still."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import SupportsIndex

from pipeline.amqp.fast.switch import Switch
from tests.amqp.fast.octets import close_ok, open_ok


class Reader(asyncio.StreamReader):
    """The client's end: remembers what it was given, and in which pieces."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.pieces: list[bytes] = []
        self.ended = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        assert not self.ended
        self.pieces.append(bytes(data))

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()

    @property
    def heard(self) -> bytes:
        return b"".join(self.pieces)


class Socket(asyncio.Transport):
    """Takes everything, and remembers each write."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False
        self.protocol: asyncio.Protocol | None = None
        self._loop = loop

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.writes.append(bytes(data))

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            assert self.protocol is not None
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


class Hand:
    """`with Hand(1, 2) as hand:` has a switch on which channels 1 and 2 were opened."""

    def __init__(self, *channels: int) -> None:
        self.now = 1000.0
        self.loop = asyncio.new_event_loop()
        self.loop.time = lambda: self.now  # type: ignore[method-assign]
        self.reader = Reader(self.loop)
        self.socket = Socket(self.loop)
        self.switch = self.socket.protocol = Switch(self.reader, self.loop)
        self.switch.connection_made(self.socket)
        for channel in channels:
            self.switch.data_received(open_ok(channel))
        self.reader.pieces.clear()

    def __enter__(self) -> "Hand":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.turn()
        self.loop.close()

    def receive(self, *readings: bytes) -> None:
        for reading in readings:
            self.switch.data_received(reading)

    def turn(self) -> None:
        """One turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @property
    def written(self) -> bytes:
        return b"".join(self.socket.writes)

    @property
    def out_of_step(self) -> bool:
        """Asked as a stranger would: whether a channel that is opened now could still be claimed."""
        self.switch.data_received(open_ok(99))
        claimed = self.switch.claim(99, Tap())
        self.switch.data_received(close_ok(99))
        return not claimed


class Tap:
    """A claim that takes every frame but methods of class channel, and remembers them."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.readings = 0
        self.over = False
        self.to_write: list[bytes] = []

    def take(self, data: bytes, at: int, after: int, end: int) -> int:
        assert at < after <= end <= len(data)
        frame = data[at:after]
        if frame[0] == 1 and frame[7:9] == b"\x00\x14":
            return at
        self.frames.append(frame)
        return after

    def taken(self) -> None:
        self.readings += 1

    def gone(self) -> None:
        self.over = True

    def outbox(self) -> list[bytes]:
        octets, self.to_write = self.to_write, []
        return octets
