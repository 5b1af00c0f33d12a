"""Handlers that loop over their messages: asking for the next settles the one before, and the loop is kept going."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pipeline.clock import FakeClock
from pipeline.errors import PublishError, Reject, Retry
from pipeline.handlers.context import Context
from pipeline.handlers.limit import GRACE, TimeLimit
from pipeline.handlers.stream import StreamHandler
from pipeline.message import Message
from pipeline.outcome import DONE, GIVEN_BACK, Failed, Outcome, Rejected, RetryAsked, TimedOut
from tests.handlers.stage import Stage, planned
from tests.waiting import eventually

Messages = AsyncIterator[Message]


class Loop:
    """A stream handler on a stage, with a clock that is moved by hand."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.clock = FakeClock()
        self.stage = Stage(clock=self.clock)
        self.handler = StreamHandler(planned(function), clock=self.clock)

    def give(self, body: str = "m") -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.call(body))

    async def call(self, body: str = "m") -> Outcome:
        return await self.handler(Message(body.encode()), self.stage.context(), self.stage.output)

    async def advance(self, seconds: float) -> None:
        await eventually(lambda: self.clock.waiting, told="somebody who waits for the clock")
        self.clock.advance(seconds)


async def settled() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


def failure(outcome: Outcome) -> BaseException:
    assert isinstance(outcome, Failed)
    return outcome.error


# --- asking ----------------------------------------------------------------------------------------------------------


async def test_asking_for_the_next_message_settles_the_one_before() -> None:
    # Given a loop that goes on when told
    go = asyncio.Semaphore(0)
    seen: list[object] = []

    async def stream(messages: Messages) -> None:
        async for message in messages:
            seen.append(message.body)
            await go.acquire()

    loop = Loop(stream)
    # When a message is handed in, it is not settled while the user works on it
    first = loop.give("a")
    await settled()
    assert (seen, first.done()) == ([b"a"], False)
    # Then it is done when the user asks for more
    go.release()
    assert await first is DONE
    # And the same loop gets the next one
    second = loop.give("b")
    await settled()
    assert (seen, second.done()) == ([b"a", b"b"], False)
    go.release()
    assert await second is DONE
    await loop.handler.close()


async def test_nothing_starts_before_the_first_message() -> None:
    started: list[str] = []

    async def stream(messages: Messages) -> None:
        started.append("started")
        async for _ in messages:
            pass

    loop = Loop(stream)
    await settled()
    assert started == []
    assert await loop.call() is DONE
    assert await loop.call() is DONE
    assert started == ["started"]
    await loop.handler.close()


async def test_a_message_waits_until_the_function_asks() -> None:
    ready = asyncio.Event()

    async def stream(messages: Messages) -> None:
        await ready.wait()
        async for _ in messages:
            pass

    loop = Loop(stream)
    waiting = loop.give()
    await settled()
    assert not waiting.done()
    ready.set()
    assert await waiting is DONE
    await loop.handler.close()


async def test_calls_that_overlap_wait_their_turn() -> None:
    seen: list[object] = []

    async def stream(messages: Messages) -> None:
        async for message in messages:
            await asyncio.sleep(0)
            seen.append(message.body)

    loop = Loop(stream)
    outcomes = await asyncio.gather(*(loop.call(body) for body in "abc"))
    assert (outcomes, seen) == ([DONE, DONE, DONE], [b"a", b"b", b"c"])
    await loop.handler.close()


async def test_two_loops_work_side_by_side() -> None:
    together = asyncio.Barrier(2)

    async def stream(messages: Messages) -> None:
        async for _ in messages:
            await together.wait()

    one, other = Loop(stream), Loop(stream)
    assert list(await asyncio.gather(one.call("a"), other.call("b"))) == [DONE, DONE]
    await asyncio.gather(one.handler.close(), other.handler.close())


async def test_giving_up_an_ask_loses_nothing() -> None:
    seen: list[object] = []

    async def stream(messages: Messages) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    seen.append((await anext(messages)).body)

    loop = Loop(stream)
    for body in "abc":
        assert await loop.call(body) is DONE
    assert seen == [b"a", b"b", b"c"]
    await loop.handler.close(0)


async def test_two_tasks_cannot_ask_at_once_and_one_left_behind_gets_nothing(caplog: pytest.LogCaptureFixture) -> None:
    # Given a function whose first start ends while a task of its own still asks
    seen: list[tuple[int, object]] = []
    starts: list[int] = []
    left: list[asyncio.Future[Message]] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)
        number = len(starts)
        async for message in messages:
            seen.append((number, message.body))
            if number == 1:
                left.extend(asyncio.ensure_future(anext(messages)) for _ in range(2))
                await left[1]

    loop = Loop(stream)
    assert await loop.call("a") is DONE
    await settled()
    assert "can be asked for the next one by one task at a time" in caplog.text
    # Then the second start gets the next message
    assert await loop.call("b") is DONE
    assert seen == [(1, b"a"), (2, b"b")]
    assert isinstance(left[0].exception(), StopAsyncIteration)
    await loop.handler.close()


# --- raising and returning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), GeneratorExit(), asyncio.CancelledError("nobody sent this")], ids=repr
)
async def test_an_exception_fails_the_message_asked_for_last(error: BaseException) -> None:
    starts: list[int] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)
        async for message in messages:
            if message.body == b"bad":
                raise error

    loop = Loop(stream)
    assert await loop.call("good") is DONE
    assert failure(await loop.call("bad")) is error
    # And the function is started again for the next message, at once
    assert await loop.call("good") is DONE
    assert len(starts) == 2
    await loop.handler.close()


async def test_a_loop_can_ask_for_a_retry_or_reject() -> None:
    async def stream(messages: Messages) -> None:
        async for message in messages:
            raise Retry("5s", "busy") if message.body == b"later" else Reject("broken")

    loop = Loop(stream)
    assert await loop.call("later") == RetryAsked(5.0, "busy")
    assert await loop.call("never") == Rejected("broken")
    await loop.handler.close()


async def test_returning_settles_the_message_and_starts_again() -> None:
    starts: list[int] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)
        await anext(messages)

    loop = Loop(stream)
    for _ in range(3):
        assert await loop.call() is DONE
    await settled()
    assert len(starts) == 4  # the fourth waits for a message
    await loop.handler.close()


async def test_a_function_that_ends_before_it_asks_is_started_again_after_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a function that fails three times before it gets to its loop
    starts: list[int] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)
        if len(starts) <= 3:
            raise OSError("the database is away")
        async for _ in messages:
            pass

    loop = Loop(stream)
    # When a message waits for it
    waiting = loop.give()
    for begun, pause in enumerate((1.0, 2.0, 4.0), start=1):
        await settled()
        assert len(starts) == begun
        await loop.advance(pause / 2)
        await settled()
        assert len(starts) == begun
        await loop.advance(pause / 2)
    # Then the message was kept, and is handled in the end
    assert await waiting is DONE
    assert "failed with no message in hand: Failed(error=OSError('the database is away'))" in caplog.text
    assert 'stream handler "charge" ended before it asked for a message; it starts again in 4 s' in caplog.messages
    await loop.handler.close()


async def test_a_function_that_returns_without_asking_does_not_spin() -> None:
    starts: list[int] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)

    loop = Loop(stream)
    waiting = loop.give()
    await settled()
    assert len(starts) == 1
    await loop.advance(1)
    await settled()
    assert (len(starts), waiting.done()) == (2, False)
    await loop.handler.close()
    assert await waiting is GIVEN_BACK


async def test_the_longest_pause_is_bounded() -> None:
    starts: list[int] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)

    loop = Loop(stream)
    waiting = loop.give()
    for begun in range(1, 9):
        await settled()
        assert len(starts) == begun
        await loop.advance(30)
    await loop.handler.close()
    await waiting


# --- cancelling and time ---------------------------------------------------------------------------------------------


async def test_cancelling_the_message_cancels_the_function_and_starts_it_again() -> None:
    told: list[str] = []

    async def stream(messages: Messages) -> None:
        try:
            async for message in messages:
                told.append(f"got {message.body!r}")
                if message.body == b"slow":
                    await asyncio.Event().wait()
        finally:
            told.append("ended")

    loop = Loop(stream)
    running = loop.give("slow")
    await settled()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told == ["got b'slow'", "ended"]
    assert await loop.call("quick") is DONE
    await loop.handler.close()


async def test_time_over_is_the_message_in_hand_and_not_the_one_that_waits() -> None:
    async def stream(messages: Messages) -> None:
        async for _ in messages:
            await asyncio.Event().wait()

    loop = Loop(stream)
    limit = TimeLimit(5.0, clock=loop.clock, logger=logging.getLogger("piperun.test"))
    slow = asyncio.create_task(limit.within(loop.call("slow")))
    waiting = asyncio.create_task(limit.within(loop.call("waits")))
    await settled()
    await loop.advance(5.0)
    assert await waiting is GIVEN_BACK
    assert await slow == TimedOut(5.0)
    await loop.handler.close()


async def test_a_function_that_swallows_its_cancellation_and_asks_again_goes_on() -> None:
    starts: list[int] = []

    async def stream(messages: Messages) -> AsyncIterator[str]:
        starts.append(1)
        async for message in messages:
            try:
                if message.body == b"slow":
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
            yield message.body.decode() if isinstance(message.body, bytes) else ""

    loop = Loop(stream)
    running = loop.give("slow")
    await settled()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await loop.call("quick") is DONE
    assert (starts, loop.stage.outputs) == ([1], ["quick"])
    await loop.handler.close()


async def test_a_function_that_does_not_end_is_left_behind_and_gets_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go = asyncio.Event()
    got: list[tuple[int, object]] = []
    starts: list[int] = []

    async def stream(messages: Messages) -> None:
        starts.append(1)
        number = len(starts)
        async for message in messages:
            got.append((number, message.body))
            while message.body == b"stubborn" and not go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go.wait()

    loop = Loop(stream)
    running = loop.give("stubborn")
    await settled()
    running.cancel()
    await settled()
    await loop.advance(GRACE)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert caplog.messages == ['stream handler "charge" does not end although it was cancelled; it is left behind']
    # Then a second start handles the next message, and the first one ends without another
    assert await loop.call("next") is DONE
    go.set()
    await settled()
    assert await loop.call("last") is DONE
    assert got == [(1, b"stubborn"), (2, b"next"), (2, b"last")]
    await loop.handler.close()


# --- outputs and the context -----------------------------------------------------------------------------------------


async def test_what_it_yields_is_an_output_of_the_message_in_hand() -> None:
    async def stream(messages: Messages) -> AsyncIterator[object]:
        async for message in messages:
            yield message.body
            yield None
            yield 2

    loop = Loop(stream)
    outputs: dict[str, list[object]] = {"a": [], "b": []}

    async def give(body: str) -> Outcome:
        async def output(value: object) -> None:
            outputs[body].append(value)

        return await loop.handler(Message(body.encode()), loop.stage.context(), output)

    assert [await give("a"), await give("b")] == [DONE, DONE]
    assert outputs == {"a": [b"a", 2], "b": [b"b", 2]}
    await loop.handler.close()


async def test_an_output_that_fails_fails_the_message_and_closes_the_generator() -> None:
    closed: list[str] = []

    async def stream(messages: Messages) -> AsyncIterator[object]:
        try:
            async for message in messages:
                yield message.body
        finally:
            closed.append("closed")

    async def refuse(value: object) -> None:
        raise PublishError("queue is full")

    loop = Loop(stream)
    outcome = await loop.handler(Message(b"a"), loop.stage.context(), refuse)
    assert isinstance(failure(outcome), PublishError)
    assert closed == ["closed"]
    assert await loop.call("b") is DONE
    await loop.handler.close()


async def test_publishing_concerns_the_message_in_hand() -> None:
    async def stream(messages: Messages, context: Context) -> None:
        async for message in messages:
            await context.publish(message.body, queue="there")

    loop = Loop(stream)
    assert await loop.call("a") is DONE
    assert loop.stage.published == [(b"a", {"queue": "there"})]
    await loop.handler.close()


@pytest.mark.parametrize("yields", [False, True])
async def test_without_a_message_in_hand_there_is_nothing_to_publish_for(
    yields: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def publishing(messages: Messages, context: Context) -> None:
        async for _ in messages:
            pass
        await context.publish("summary")

    async def yielding(messages: Messages) -> AsyncIterator[str]:
        async for _ in messages:
            pass
        yield "summary"

    loop = Loop(yielding if yields else publishing)
    assert await loop.call() is DONE
    await loop.handler.close()
    assert "only while it has a message in hand" in caplog.text
    assert (loop.stage.outputs, loop.stage.published) == ([], [])


# --- closing ---------------------------------------------------------------------------------------------------------


async def test_closing_ends_the_loop_so_that_what_follows_it_runs() -> None:
    told: list[str] = []

    async def stream(messages: Messages) -> None:
        async for _ in messages:
            told.append("message")
        await asyncio.sleep(0)
        told.append("after the loop")

    loop = Loop(stream)
    assert await loop.call() is DONE
    await loop.handler.close()
    await loop.handler.close()
    assert told == ["message", "after the loop"]
    assert await loop.call() is GIVEN_BACK


async def test_closing_lets_the_message_in_hand_end() -> None:
    go = asyncio.Event()

    async def stream(messages: Messages) -> None:
        async for _ in messages:
            await go.wait()

    loop = Loop(stream)
    running, waiting = loop.give("a"), loop.give("b")
    await settled()
    closing = asyncio.create_task(loop.handler.close())
    assert await waiting is GIVEN_BACK
    go.set()
    await closing
    assert await running is DONE


async def test_closing_does_not_wait_without_end() -> None:
    async def stream(messages: Messages) -> None:
        async for _ in messages:
            await asyncio.Event().wait()

    loop = Loop(stream)
    running = loop.give()
    await settled()
    closing = asyncio.create_task(loop.handler.close(3.0))
    await loop.advance(3.0)
    await closing
    assert await running is GIVEN_BACK


async def test_closing_what_never_began_is_nothing() -> None:
    async def stream(messages: Messages) -> None: ...

    await Loop(stream).handler.close()


@pytest.fixture(autouse=True)
def _seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
