"""An application on a real port: taken early, served in bounds, ended in order."""

import asyncio
import contextlib
import importlib.util
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from pipeline import web
from pipeline.errors import UsageError
from tests.waiting import deadline

pytestmark = pytest.mark.both_loops

HEADERS = [(b"connection", b"close"), (b"content-length", b"5")]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(
    _: object, __: Callable[[], Awaitable[object]], send: Callable[[dict[str, object]], Awaitable[None]]
) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"hello"})


async def say(listener: socket.socket, request: bytes) -> bytes:
    """Everything that comes until the other side ends the connection."""
    async with asyncio.timeout(deadline(10)):
        reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        writer.write(request)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            await gone(writer)


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_it_answers_on_this_loop_and_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    listener = web.listen("127.0.0.1", 0)
    early = asyncio.create_task(say(listener, GET))  # waits until somebody serves
    async with web.served(hello, listener):
        assert (await early).startswith(b"HTTP/1.1 200 OK\r\n")
        assert (await say(listener, GET)).endswith(b"hello")
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert listener.fileno() == -1


async def test_a_port_that_is_taken_is_told_with_a_way_out() -> None:
    with web.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as raised:
            web.listen("127.0.0.1", port)
    assert str(raised.value) == (
        f"cannot serve health and metrics at 127.0.0.1:{port}: address already in use; choose another address in "
        "`runtime.http`, or with --http"
    )


async def test_a_library_that_is_not_there_is_told_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "find_spec", lambda name: None if name == "uvicorn" else importlib.util.find_spec(name))
    with pytest.raises(UsageError) as raised:
        web.listen("127.0.0.1", 0)
    assert str(raised.value) == "health and metrics need uvicorn; install it: pip install 'piperun[http]'"


async def test_a_connection_ends_in_time_though_its_request_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_LONGEST_CONNECTION", 0.2)
    listener = web.listen("127.0.0.1", 0)
    async with web.served(hello, listener):
        assert await say(listener, b"") == b""
        assert await say(listener, GET[:20]) == b""


async def test_a_head_that_is_too_large_is_refused() -> None:
    listener = web.listen("127.0.0.1", 0)
    async with web.served(hello, listener):
        answer = await say(listener, GET[:-2] + b"X: " + b"x" * 100_000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


async def test_more_connections_than_allowed_are_ended_and_the_next_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "_MOST_CONNECTIONS", 2)
    listener = web.listen("127.0.0.1", 0)
    async with web.served(hello, listener):
        idle = [await asyncio.open_connection(*listener.getsockname()) for _ in range(2)]
        assert await say(listener, GET) == b""
        for _, writer in idle:
            await gone(writer)
        answers = [await say(listener, GET) for _ in range(3)]  # the ends of the idle ones may be on their way
        assert answers[-1].endswith(b"hello")


async def test_it_ends_in_time_with_a_connection_open() -> None:
    listener = web.listen("127.0.0.1", 0)
    async with asyncio.timeout(deadline(10)):
        async with web.served(hello, listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(GET[:20])
            assert (await say(listener, GET)).endswith(b"hello")
        await gone(writer)
