"""A TCP line between a client and a broker that a test can delay, throttle, freeze, cut, reset or refuse.
It runs on a loop in a thread of its own, so that plain tests and other processes can use it.
It knows bytes only; what travels in them is not its business."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from tests.waiting import deadline

T = TypeVar("T")
Direction = Literal["up", "down"]  # up: to the broker
Tap = Callable[[int, bytes], None]

CHUNK = 64 * 1024
TICK = 0.05  # seconds between two pieces on a throttled line


class Proxy:
    """`with Proxy(host, port) as proxy:` listens on `proxy.port`. Every method may be called from any thread."""

    def __init__(self, target_host: str, target_port: int, tap: Tap | None = None) -> None:
        self._target = (target_host, target_port)
        self._tap = tap
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        # Bound and never listening: it keeps the port ours while nobody accepts there.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._flowing = asyncio.Event()
        self._delay = 0.0
        self._rate: float | None = None
        self._left: dict[Direction, int] = {}

    @classmethod
    def before(cls, url: str, tap: Tap | None = None) -> "Proxy":
        """A proxy in front of the broker of an AMQP URL. `tap` gets what clients send, with a number for each."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 5672, tap)

    def __enter__(self) -> "Proxy":
        self._flowing.set()
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(deadline(10))
        self._loop.close()
        self._holder.close()

    def url(self, original: str) -> str:
        """The same URL through this line."""
        parts = urlsplit(original)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections are open through it."""
        return len(self._lines)

    def cut(self, reset: bool = False) -> None:
        """End all connections now, on both sides; with `reset` the peers read "connection reset"."""
        self._do(self._cut(reset))

    def cut_after(self, size: int, direction: Direction) -> None:
        """Let so many more bytes through in that direction, then cut, once. Can end in the middle of a frame."""
        self._left[direction] = size

    def freeze(self) -> None:
        """Half open: connections stay and new ones are accepted, but no byte comes out on the other side."""
        self._do(self._hold(True))

    def thaw(self) -> None:
        """What was held flows on."""
        self._do(self._hold(False))

    def refuse(self) -> None:
        """New connections are refused; those that are open stay."""
        self._do(self._close_listener())

    def accept(self) -> None:
        """Listen (again) on the same port."""
        self._do(self._open_listener())

    def lead_to(self, url: str) -> None:
        """From now on new connections go to another broker, as after an upgrade or a move."""
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5672)

    def delay(self, seconds: float) -> None:
        """Hold every piece of data back for so long; 0 takes it back."""
        self._delay = seconds

    def throttle(self, bytes_per_second: float | None) -> None:
        """Let no more through than that, on each connection and in each direction; None takes it back."""
        self._rate = bytes_per_second

    # On the loop

    def _do(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(deadline(10))

    async def _hold(self, frozen: bool) -> None:
        if frozen:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _open_listener(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port), limit=CHUNK)

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self, reset: bool) -> None:
        await asyncio.gather(*[line.cut(reset) for line in self._lines])

    async def _shut(self) -> None:
        await self._close_listener()
        await self._cut(reset=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        line = _Line(writer, self.accepted)
        self._lines.add(line)
        try:
            back_reader, back_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
            line.writers.append(back_writer)
            line.pumps = [
                asyncio.create_task(self._pump(line, reader, back_writer, "up")),
                asyncio.create_task(self._pump(line, back_reader, writer, "down")),
            ]
            await asyncio.wait([line.over, *line.pumps], return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # nobody behind the line: the client sees its side end
        finally:
            await line.close()
            self._lines.discard(line)

    async def _pump(
        self, line: "_Line", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        more = True
        with contextlib.suppress(ConnectionError):
            while more and (data := await reader.read(CHUNK)):
                await asyncio.sleep(self._delay)
                await self._flowing.wait()  # ends with `thaw`, or with the line
                part, more = self._allowed(data, direction)
                if direction == "up" and self._tap is not None:
                    self._tap(line.number, part)
                await self._pour(part, writer)
        await self._flowing.wait()  # a frozen line hides the end of its peer, too

    async def _pour(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """The rate is asked for with each piece, so that a line that is let go hurries at once. The reader stops while
        a piece waits: whoever sends faster meets a full socket, as behind a thin line."""
        while data:
            rate = self._rate
            size = len(data) if rate is None else max(1, int(rate * TICK))
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if rate is not None:
                await asyncio.sleep(size / rate)
                await self._flowing.wait()

    def _allowed(self, data: bytes, direction: Direction) -> tuple[bytes, bool]:
        left = self._left.get(direction)
        if left is None:
            return data, True
        if left > len(data):
            self._left[direction] = left - len(data)
            return data, True
        del self._left[direction]
        return data[:left], False


class _Line:
    """One connection through the proxy: two sockets, two pumps, and the wish to end."""

    def __init__(self, client: asyncio.StreamWriter, number: int) -> None:
        self.number = number
        self.writers = [client]
        self.pumps: list[asyncio.Task[None]] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()

    async def cut(self, reset: bool) -> None:
        for writer in self.writers:
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if not self.over.done():
            self.over.set_result(None)
        await self._closed.wait()  # comes from `close`, at the end of `_serve`

    async def close(self) -> None:
        for pump in self.pumps:
            pump.cancel()
        await asyncio.gather(*self.pumps, return_exceptions=True)
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._closed.set()


def _bound(port: int) -> socket.socket:
    """A socket on 127.0.0.1 that shares its port with others of this process."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
