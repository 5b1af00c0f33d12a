"""One connection to a broker: opened and kept by aiormq, with an ear on what the broker sends. aiormq logs in, sends
heartbeats and answers the end of the connection; it sees channel 0 alone, so nothing that a broker may say on a
channel upsets it. Frames of the player go out beside aiormq's, each whole."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

import aiormq
from aiormq.connection import TransportFactory
from yarl import URL

from tests.waiting import deadline

Hear = Callable[[int, int, bytes], None]  # type, channel and payload of a frame


class Line:
    """From `open` to `close`. `ended` is set when the socket is gone, whoever closed it."""

    def __init__(self, url: str, hear: Hear) -> None:
        self._factory = _Factory(hear)
        self._connection = aiormq.Connection(url, transport_factory=self._factory)
        self.ended = self._factory.ended

    @classmethod
    async def open(cls, url: str, hear: Hear, over: Callable[[], None]) -> "Line":
        """`hear` is called with each frame that comes after the login, and `over` at the end of the socket."""
        line = cls(url, hear)
        async with asyncio.timeout(deadline(20)):
            await line._connection.connect()
        line._factory.over = over
        line._factory.listening = True
        return line

    def write(self, octets: bytes) -> None:
        if not self.ended.is_set():
            self._factory.writer.write(octets)

    def cut(self) -> None:
        """End it without a word."""
        self._factory.writer.transport.abort()

    async def close(self) -> None:
        """With connection.close, where nobody has closed it yet. Waits for the end of the socket."""
        async with asyncio.timeout(deadline(20)):
            await self._connection.close()
            await self.ended.wait()


class _Factory(TransportFactory):
    """Opens the socket, with a reader of ours for aiormq."""

    def __init__(self, hear: Hear) -> None:
        self.hear = hear
        self.over: Callable[[], None] = lambda: None
        self.listening = False
        self.ended = asyncio.Event()
        self.writer: asyncio.StreamWriter

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = _Tap(self)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        assert url.host and url.port
        transport, _ = await loop.create_connection(lambda: protocol, url.host, url.port)
        self.writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        return reader, self.writer

    def end(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self.over()


class _Tap(asyncio.StreamReader):
    """Tells each frame to the ear, and hands those of channel 0 on."""

    def __init__(self, factory: _Factory) -> None:
        super().__init__()
        self._factory = factory
        self._octets = b""

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self._octets += bytes(data)
        if self._octets.startswith(b"AMQP"):  # a refusal of the protocol header is no frame
            super().feed_data(self._octets)
            self._octets = b""
        while len(self._octets) >= 7:
            end = 8 + int.from_bytes(self._octets[3:7])
            if end > len(self._octets):
                return
            frame, self._octets = self._octets[:end], self._octets[end:]
            channel = int.from_bytes(frame[1:3])
            if self._factory.listening:
                self._factory.hear(frame[0], channel, frame[7:-1])
            if channel == 0:
                super().feed_data(frame)

    def feed_eof(self) -> None:
        self._factory.end()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self._factory.end()
        super().set_exception(exc)
