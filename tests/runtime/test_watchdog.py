"""A loop that does not turn is told once, with whose code it is and where; so is its end, and nothing is said of one
that had no chance to turn."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import FrameType, FunctionType

import pytest

from pipeline.clock import SystemClock
from pipeline.config.model import Loop
from pipeline.events import Event, LoopBlocked, LoopTurnsAgain
from pipeline.runtime.loop import run_on, why_not_uvloop
from pipeline.runtime.watchdog import Looks, LoopWatchdog, Stands, Turns, _debugs, _frames, _places
from tests.waiting import deadline, eventually


def after(looks: Looks, count: int, *, passed: float = 0.25, worked: float = 0.0) -> list[Stands | Turns]:
    """What so many looks at a loop that does not turn come to."""
    found = [looks.look(turned=False, passed=passed, worked=worked) for _ in range(count)]
    return [each for each in found if each is not None]


def test_a_loop_that_turns_is_not_worth_a_word() -> None:
    looks = Looks()
    assert [looks.look(turned=True, passed=0.25, worked=0.2) for _ in range(100)] == [None] * 100


def test_a_loop_that_stands_is_told_within_two_seconds_and_then_more_and_more_rarely() -> None:
    looks = Looks()
    assert after(looks, 4) == [Stands(1.0)]
    assert after(looks, 4 * 999) == [Stands(10.0), Stands(100.0), Stands(1000.0)]


def test_its_end_is_told_with_how_long_it_was_and_the_next_time_begins_anew() -> None:
    looks = Looks()
    after(looks, 12)
    assert looks.look(turned=True, passed=0.25, worked=0.0) == Turns(3.0)
    assert looks.look(turned=True, passed=0.25, worked=0.0) is None
    assert after(looks, 4) == [Stands(1.0)]


def test_a_loop_that_was_held_up_for_less_than_a_second_is_not_told() -> None:
    looks = Looks()
    assert after(looks, 3) == []
    assert looks.look(turned=True, passed=0.25, worked=0.0) is None
    assert after(looks, 3) == []


def test_a_process_that_was_stopped_has_not_blocked_its_loop() -> None:
    looks = Looks()
    assert looks.look(turned=True, passed=3600.0, worked=0.01) is None
    assert looks.look(turned=False, passed=3600.0, worked=0.01) is None
    assert looks.look(turned=True, passed=0.25, worked=0.0) is None


def test_code_that_kept_the_whole_interpreter_to_itself_is_told_as_soon_as_it_lets_go() -> None:
    looks = Looks()
    # On a machine with much else to do, where the loop has turned just before
    assert looks.look(turned=True, passed=30.0, worked=12.0) == Stands(12.0)
    assert after(looks, 4) == []
    assert looks.look(turned=True, passed=0.25, worked=0.2) == Turns(13.0)


# On a real loop


def which_blocks(told: threading.Event) -> None:
    assert told.wait(deadline(10)), "nothing was told"


@pytest.mark.parametrize(
    "loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.skipif(why_not_uvloop() is not None, reason="none"))]
)
def test_a_blocked_loop_is_told_while_it_is_blocked_with_whose_code_it_is_and_where(loop: Loop) -> None:
    seen: list[Event] = []
    told = threading.Event()

    def emit(event: Event) -> None:
        seen.append(event)
        told.set()

    async def handler() -> None:
        which_blocks(told)

    async def work() -> None:
        with LoopWatchdog(clock=SystemClock(), emit=emit):
            await asyncio.create_task(handler(), name="consumer.charge")
            await eventually(lambda: len(seen) > 1, told="its end")

    # Given a handler that blocks the loop until that is told, when it is told, then it was
    run_on(loop, work())
    blocked, turns = seen
    assert isinstance(blocked, LoopBlocked) and isinstance(turns, LoopTurnsAgain)
    assert (blocked.subject, turns.subject) == ("consumer.charge", "consumer.charge")
    assert turns.seconds >= blocked.seconds >= 1.0
    # Only the user's own way is shown, from the handler to where it stands
    first, second = blocked.frames[:2]
    assert __file__ in first and first.endswith(" in handler")
    assert __file__ in second and second.endswith(" in which_blocks")
    assert blocked.frames[-1].endswith(" in wait")


def test_it_ends_with_its_loop() -> None:
    async def work() -> None:
        with LoopWatchdog(clock=SystemClock(), emit=lambda _: None):
            pass

    run_on("asyncio", work())
    left = [each for each in threading.enumerate() if each.name == "watchdog"]
    for each in left:
        each.join(deadline(10))
        assert not each.is_alive()


# Frames


def stack_of(function: Callable[[], FrameType]) -> list[FrameType]:
    return list(_frames(function()))


def test_somebody_who_sits_in_front_of_a_debugger_has_not_blocked_the_loop() -> None:
    def here() -> FrameType:
        return sys._getframe()

    assert not any(map(_debugs, stack_of(here)))
    for module in ("pdb", "bdb", "_pydevd_bundle.pydevd_frame", "debugpy.server"):
        there = FunctionType(here.__code__, {"__name__": module, "sys": sys})
        assert any(map(_debugs, stack_of(there))), module


def test_of_a_deep_stack_the_way_in_and_the_place_are_shown() -> None:
    def dive(depth: int) -> FrameType:
        return dive(depth - 1) if depth else sys._getframe()

    async def handler() -> list[FrameType]:
        return stack_of(lambda: dive(40))

    places = _places(asyncio.run(handler()))
    assert len(places) == 9
    assert places[0].endswith(" in handler")
    assert places[3] == "... 36 more between"  # 44 in all: `handler`, `stack_of`, the lambda, and `dive` 41 times
    assert all(place.endswith(" in dive") for place in places[4:])
