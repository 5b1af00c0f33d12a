"""`lifespan`: what a user opens before the first message and closes after the last; its value becomes `context.state`.
Where it is written and when it is opened is not known here."""

import contextlib
import inspect
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any, cast

from pipeline.handlers.parameters import SignatureProblem
from pipeline.handlers.threads import Threads

_WAY_OUT = "write @asynccontextmanager before async def lifespan(), and yield the state once"


def check(lifespan: object, *, name: str) -> SignatureProblem | None:
    """What is wrong with it, as far as can be seen without calling it."""
    if _can_be_opened(lifespan):
        return None
    if not callable(lifespan):
        return SignatureProblem(f'lifespan "{name}" {_is(lifespan)}, which cannot be opened and closed', _WAY_OUT)
    if inspect.iscoroutinefunction(lifespan):
        return SignatureProblem(f'lifespan "{name}" returns once and has nothing that closes what it opened', _WAY_OUT)
    try:
        inspect.signature(lifespan).bind()
    except TypeError as error:
        return SignatureProblem(f'lifespan "{name}" is called without arguments: {error}', "give them defaults")
    except ValueError:
        return None  # a callable written in C may not tell; opening it shows
    return None


def open(lifespan: object) -> AbstractAsyncContextManager[object]:
    """An async context manager whose value is the state. Takes a function under `asynccontextmanager` or
    `contextmanager`, a generator function with one yield, or a context manager, its class included. One that is not
    async is opened and closed in one thread of its own. Raises `TypeError` when calling gives something else."""
    made = _made(lifespan)
    if hasattr(made, "__aenter__"):
        return cast(AbstractAsyncContextManager[object], made)
    if hasattr(made, "__enter__"):
        return _in_thread(made)
    raise TypeError(f"the lifespan {_is(made)} when it is called, which cannot be opened and closed: {_WAY_OUT}")


def _made(lifespan: Any) -> Any:
    if _can_be_opened(lifespan):
        return lifespan
    if inspect.isasyncgenfunction(lifespan):
        return contextlib.asynccontextmanager(lifespan)()
    if inspect.isgeneratorfunction(lifespan):
        return contextlib.contextmanager(lifespan)()
    return lifespan()


def _can_be_opened(value: object) -> bool:
    """Whether it is a context manager already: some of these can be called, too, as decorators."""
    return not inspect.isclass(value) and (hasattr(value, "__aenter__") or hasattr(value, "__enter__"))


def _is(value: object) -> str:
    return "is None" if value is None else f"is of type {type(value).__name__}"


@contextlib.asynccontextmanager
async def _in_thread(manager: AbstractContextManager[object]) -> AsyncIterator[object]:
    threads = Threads("lifespan", 1)
    try:
        state = await threads.run(manager.__enter__)
        try:
            yield state
        except BaseException as error:
            if not await threads.run(partial(manager.__exit__, type(error), error, error.__traceback__)):
                raise
        else:
            await threads.run(partial(manager.__exit__, None, None, None))
    finally:
        threads.close()
