"""A handler's time limit: over, cancelled, left behind, or never begun."""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from pipeline.clock import FakeClock
from pipeline.handlers.limit import GRACE, TimeLimit
from pipeline.message import Message
from pipeline.outcome import DONE, GIVEN_BACK, Failed, Outcome, TimedOut
from tests.handlers.stage import Stage
from tests.waiting import deadline, eventually


class Watch:
    """A limit of five seconds on a clock that is moved by hand."""

    def __init__(self, seconds: float | None = 5.0) -> None:
        self.clock = FakeClock()
        self.limit = TimeLimit(seconds, clock=self.clock, logger=logging.getLogger("piperun.handler.charge"))

    def start(self, run: Coroutine[Any, Any, Outcome]) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.limit.within(run))

    async def advance(self, seconds: float) -> None:
        await eventually(lambda: self.clock.waiting, told="somebody who waits for the clock")
        self.clock.advance(seconds)


async def done() -> Outcome:
    return DONE


@pytest.mark.parametrize("seconds", [None, 5.0])
async def test_a_handler_in_time_ends_as_it_ends(seconds: float | None) -> None:
    assert await Watch(seconds).limit.within(done()) is DONE


@pytest.mark.parametrize("seconds", [None, 5.0])
async def test_a_failure_in_time_stays_a_failure(seconds: float | None) -> None:
    async def leave() -> None:
        raise SystemExit(1)

    stage = Stage()
    outcome = await Watch(seconds).limit.within(stage.run(leave))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, SystemExit)


async def test_a_handler_over_time_is_cancelled() -> None:
    watch, stage = Watch(), Stage()
    told: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    running = watch.start(stage.run(slow))
    await watch.advance(5.0)
    assert await running == TimedOut(5.0)
    assert told == ["cancelled"]
    assert watch.limit.left_behind == 0


async def test_what_comes_out_after_the_time_does_not_count() -> None:
    watch, stage = Watch(), Stage()

    async def swallows() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "half a result"

    running = watch.start(stage.run(swallows))
    await watch.advance(5.0)
    assert await running == TimedOut(5.0)
    assert stage.outputs == []


async def test_a_handler_that_does_not_end_is_left_behind_and_told(caplog: pytest.LogCaptureFixture) -> None:
    watch, stage = Watch(), Stage()
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                pass

    running = watch.start(stage.run(stubborn))
    await watch.advance(5.0)
    await asyncio.sleep(0)
    await watch.advance(GRACE)
    assert await running == TimedOut(5.0)
    assert watch.limit.left_behind == 1
    assert caplog.messages == ["the handler does not end although it was cancelled; it is left behind (1 now)"]
    go.set()
    await eventually(lambda: watch.limit.left_behind == 0)


async def test_a_thread_over_time_goes_on_alone() -> None:
    watch, stage = Watch(), Stage()
    go = threading.Event()
    running = watch.start(stage.run(lambda body: go.wait(deadline(10))))
    await eventually(stage.threads.busy)
    await watch.advance(5.0)
    assert await running == TimedOut(5.0)
    assert stage.threads.busy() == ["charge-1"]
    go.set()
    await eventually(lambda: not stage.threads.busy())


async def test_a_message_that_never_got_a_thread_is_given_back() -> None:
    watch, stage = Watch(), Stage(size=1)
    go = threading.Event()
    hanging = asyncio.create_task(stage.run(lambda body: go.wait(deadline(10))))
    await eventually(stage.threads.busy)
    innocent = watch.start(stage.run(lambda body: body))
    await watch.advance(5.0)
    assert await innocent is GIVEN_BACK
    assert not hanging.done()
    go.set()
    await hanging


async def test_cancelling_from_outside_passes_through() -> None:
    watch, stage = Watch(), Stage()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    running = watch.start(stage.run(slow))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_a_handler_that_ends_with_the_bell_has_ended() -> None:
    watch, stage = Watch(), Stage()
    go = asyncio.Event()

    async def just_in_time() -> None:
        await go.wait()

    running = watch.start(stage.run(just_in_time))
    await eventually(lambda: watch.clock.waiting)
    go.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watch.clock.advance(5.0)
    assert await running is DONE


async def test_one_alarm_does_for_all_and_each_has_its_own_time() -> None:
    watch, stage = Watch(), Stage()

    async def slow() -> None:
        await asyncio.Event().wait()

    first = watch.start(stage.run(slow))
    await watch.advance(3.0)
    quick = watch.start(done())
    second = watch.start(stage.run(slow))
    assert await quick is DONE
    assert watch.clock.waiting == 1
    await watch.advance(2.0)
    assert await first == TimedOut(5.0)
    assert not second.done()
    await watch.advance(3.0)
    assert await second == TimedOut(5.0)
    assert watch.clock.waiting == 0


async def test_a_handler_that_cancels_itself_has_failed() -> None:
    watch, stage = Watch(), Stage()

    async def gives_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    outcome = await watch.start(stage.run(gives_up))
    assert isinstance(outcome, Failed)
    assert repr(outcome.error) == "CancelledError('the handler has cancelled the task that it runs in')"
