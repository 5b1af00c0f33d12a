"""Waiting with an end: deadlines that are generous on CI, and polling until something is true.
Whoever waits says what for; a wait that ends in vain says what it saw last."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

PAUSE = 0.02


def on_ci() -> bool:
    """Whether this run is one where a missing part is a failure and machines may be slow."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def deadline(seconds: float) -> float:
    """So many seconds, three times as many on CI."""
    return seconds * 3 if on_ci() else seconds


def wait_until(what: Callable[[], T], seconds: float = 10, *, told: str = "what was awaited") -> T:
    """Ask again and again until the answer is true, and return it. Raises `AssertionError` with the last answer."""
    end = time.monotonic() + deadline(seconds)
    while not (answer := what()):
        if time.monotonic() > end:
            raise AssertionError(f"{told} did not come within {deadline(seconds):g} s; last seen: {answer!r}")
        time.sleep(PAUSE)
    return answer


async def eventually(what: Callable[[], T | Awaitable[T]], seconds: float = 10, *, told: str = "what was awaited") -> T:
    """The same on an event loop; the question may be a function or a coroutine function."""
    end = time.monotonic() + deadline(seconds)
    while True:
        answer = what()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return cast(T, answer)
        if time.monotonic() > end:
            raise AssertionError(f"{told} did not come within {deadline(seconds):g} s; last seen: {answer!r}")
        await asyncio.sleep(PAUSE)
