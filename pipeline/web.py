"""A web application served inside our own event loop: its port taken before anything begins, no signal handlers, an end
in order. There is no HTTP server of our own; uvicorn is loaded when somebody asks for it. What is served is not known
here."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

from pipeline.errors import UsageError

_LIBRARIES = ("uvicorn", "starlette")
_BACKLOG = 64
_MOST_CONNECTIONS = 64
# Seconds for a connection, whatever it does. Each carries one request, answered at once; uvicorn itself waits for ever
# for a request that never comes.
_LONGEST_CONNECTION = 10.0
_LARGEST_HEAD = 16 * 1024  # bytes of a request line with its headers; nothing that is served here reads a body
_GOODBYE = 0.5  # seconds for answers that are on their way when it ends


def listen(host: str, port: int) -> socket.socket:
    """Take the port; whoever asks from here on waits until the application is served. Raises `UsageError` where it
    cannot be had, or a library is missing."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(f"health and metrics need {' and '.join(missing)}; install it: pip install 'piperun[http]'")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # What the one before has left behind does not count; somebody who listens does.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        why = (error.strerror or str(error)).lower()
        raise UsageError(
            f"cannot serve health and metrics at {shown(host, port)}: {why}; choose another address in `runtime.http`, "
            "or with --http"
        ) from None
    listener.setblocking(False)
    return listener


def shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def served(application: Callable[..., Any], listener: socket.socket) -> AsyncIterator[None]:
    """Serves as long as the block lasts, on its event loop. At the end answers get a second to arrive."""
    server = _server(application)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield
    finally:
        server.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({serving}, timeout=_GOODBYE)
        if not serving.done():
            server.cut()
            await asyncio.wait({serving}, timeout=_GOODBYE)
        serving.cancel()
        listener.close()


def _server(application: Callable[..., Any]) -> Any:
    """The classes are made here, since uvicorn is not there for everybody."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """A connection that ends in time."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.end = self.loop.call_later(_LONGEST_CONNECTION, transport.abort)
            if len(self.connections) > _MOST_CONNECTIONS:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self.end.cancel()
            super().connection_lost(exc)

    class Server(uvicorn.Server):
        """Without signal handlers, and without looking at the clock ten times a second."""

        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            self._told = asyncio.Event()

        def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
            return contextlib.nullcontext()

        async def main_loop(self) -> None:
            await self._told.wait()

        def leave(self) -> None:
            self.should_exit = True
            self._told.set()

        def cut(self) -> None:
            self.force_exit = True
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    return Server(
        uvicorn.Config(
            application,
            http=Bounded,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # a request that is none is no news of ours
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_LARGEST_HEAD,
        )
    )
