"""One plan on one message: what comes back or is raised becomes an outcome, values go out as they come."""

import asyncio
import contextvars
import functools
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.clock import FakeClock
from pipeline.errors import PublishError, Reject, Retry
from pipeline.handlers.call import handler
from pipeline.handlers.context import Context
from pipeline.handlers.limit import GRACE
from pipeline.message import Message
from pipeline.outcome import DONE, Done, Failed, Outcome, Rejected, RetryAsked, Undecodable
from tests.handlers.stage import Stage, planned
from tests.waiting import deadline, eventually


@dataclass
class Order:
    id: int


ORDER = Message(b'{"id": 4}', content_type="application/json")
SECONDS = deadline(10)


def failed_with(outcome: Outcome, kind: type[BaseException], text: str = "") -> bool:
    return isinstance(outcome, Failed) and isinstance(outcome.error, kind) and text in str(outcome.error)


# --- the four kinds --------------------------------------------------------------------------------------------------


async def coroutine(order: Order) -> int:
    return order.id


def thread(order: Order) -> int:
    return order.id


async def values(order: Order) -> AsyncIterator[int | None]:
    yield order.id
    yield None
    yield order.id + 1


def plain_values(order: Order) -> Iterator[int | None]:
    yield order.id
    yield None
    yield order.id + 1


def returning_coroutine(order: Order) -> Awaitable[int]:
    return coroutine(order)


def returning_values(order: Order) -> AsyncIterator[int | None]:
    return values(order)


async def returning_plain_values(order: Order) -> Iterator[int | None]:
    return plain_values(order)


async def returning_a_list(order: Order) -> list[int]:
    return [order.id, order.id + 1]


class Desk:
    async def __call__(self, order: Order) -> int:
        return order.id


@pytest.mark.parametrize(
    ("function", "outputs"),
    [
        (coroutine, [4]),
        (thread, [4]),
        (values, [4, 5]),
        (plain_values, [4, 5]),
        (returning_coroutine, [4]),
        (returning_values, [4, 5]),
        (returning_plain_values, [4, 5]),
        (returning_a_list, [[4, 5]]),
        (Desk(), [4]),
        (functools.partial(thread), [4]),
    ],
)
async def test_what_a_handler_returns_or_yields_goes_out(function: Callable[..., Any], outputs: list[object]) -> None:
    stage = Stage()
    assert await stage.run(function, ORDER) is DONE
    assert stage.outputs == outputs
    assert stage.threads.busy() == []


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_that_returns_nothing_puts_nothing_out(plain: bool) -> None:
    async def nothing() -> None: ...
    def plain_nothing() -> None: ...

    stage = Stage()
    assert await stage.run(plain_nothing if plain else nothing) is DONE
    assert stage.outputs == []


async def test_a_generator_is_asked_for_more_only_after_its_value_is_out() -> None:
    # Given a generator and an output that tell in turn what happens
    told: list[str] = []

    async def steps(body: bytes) -> AsyncIterator[str]:
        for each in ("a", "b"):
            told.append(f"made {each}")
            yield each

    async def output(value: object) -> None:
        await asyncio.sleep(0)
        told.append(f"sent {value}")

    # When it runs
    stage = Stage()
    await stage.handler(steps)(ORDER, stage.context(), output)
    # Then each value is sent before the next is made
    assert told == ["made a", "sent a", "made b", "sent b"]


async def test_plain_functions_run_beside_the_loop() -> None:
    def where() -> str:
        return threading.current_thread().name

    stage = Stage()
    await stage.run(where)
    assert stage.outputs == ["charge-1"]


async def test_a_plain_generator_stays_in_one_thread_with_its_context_variables() -> None:
    mine = contextvars.ContextVar("mine", default="unset")

    def steps() -> Iterator[tuple[str, str]]:
        yield threading.current_thread().name, mine.get()
        mine.set("by the generator")
        yield threading.current_thread().name, mine.get()

    stage = Stage()
    mine.set("by the caller")
    await stage.run(steps)
    assert stage.outputs == [("charge-1", "by the caller"), ("charge-1", "by the generator")]
    assert mine.get() == "by the caller"


async def test_context_variables_of_the_caller_are_seen_in_a_thread() -> None:
    mine = contextvars.ContextVar("mine", default="unset")
    mine.set("by the caller")
    stage = Stage()
    await stage.run(lambda body: mine.get())
    assert stage.outputs == ["by the caller"]


# --- what is not a success -------------------------------------------------------------------------------------------


class Odd(BaseException):
    pass


RAISED = [
    ValueError("no"),
    KeyError("key"),
    StopIteration(),
    StopAsyncIteration(),
    RecursionError("deep"),
    MemoryError(),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError("nobody sent this"),
    TimeoutError(),
    ExceptionGroup("two", [ValueError(), TypeError()]),
    Odd(),
]
RUNTIME_ERRORS = (StopIteration, StopAsyncIteration)  # Python may turn these into RuntimeError on the way


def raising(error: BaseException) -> list[Callable[..., Any]]:
    async def by_coroutine() -> None:
        raise error

    def by_thread() -> None:
        raise error

    async def by_values() -> AsyncIterator[int]:
        yield 1
        raise error

    def by_plain_values() -> Iterator[int]:
        yield 1
        raise error

    return [by_coroutine, by_thread, by_values, by_plain_values]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", range(4), ids=["coroutine", "thread", "values", "plain values"])
async def test_whatever_a_handler_raises_is_a_failure(error: BaseException, kind: int) -> None:
    stage = Stage()
    outcome = await stage.run(raising(error)[kind])
    assert isinstance(outcome, Failed)
    assert outcome.error is error or (isinstance(error, RUNTIME_ERRORS) and isinstance(outcome.error, RuntimeError))
    assert stage.outputs == ([] if kind < 2 else [1])
    assert await stage.run(coroutine, ORDER) is DONE  # and the next message is handled


@pytest.mark.parametrize("kind", range(4), ids=["coroutine", "thread", "values", "plain values"])
async def test_a_handler_can_ask_for_a_retry_or_reject(kind: int) -> None:
    stage = Stage()
    assert await stage.run(raising(Retry("30s", "busy"))[kind]) == RetryAsked(30.0, "busy")
    assert await stage.run(raising(Reject("broken"))[kind]) == Rejected("broken")
    assert isinstance(await stage.run(raising(Retry("soon"))[kind]), Failed)


async def test_a_body_that_does_not_fit_is_not_given_to_the_handler() -> None:
    called: list[object] = []

    async def note(order: Order) -> None:
        called.append(order)

    stage = Stage()
    outcome = await stage.run(note, Message(b'{"id": "x"}', content_type="application/json"))
    assert outcome == Undecodable("the body does not fit Order: Expected `int`, got `str` - at `$.id`")
    assert called == []


async def test_a_cancellation_inside_a_handler_is_its_own_failure() -> None:
    async def cancels_its_own_task() -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    assert failed_with(await Stage().run(cancels_its_own_task), asyncio.CancelledError)


async def test_a_time_limit_inside_a_handler_is_its_own_failure() -> None:
    async def waits_with_a_limit() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    assert failed_with(await Stage().run(waits_with_a_limit), TimeoutError)


# --- an output that fails --------------------------------------------------------------------------------------------


async def refuse(value: object) -> None:
    raise PublishError("queue is full")


async def test_a_result_is_handed_back_and_not_sent() -> None:
    stage = Stage()
    call = handler(planned(coroutine), threads=stage.threads, clock=stage.clock)
    outcome = await call(ORDER, stage.context(), refuse)
    assert outcome == Done(4)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_value_that_cannot_be_published_closes_the_generator(plain: bool) -> None:
    closed: list[str] = []

    async def steps() -> AsyncIterator[int]:
        try:
            yield 1
            closed.append("asked for more")
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    def plain_steps() -> Iterator[int]:
        try:
            yield 1
            closed.append("asked for more")
        finally:
            closed.append("closed")

    stage = Stage()
    outcome = await stage.handler(plain_steps if plain else steps)(ORDER, stage.context(), refuse)
    assert failed_with(outcome, PublishError)
    assert closed == ["closed"]


async def test_a_generator_that_fails_to_close_does_not_hide_why_it_was_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def steps() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise SystemExit("in finally")

    stage = Stage()
    outcome = await stage.handler(steps)(ORDER, stage.context(), refuse)
    assert failed_with(outcome, PublishError)
    assert caplog.messages == ["closing the handler's generator did not work: SystemExit('in finally')"]


async def test_a_generator_that_does_not_close_is_not_waited_for_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()

    async def steps() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    stage = Stage(clock=clock)
    running = asyncio.create_task(stage.handler(steps)(ORDER, stage.context(), refuse))
    await eventually(lambda: clock.waiting, told="the deadline for closing")
    clock.advance(GRACE)
    assert failed_with(await running, PublishError)
    assert "did not work" in caplog.text


# --- cancelling ------------------------------------------------------------------------------------------------------


class Held:
    """A handler of each kind that tells when it has begun and ends when `go` is set."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.closed = threading.Event()

    async def coroutine(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.closed.set()

    def thread(self) -> str:
        self.begun.set()
        self.go.wait(SECONDS)
        self.closed.set()
        return "too late"

    async def values(self) -> AsyncIterator[int]:
        yield 1
        await self.coroutine()

    def plain_values(self) -> Iterator[int]:
        try:
            yield 1
            self.begun.set()
            self.go.wait(SECONDS)
            yield 2
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", ["coroutine", "thread", "values", "plain_values"])
async def test_cancelling_passes_through_and_a_thread_is_left_to_end(kind: str) -> None:
    held = Held()
    stage = Stage()
    running = asyncio.create_task(stage.run(getattr(held, kind)))
    await eventually(held.begun.is_set)
    in_thread = kind in ("thread", "plain_values")
    # When it is cancelled
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # Then a thread still runs and is named, the others have ended
    assert stage.threads.busy() == (["charge-1"] if in_thread else [])
    assert held.closed.is_set() != in_thread
    # And what comes after it does not count, but the thread is there again
    held.go.set()
    await eventually(lambda: not stage.threads.busy())
    await eventually(held.closed.is_set)
    assert stage.outputs == ([1] if "values" in kind else [])


async def test_what_a_cancelled_handler_returns_or_raises_is_a_consequence() -> None:
    begun = asyncio.Event()

    async def swallows(message: Message) -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if message.body == b"raise":
                raise ValueError("from the cancellation") from None
        return "half a result"

    for body in (b"raise", b"return"):
        stage = Stage()
        begun.clear()
        running = asyncio.create_task(stage.run(swallows, Message(body)))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert stage.outputs == []


async def test_a_generator_is_closed_when_its_output_is_cancelled() -> None:
    closed = asyncio.Event()
    sending = asyncio.Event()

    async def steps() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.set()

    async def output(value: object) -> None:
        sending.set()
        await asyncio.Event().wait()

    stage = Stage()
    running = asyncio.create_task(stage.handler(steps)(ORDER, stage.context(), output))
    await sending.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed.is_set()


# --- the context -----------------------------------------------------------------------------------------------------


async def test_a_handler_publishes_through_its_context() -> None:
    async def publishes(context: Context) -> None:
        await context.publish({"id": 1}, exchange="orders", routing_key="paid", headers={"a": 1})
        await context.publish("text", queue="invoices")
        await context.publish("there")

    stage = Stage()
    assert await stage.run(publishes) is DONE
    assert stage.published == [
        ({"id": 1}, {"exchange": "orders", "routing_key": "paid", "headers": {"a": 1}}),
        ("text", {"queue": "invoices"}),
        ("there", {}),
    ]


async def test_streams_are_refused_here() -> None:
    async def stream(messages: AsyncIterator[Message]) -> None: ...

    stage = Stage()
    with pytest.raises(ValueError, match="is a stream handler"):
        handler(planned(stream), threads=stage.threads, clock=stage.clock)


@pytest.fixture(autouse=True)
def _seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
