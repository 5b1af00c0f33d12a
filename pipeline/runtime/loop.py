"""Which event loop the processes of a run get: decided by the one that was started, which tells its workers. It alone
knows uvloop, and loads it when a run begins or a file asks for it by name. It also says how often the garbage collector
stops that loop. The embedded broker has its own."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from importlib import import_module
from socket import gaierror
from typing import Any, TypeVar

from pipeline.config.load import Reference
from pipeline.config.model import Loop
from pipeline.errors import UsageError
from pipeline.events import Event, Notice
from pipeline.problems import Problem

T = TypeVar("T")

# Objects that were made and not freed. More would gain nothing, and leave more bodies in a handler's own cycles.
_COLLECT_AFTER = 2_000
_PYTHONS_THRESHOLD = (700, 10, 10)  # by default

_WAY_OUT = 'install it ("pip install uvloop"), or choose `auto`'


def choose(wanted: Loop, emit: Callable[[Event], None]) -> Loop:
    """`auto` as what it means here. Raises `UsageError` where uvloop is asked for and cannot be had."""
    why = why_not_uvloop() if wanted != "asyncio" else None
    if why is not None and wanted == "uvloop":
        raise UsageError(f"the event loop is to be uvloop, and {why}; {_WAY_OUT}")
    if why is not None and why != _ABSENT:  # somebody meant it to be there
        emit(Notice(subject="pipeline", sentence=f"{why}: running on asyncio's own loop instead", level="warning"))
    chosen: Loop = "uvloop" if wanted != "asyncio" and why is None else "asyncio"
    emit(Notice(subject="pipeline", sentence=f"the event loop is that of {chosen}", level="debug"))
    return chosen


def run_on(loop: Loop, work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on the loop that `choose` chose."""
    _rarely_collected()
    with asyncio.Runner(loop_factory=_uvloop if loop == "uvloop" else None) as runner:
        return runner.run(work)


def _rarely_collected() -> None:
    """What a message needs goes with it, without the garbage collector, for none of it refers to itself; and what was
    there before a run stays, such as the modules of handlers, which may bring a million objects. From now on the
    collector leaves the second alone and looks for cycles of handlers a third as often, which is a twentieth of the
    time for a message. A threshold that somebody has chosen is kept."""
    gc.freeze()
    if gc.get_threshold() == _PYTHONS_THRESHOLD:
        gc.set_threshold(_COLLECT_AFTER, *_PYTHONS_THRESHOLD[1:])


def check(written: Reference | None) -> list[Problem]:
    """Whether the loop that a file asks for by name can be had. It is really imported, as handlers are: that it lies
    there does not say that it was built for this Python."""
    if written is None or written.path != "uvloop" or (why := why_not_uvloop()) is None:
        return []
    return [written.error("unknown-module", f"`runtime` asks for uvloop, and {why}", _WAY_OUT)]


_ABSENT = "uvloop is not installed"


def why_not_uvloop() -> str | None:
    """None: it can be had."""
    try:
        import_module("uvloop")
    except ModuleNotFoundError as error:
        return _ABSENT if error.name == "uvloop" else f"uvloop cannot be imported ({error})"
    except Exception as error:  # a build for another Python can raise anything
        return f"uvloop cannot be imported ({error})"
    return None


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_complain)
    return loop


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of what nobody waits for. When the time for connecting is over, uvloop leaves the question for the address alone;
    that a name was not found, long after that, is no news: who connects has been told that there was no answer."""
    if not isinstance(context.get("exception"), gaierror):
        loop.default_exception_handler(context)
