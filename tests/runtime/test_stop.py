"""Being told to stop: one reason, one deadline, and a step that is left alone or cancelled."""

import asyncio
import contextlib
import os
import signal
import sys
from types import FrameType

import pytest

from pipeline.clock import FakeClock
from pipeline.runtime.stop import FORCED, Stop, last_words, on_signals
from tests.waiting import deadline


def a_stop(shutdown_timeout: float = 25.0) -> tuple[Stop, FakeClock]:
    clock = FakeClock()
    return Stop(clock=clock, shutdown_timeout=shutdown_timeout), clock


async def test_the_first_reason_and_deadline_stay() -> None:
    stop, clock = a_stop()
    assert (stop.requested, stop.reason, stop.remaining) == (False, "", 0.0)
    stop.request("SIGTERM received")
    clock.advance(10)
    stop.request("nothing is left to do")
    assert (stop.requested, stop.reason, stop.remaining) == (True, "SIGTERM received", 15.0)
    assert stop.event.is_set()
    clock.advance(100)
    assert (stop.remaining, stop.remaining_for_work) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("shutdown_timeout", "for_work"), [(25.0, 23.0), (100.0, 98.0), (10.0, 9.0), (1.0, 0.9), (0.0, 0.0)]
)
async def test_a_part_of_the_time_belongs_to_closing(shutdown_timeout: float, for_work: float) -> None:
    stop, _ = a_stop(shutdown_timeout)
    stop.request("told")
    assert stop.remaining_for_work == pytest.approx(for_work)


# A step that a stop may end


async def test_a_step_that_ends_first_is_not_disturbed() -> None:
    stop, _ = a_stop()
    done: list[str] = []

    async def step() -> None:
        await asyncio.sleep(0)
        done.append("done")

    assert await stop.unless_requested(step())
    assert done == ["done"]


async def test_a_step_is_cancelled_when_a_stop_is_requested() -> None:
    stop, _ = a_stop()
    put_away: list[str] = []

    async def step() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            put_away.append("in order")

    asyncio.get_running_loop().call_soon(stop.request, "told")
    assert not await stop.unless_requested(step())
    assert put_away == ["in order"]


async def test_after_a_stop_no_step_begins_to_wait() -> None:
    stop, _ = a_stop()
    stop.request("told")
    async with asyncio.timeout(deadline(5)):
        assert not await stop.unless_requested(asyncio.Event().wait())  # type: ignore[arg-type]  # what it returns


async def test_what_a_step_raises_is_raised() -> None:
    stop, _ = a_stop()

    async def step() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        await stop.unless_requested(step())


async def test_whoever_cancels_the_waiter_cancels_the_step() -> None:
    stop, _ = a_stop()
    ended: list[str] = []

    async def step() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    waiting = asyncio.create_task(stop.unless_requested(step()))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    for _ in range(5):
        await asyncio.sleep(0)
    assert waiting.cancelled()
    assert ended == ["ended"]


# Signals; the second one ends the process, which tests of whole runs look at


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_asks_to_stop_and_afterwards_everything_is_as_before(number: signal.Signals) -> None:
    stop, _ = a_stop()
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with on_signals(stop):
        os.kill(os.getpid(), number)
        async with asyncio.timeout(deadline(5)):
            await stop.event.wait()
    assert stop.reason == f"{number.name} received"
    assert {each: signal.getsignal(each) for each in before} == before


async def test_a_second_signal_forces_although_the_first_is_still_being_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(Exception):
        pass

    def leave(status: int) -> None:
        raise Left(status)

    def at_the_first_call(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "heard":
            sys.setprofile(None)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "_exit", leave)
    stop, _ = a_stop()
    with on_signals(stop), pytest.raises(Left, match=str(FORCED)):
        sys.setprofile(at_the_first_call)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            sys.setprofile(None)


async def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        stop, _ = a_stop()
        with on_signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            for _ in range(5):
                await asyncio.sleep(0)
            assert not stop.requested
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_forked_child_has_the_signals_of_any_process() -> None:
    """It inherits the handlers; neither may it ignore them, nor may its parent hear of them."""
    stop, _ = a_stop()
    with on_signals(stop):
        child = await asyncio.to_thread(fork_a_child_that_waits)
        os.kill(child, signal.SIGTERM)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert not stop.requested


def fork_a_child_that_waits() -> int:
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b".")
        signal.alarm(60)  # the end of a child that nothing else ends
        while True:
            signal.pause()
    os.read(reads, 1)
    os.close(reads)
    os.close(writes)
    return child


def test_last_words_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for whoever should read a pipe that is full, nor where there is no standard error."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb"), os.fdopen(writes, "wb") as full:
        os.set_blocking(writes, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writes, bytes(4096))
        os.set_blocking(writes, True)
        monkeypatch.setattr(sys, "stderr", full)
        last_words(b"forced")
    monkeypatch.setattr(sys, "stderr", None)
    last_words(b"forced")
