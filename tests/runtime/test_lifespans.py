"""Lifespans of a process: entered in order, left in reverse, in one task, whatever happens on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from pipeline.errors import LifespanError
from pipeline.runtime.lifespans import Lifespans
from pipeline.runtime.prepare import Lifespan
from tests.waiting import deadline, eventually


class Stage:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def lifespan(self, name: str, *, hangs: bool = False, fails: str = "") -> Lifespan:
        @asynccontextmanager
        async def live() -> AsyncIterator[str]:
            self.seen.append(f"enters {name}")
            if hangs:
                await asyncio.Event().wait()
            if fails == "at the start":
                raise RuntimeError("away")
            try:
                yield name
            finally:
                self.seen.append(f"leaves {name}")
            if fails == "at the end":
                raise RuntimeError("away")

        made: Callable[[], AbstractAsyncContextManager[str]] = live
        return Lifespan(path=f"steps:{name}", object=made)


async def test_they_are_entered_in_order_and_left_in_reverse() -> None:
    stage = Stage()
    lifespans = Lifespans({"0": stage.lifespan("shared"), "0.c": stage.lifespan("own")})
    assert await lifespans.enter() == {"0": "shared", "0.c": "own"}
    await lifespans.leave()
    assert stage.seen == ["enters shared", "enters own", "leaves own", "leaves shared"]


@pytest.mark.parametrize("fails", ["at the start", "at the end"])
async def test_one_that_fails_is_named_and_the_others_are_left(fails: str) -> None:
    stage = Stage()
    lifespans = Lifespans({"0": stage.lifespan("shared"), "0.c": stage.lifespan("own", fails=fails)})
    with pytest.raises(LifespanError, match=f'"steps:own" failed {fails}: RuntimeError: away'):
        await lifespans.enter()
        await lifespans.leave()
    assert stage.seen[-1] == "leaves shared"


async def test_one_that_hangs_is_given_up_with_whoever_waits_for_it() -> None:
    stage = Stage()
    lifespans = Lifespans({"0": stage.lifespan("shared"), "0.c": stage.lifespan("own", hangs=True)})
    waiting = asyncio.create_task(lifespans.enter())
    await eventually(lambda: "enters own" in stage.seen)
    waiting.cancel()
    async with asyncio.timeout(deadline(5)):
        await asyncio.wait({waiting, asyncio.create_task(lifespans.leave())})
    assert waiting.cancelled()
    assert stage.seen == ["enters shared", "enters own", "leaves shared"]


async def test_without_any_there_is_nothing_to_wait_for() -> None:
    lifespans = Lifespans({})
    assert await lifespans.enter() == {}
    await lifespans.leave()
