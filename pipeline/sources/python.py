"""Items from the user's own Python: a generator or async generator function by path, or anything that returns an
iterator when it is called. It is asked for the next item only when there is room for one; who makes room, and what
becomes of the items, is not known here."""

import asyncio
import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

from pipeline.clock import Clock
from pipeline.errors import SourceError, SourceProblem
from pipeline.message import Message
from pipeline.sources.base import Counted, Item, ids, shown
from pipeline.sources.thread import Steps
from pipeline.values import Frozen

GRACE: Final = 2.0  # seconds that a stop waits for a generator that is in the middle of a step
_LONGEST_TURN: Final = 0.001  # seconds
_MOST_A_TURN: Final = 100  # items
FRAMES: Final = 3
LONGEST_TEXT: Final = 500
_END: Final = object()


class Generator(Counted):
    """Each item that is yielded becomes one message: bytes, text, a value for JSON, or a `Message` with a routing key,
    headers and properties of its own. `None` gives nothing.

    A generator resumes after a `yield` when the next item is wanted: with `max_in_flight: 1` that is after the confirm
    of the one before; with more, confirms of up to so many may still be outstanding. A plain generator runs in a thread
    of its own, step by step; an async one runs on the loop. At the end and on a stop it is closed, so that its
    `finally` runs."""

    def __init__(self, path: str, target: object, *, producer: str, clock: Clock) -> None:
        """Raises `SourceProblem` as `check_generator` does."""
        super().__init__()
        check_generator(path, target)
        self._path = path
        self._producer = producer
        self._target = cast(Callable[[], object], target)
        self._clock = clock
        self._steps = Steps(f"source {path}")
        self._iterator: Any = None  # the user's, of either kind
        self._in_this_turn = 0  # items
        self._turned = clock.now()

    async def __aiter__(self) -> AsyncIterator[Item]:
        self._iterator = await self._begin()
        message_ids = ids()
        while (value := await self._next()) is not _END:
            if value is not None:
                yield _item(value, message_ids)

    async def _begin(self) -> object:
        if _made_on_the_loop(self._target):
            made = _call(self._target)
        else:
            made = await self._steps.run(partial(_call, self._target))
        made = self._unless_raised(made)
        if hasattr(made, "__aiter__"):
            return self._unless_raised(_call(partial(aiter, made)))
        if not hasattr(made, "__iter__") or isinstance(made, str | bytes | dict):
            raise SourceError(f"{self._path} returned {_kind(made)}, which gives no items; use `yield` for each item")
        return self._unless_raised(await self._steps.run(partial(_call, partial(iter, made))))

    async def _next(self) -> object:
        if hasattr(self._iterator, "__anext__"):
            step = await _await(partial(anext, self._iterator, _END))
            await self._let_others_in()
        else:
            step = await self._steps.run(partial(_call, partial(next, self._iterator, _END)))
        return self._unless_raised(step)

    async def _let_others_in(self) -> None:
        """A generator that never waits would keep the loop to itself. With a turn of the loop for each item, though,
        each would be a write to the socket of its own, which costs more than all the rest of it."""
        self._in_this_turn += 1
        if self._in_this_turn >= _MOST_A_TURN or self._clock.now() - self._turned >= _LONGEST_TURN:
            await self._clock.sleep(0)
            self._in_this_turn, self._turned = 0, self._clock.now()

    def _unless_raised(self, step: object) -> object:
        if not isinstance(step, _Raised):
            return step
        frames = _frames(step.error)
        where = f" ({', '.join(frames[-FRAMES:])})" if frames else ""
        raise SourceError(f"{self._path} failed: {_text(step.error)}{where}", frames=frames) from step.error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if await self._between_steps():
                await self._close()
        finally:
            self._steps.end()

    async def _between_steps(self) -> bool:
        """Wait a little for a step that a cancelled iteration left behind. Whether it came to its end."""
        if not self._steps.busy:
            return True
        try:
            async with self._clock.deadline(GRACE):
                await self._steps.run(_nothing)
        except TimeoutError:
            _log().warning(
                "producer.%s: %s still runs %g s after it was to stop, and is left behind: its `finally` will not run. "
                "A generator that waits long can be an async one, which can be stopped while it waits",
                self._producer,
                self._path,
                GRACE,
            )
            return False
        return True

    async def _close(self) -> None:
        """Run the `finally` of a generator that stands at a `yield`. It is bounded by whoever stops the pipeline."""
        step: object = None
        if hasattr(self._iterator, "aclose"):
            step = await _await(self._iterator.aclose)
        elif hasattr(self._iterator, "close"):
            step = await self._steps.run(partial(_call, self._iterator.close))
        if isinstance(step, _Raised):
            frames = ", ".join(_frames(step.error)[-FRAMES:])
            said = f"{self._path} failed while it was closed: {_text(step.error)} ({frames})"
            _log().warning("producer.%s: %s", self._producer, said)


def check_generator(path: str, target: object) -> None:
    """Whether calling `target` can give items. Raises `SourceProblem` with a sentence that begins with `path`."""
    if not callable(target):
        raise SourceProblem(
            f"{path} is {_kind(target)}, not a function; a source is a generator function: `def`, no parameters, "
            "`yield` for each item"
        )
    if inspect.iscoroutinefunction(_function(target)):
        raise SourceProblem(f"{path} is an `async def` without `yield`, so it gives no items; `yield` each of them")
    needed = _needed(target)
    if needed:
        raise SourceProblem(
            f"{path} has parameters without a default ({', '.join(needed)}); a source is called without arguments"
        )


class _Raised(Frozen, frozen=True):
    """An exception of the user's code, as a value: a future cannot carry `StopIteration`, and `SystemExit` in a task
    would end the loop."""

    error: BaseException


def _call(step: Callable[[], object]) -> object:
    try:
        return step()
    except BaseException as error:
        return _Raised(error)


async def _await(step: Callable[[], Any]) -> object:
    try:
        return await step()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # we are being stopped
        return _Raised(error)  # the generator raised it, for instance from a task of its own that was cancelled
    except (Exception, SystemExit) as error:
        return _Raised(error)


def _nothing() -> None:
    return None


def _item(value: object, message_ids: Iterator[str]) -> Item:
    own = value.message_id if isinstance(value, Message) else None
    return Item(value, headers={}, message_id=own or next(message_ids))


def _made_on_the_loop(target: object) -> bool:
    """Async generators and classes of async iterators belong to the loop; a plain function may block."""
    return inspect.isasyncgenfunction(_function(target)) or (isinstance(target, type) and hasattr(target, "__aiter__"))


def _function(target: object) -> object:
    while isinstance(target, partial):
        target = target.func
    if inspect.isroutine(target) or isinstance(target, type):
        return target
    return type(target).__call__ if callable(target) else target


def _needed(target: Callable[..., object]) -> list[str]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some written in C do not tell
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in optional]


def _frames(error: BaseException) -> tuple[str, ...]:
    """Where it happened in the user's code, outermost first: our own frames are of no use to the reader."""
    ours = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent != ours]
    if not frames and error.__cause__:  # Python turns a StopIteration in a generator into an error of its own (PEP 479)
        return _frames(error.__cause__)
    return tuple(f"{shown(Path(frame.filename))}:{frame.lineno}" for frame in frames)


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split())[:LONGEST_TEXT]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _log() -> logging.Logger:
    return logging.getLogger("piperun")
