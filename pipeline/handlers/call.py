"""Run one call plan on one message. What came back or was raised becomes an outcome here, whatever it is; what is
yielded goes to `output` as it comes. How the message is settled and where outputs go is not known here. Hot:
`_Call.handle`, and `handle_alone` in its place."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import copy_context
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Protocol

from pipeline.clock import Clock
from pipeline.codec import DecodeError
from pipeline.handlers.context import Context
from pipeline.handlers.limit import GRACE
from pipeline.handlers.signature import CallPlan
from pipeline.handlers.threads import Threads
from pipeline.message import Message
from pipeline.outcome import DONE, Done, Outcome, Undecodable, outcome_of

Output = Callable[[object], Awaitable[None]]

_END = object()
_GENERATORS = (AsyncGeneratorType, GeneratorType)


class Handler(Protocol):
    """Handles a message to its end. Never raises, except when it is cancelled."""

    async def __call__(self, message: Message, context: Context, output: Output) -> Outcome: ...


def handler(plan: CallPlan, *, threads: Threads, clock: Clock) -> Handler:
    """A handler for a plan that is not a stream. Several calls may run at a time.

    What the function returns is in the outcome, and whoever settles the message sends it on. A generator's values go to
    `output` one by one, None never. An exception of `output` fails the message, and closes the generator."""
    call = _Call(plan, threads, clock)
    return call.handle if plan.alone is None else call.handle_alone


def ended_by(error: BaseException) -> Outcome:
    """What an exception from a handler means. Raises `CancelledError` when this task was told to end: whatever came out
    then is a consequence. A cancellation that nobody sent is a failure like any other."""
    if was_cancelled():
        try:
            if isinstance(error, asyncio.CancelledError):
                raise error
            raise asyncio.CancelledError from error
        finally:
            del error  # its traceback leads here: together they would hold the message until the collector comes
    return outcome_of(error)


def was_cancelled() -> bool:
    """Whether somebody cancelled the current task, also when a handler has swallowed it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def put_out(value: object, output: Output) -> None:
    """Hand on a value, unless it is None. What a cancelled handler still yields is not published."""
    if value is None:
        return
    if was_cancelled():
        raise asyncio.CancelledError
    await output(value)


def _returned(value: object) -> Outcome:
    if was_cancelled():  # what a cancelled handler still returns is not published
        raise asyncio.CancelledError
    return Done(value)


async def close_generator(closing: Awaitable[None], context: Context, clock: Clock) -> None:
    """Let a generator end that is asked no more. What it raises then is told and does not hide the reason."""
    try:
        async with clock.deadline(GRACE):
            await closing
    except BaseException as error:
        if was_cancelled():
            raise
        context.logger.warning("closing the handler's generator did not work: %r", error)


class _Call:
    """One plan; how its function is started is decided once."""

    __slots__ = ("_alone", "_clock", "_function", "_keywords", "_positional", "_start", "_threads")

    def __init__(self, plan: CallPlan, threads: Threads, clock: Clock) -> None:
        self._function = plan.function
        self._positional = plan.positional
        self._keywords = plan.keywords
        self._alone = plan.alone
        self._threads = threads
        self._clock = clock
        self._start: Callable[..., Awaitable[Any]]
        match plan.kind:
            case "coroutine":
                self._start = plan.function
            case "thread":
                self._start = self._in_thread
            case "generator" | "async_generator":
                self._start = self._made
            case "stream" | "stream_generator":
                raise ValueError(f'"{plan.name}" is a stream handler; handlers.stream runs it')

    async def handle(self, message: Message, context: Context, output: Output) -> Outcome:
        try:
            arguments = [fill(message, context) for fill in self._positional]
            keywords = {name: fill(message, context) for name, fill in self._keywords}
        except DecodeError as error:
            return Undecodable(str(error))
        except BaseException as error:
            return ended_by(error)
        try:
            result = await self._start(*arguments, **keywords)
            if type(result) in _GENERATORS:
                await self._put_out_all(result, context, output)
                return DONE
            return DONE if result is None else _returned(result)
        except BaseException as error:
            return ended_by(error)

    async def handle_alone(self, message: Message, context: Context, output: Output) -> Outcome:
        """`handle` for a function with one argument, as most are: no list, no dictionary."""
        assert self._alone is not None
        try:
            argument = self._alone(message)
        except DecodeError as error:
            return Undecodable(str(error))
        except BaseException as error:
            return ended_by(error)
        try:
            result = await self._start(argument)
            if type(result) in _GENERATORS:
                await self._put_out_all(result, context, output)
                return DONE
            return DONE if result is None else _returned(result)
        except BaseException as error:
            return ended_by(error)

    async def _in_thread(self, *arguments: object, **keywords: object) -> Any:
        result = await self._threads.run(partial(self._function, *arguments, **keywords))
        return await result if inspect.isawaitable(result) else result

    async def _made(self, *arguments: object, **keywords: object) -> Any:
        return self._function(*arguments, **keywords)  # only makes the generator: nothing in it runs yet

    async def _put_out_all(self, result: Any, context: Context, output: Output) -> None:
        if type(result) is AsyncGeneratorType:
            await self._put_out_each(result, context, output)
        else:
            await self._put_out_each_in_thread(result, context, output)

    async def _put_out_each(self, values: AsyncGenerator[object, None], context: Context, output: Output) -> None:
        try:
            async for value in values:
                await put_out(value, output)
        except BaseException:
            await close_generator(values.aclose(), context, self._clock)
            raise

    async def _put_out_each_in_thread(
        self, values: Generator[object, None, None], context: Context, output: Output
    ) -> None:
        step = partial(copy_context().run, next, values, _END)  # one set of context variables for all its steps
        async with self._threads.one() as thread:
            try:
                while (value := await thread.run(step)) is not _END:
                    await put_out(value, output)
            except asyncio.CancelledError:
                thread.start(values.close)  # comes after the step that may still run there
                raise
            except BaseException:
                await close_generator(thread.run(values.close), context, self._clock)
                raise
