"""Time that tests move: sleeps and deadlines on the fake clock and on the machine's, on several loops and threads."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from pipeline.clock import Clock, FakeClock, SystemClock
from tests.waiting import deadline, eventually, wait_until

CLOCKS: list[Callable[[], Clock]] = [FakeClock, SystemClock]


async def some_turns() -> None:
    """Enough turns of the loop for everything that could happen now."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until_waiting(clock: FakeClock, count: int) -> None:
    await eventually(lambda: clock.waiting == count, told=f"{count} alarms")


@pytest.mark.parametrize("make", CLOCKS)
def test_the_time_of_day_and_the_steady_clock_go_forward_together(make: Callable[[], Clock]) -> None:
    clock = make()
    now, time = clock.now(), clock.time()
    if isinstance(clock, FakeClock):
        clock.advance(90)
        assert (clock.now() - now, clock.time() - time) == (90, 90)
    else:
        assert clock.now() >= now
        assert clock.time() > 1_600_000_000


@pytest.mark.parametrize("make", CLOCKS)
@pytest.mark.parametrize("seconds", [0, -1, -0.5])
async def test_a_sleep_of_no_length_ends_by_itself(make: Callable[[], Clock], seconds: float) -> None:
    async with asyncio.timeout(deadline(5)):
        await make().sleep(seconds)


@pytest.mark.parametrize("make", CLOCKS)
@pytest.mark.parametrize("seconds", [0, -1, 0.001])
async def test_a_deadline_that_is_over_ends_what_waits(make: Callable[[], Clock], seconds: float) -> None:
    clock = make()
    if isinstance(clock, FakeClock) and seconds > 0:
        asyncio.get_running_loop().call_soon(clock.advance, seconds)
    with pytest.raises(TimeoutError):
        async with clock.deadline(seconds):
            await asyncio.Event().wait()


@pytest.mark.parametrize("make", CLOCKS)
@pytest.mark.parametrize("seconds", [None, 60.0])
async def test_what_is_done_in_time_is_not_disturbed(make: Callable[[], Clock], seconds: float | None) -> None:
    clock = make()
    async with clock.deadline(seconds):
        await asyncio.sleep(0)
    if isinstance(clock, FakeClock):
        assert clock.waiting == 0
        clock.advance(61)
    await asyncio.sleep(0)


async def test_a_sleep_ends_when_its_moment_is_reached_and_not_before() -> None:
    clock = FakeClock()
    sleeping = asyncio.create_task(clock.sleep(5))
    await until_waiting(clock, 1)
    clock.advance(4.9)
    await some_turns()
    assert not sleeping.done()
    clock.advance(0.1)
    await asyncio.wait_for(sleeping, deadline(5))
    assert clock.waiting == 0


@pytest.mark.parametrize("make", CLOCKS)
async def test_a_sleep_until_a_moment_ends_at_that_moment(make: Callable[[], Clock]) -> None:
    clock = make()
    before = clock.now()
    if isinstance(clock, FakeClock):
        asyncio.get_running_loop().call_soon(clock.advance, 0.25)
    async with asyncio.timeout(deadline(5)):
        await clock.sleep_until(before - 1)
        await clock.sleep_until(before + 0.01)
    assert clock.now() - before >= 0.01


async def test_a_moment_that_is_moved_past_while_the_wait_begins_is_not_missed() -> None:
    clock = FakeClock()
    moment = clock.now() + 5
    sleeping = asyncio.create_task(clock.sleep_until(moment))
    clock.advance(4)  # before the task has had its first turn
    await until_waiting(clock, 1)
    clock.advance(1)
    await asyncio.wait_for(sleeping, deadline(5))


async def test_sleepers_wake_in_the_order_of_their_moments() -> None:
    clock, woken = FakeClock(), list[float]()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    sleeping = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2, 10)]
    await until_waiting(clock, 4)
    clock.advance(5)
    await asyncio.wait(sleeping[:3], timeout=deadline(5))
    assert woken == [1, 2, 3]
    assert clock.waiting == 1
    sleeping[3].cancel()
    await asyncio.wait(sleeping)


async def test_a_cancelled_sleep_leaves_nothing_behind() -> None:
    clock = FakeClock()
    sleeping = asyncio.create_task(clock.sleep(5))
    await until_waiting(clock, 1)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert clock.waiting == 0
    clock.advance(10)  # rings for nobody


async def test_a_deadline_is_reached_by_moving_time() -> None:
    clock, seen = FakeClock(), list[str]()

    async def work() -> None:
        try:
            async with clock.deadline(30):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("time is up")

    working = asyncio.create_task(work())
    await until_waiting(clock, 1)
    clock.advance(29)
    await some_turns()
    assert seen == []
    clock.advance(1)
    await asyncio.wait_for(working, deadline(5))
    assert seen == ["time is up"]


async def test_cancelling_what_has_a_deadline_is_a_cancellation() -> None:
    clock = FakeClock()

    async def work() -> None:
        async with clock.deadline(30):
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await until_waiting(clock, 1)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert clock.waiting == 0


async def test_an_error_inside_a_deadline_passes_through() -> None:
    clock = FakeClock()
    with pytest.raises(KeyError):
        async with clock.deadline(30):
            raise KeyError("ours")
    assert clock.waiting == 0


async def test_a_deadline_that_is_rung_and_left_in_the_same_turn_is_kept() -> None:
    clock = FakeClock()
    async with clock.deadline(30):
        clock.advance(30)  # the alarm rings, and the block ends before the loop has turned
    await some_turns()


async def test_deadlines_nest_and_the_inner_one_ends_first() -> None:
    clock, ended = FakeClock(), list[str]()

    async def work() -> None:
        try:
            async with clock.deadline(10):
                try:
                    async with clock.deadline(5):
                        await asyncio.Event().wait()
                except TimeoutError:
                    ended.append("inner")
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append("outer")

    working = asyncio.create_task(work())
    await until_waiting(clock, 2)
    clock.advance(5)
    await eventually(lambda: ended == ["inner"])
    clock.advance(5)
    await asyncio.wait_for(working, deadline(5))
    assert ended == ["inner", "outer"]


def test_one_clock_wakes_sleepers_on_several_loops() -> None:
    clock, woken = FakeClock(), list[str]()

    def in_a_loop_of_its_own(step: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await step()
            woken.append(threading.current_thread().name)

        asyncio.run(whole())

    async def deadline_passes() -> None:
        with pytest.raises(TimeoutError):
            async with clock.deadline(5):
                await asyncio.Event().wait()

    steps: list[Callable[[], Awaitable[None]]] = [lambda: clock.sleep(5), deadline_passes]
    threads = [threading.Thread(target=in_a_loop_of_its_own, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    wait_until(lambda: clock.waiting == 2)
    clock.advance(5)
    for thread in threads:
        thread.join(deadline(10))
    assert sorted(woken) == sorted(thread.name for thread in threads)


@pytest.mark.parametrize("when", ["before", "at the same moment"])
async def test_a_loop_that_is_closed_disturbs_nobody(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(_sleep_on_a_loop_that_closes, clock := FakeClock(), when, monkeypatch)
    async with asyncio.TaskGroup() as group:
        group.create_task(clock.sleep(5))  # behind the other one
        await until_waiting(clock, 2)
        clock.advance(5)


def _sleep_on_a_loop_that_closes(clock: FakeClock, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    sleeping = loop.create_task(clock.sleep(5))
    loop.run_until_complete(asyncio.sleep(0))
    assert clock.waiting == 1
    loop.close()
    if when == "at the same moment":
        monkeypatch.setattr(loop, "is_closed", lambda: False)  # as another thread saw it, a moment ago
    sleeping._log_destroy_pending = False  # type: ignore[attr-defined]  # left pending on purpose


async def test_an_alarm_rings_once_when_its_moment_has_come() -> None:
    clock, rung = FakeClock(), asyncio.Event()
    clock.alarm(clock.now() + 5, rung.set)
    clock.advance(4)
    await asyncio.sleep(0)
    assert not rung.is_set()
    clock.advance(1)
    await asyncio.sleep(0)
    assert rung.is_set()
    assert clock.waiting == 0


async def test_an_alarm_of_the_machines_clock_rings() -> None:
    clock, rung = SystemClock(), asyncio.Event()
    clock.alarm(clock.now(), rung.set)
    async with asyncio.timeout(deadline(5)):
        await rung.wait()
