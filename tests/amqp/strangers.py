"""Servers that are not what a client expects: other protocols, silence, a line that ends at once; and a TLS port in
front of a real broker."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.waiting import deadline

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def stranger(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Something on a port that does what `talk` does with each connection."""
    talking: set[asyncio.Future[None]] = set()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        talking.add(talked := asyncio.ensure_future(talk(reader, writer)))
        await asyncio.wait({talked})
        writer.transport.abort() if context is not None else writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in talking:
            each.cancel()
        if serving:
            await asyncio.wait(serving, timeout=deadline(10))


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: keep-alive\r\n\r\n")
    await asyncio.Event().wait()


async def http_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


async def amqp_1_0(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"AMQP\x03\x01\x00\x00")
    await writer.drain()


async def tls_alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"\x15\x03\x01\x00\x02\x02\x46")
    await writer.drain()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


@asynccontextmanager
async def behind_tls(url: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    """The URL of a TLS port in front of the broker of this URL."""
    parts = urlsplit(url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(parts.hostname, parts.port)
        ways = {
            asyncio.ensure_future(one_way(reader, back_writer)),
            asyncio.ensure_future(one_way(back_reader, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ways:
                each.cancel()
            back_writer.close()

    async with stranger(pass_on, context) as port:
        login = parts.netloc.rpartition("@")[0]
        yield parts._replace(scheme="amqps", netloc=f"{login}@127.0.0.1:{port}").geturl()


async def one_way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
