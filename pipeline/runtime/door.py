"""The port at which a run tells how it stands: taken before anything connects, served until the end. Which pages there
are is not known here."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from pipeline.config.model import Http
from pipeline.events import Event, Notice
from pipeline.observe.health import Status
from pipeline.values import Frozen
from pipeline.web import listen, served, shown


class Door(Frozen, frozen=True, kw_only=True):
    listener: socket.socket
    hosts: tuple[str, ...]


@contextmanager
def opened(http: Http | None) -> Iterator[Door | None]:
    """None where nothing is asked for. Raises `UsageError` where the port cannot be had."""
    if http is None:
        yield None
        return
    with listen(http.host, http.port) as listener:
        yield Door(listener=listener, hosts=http.hosts)


@asynccontextmanager
async def answering(
    door: Door | None, status: Callable[[], Status], emit: Callable[[Event], None]
) -> AsyncIterator[None]:
    """Answers as long as the block lasts."""
    if door is None:
        yield
        return
    from pipeline.observe.pages import pages  # loads starlette, which is there for those who ask for it

    host, port = door.listener.getsockname()[:2]
    emit(Notice(subject="pipeline", sentence=f"health and metrics are at http://{shown(host, port)}/"))
    async with served(pages(status, hosts=door.hosts), door.listener):
        yield
