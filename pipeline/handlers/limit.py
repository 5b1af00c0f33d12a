"""A handler's time limit. What runs over is cancelled; what does not even end then is left behind, counted and named in
the log, so that nobody waits for it for ever. What a timeout means for the message is not known here."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from pipeline.clock import Clock
from pipeline.handlers.threads import NotStarted
from pipeline.outcome import GIVEN_BACK, Outcome, TimedOut

GRACE = 2.0  # seconds for a cancelled handler to put its own things in order


class TimeLimit:
    """`timeout` of one consumer; None means no limit."""

    def __init__(self, seconds: float | None, *, clock: Clock, logger: logging.Logger) -> None:
        self.seconds = seconds
        self._clock = clock
        self._logger = logger
        self._left_behind: set[asyncio.Task[Outcome]] = set()  # the loop itself keeps tasks by weak reference only

    async def within(self, run: Coroutine[Any, Any, Outcome]) -> Outcome:
        """How it ended, or `TimedOut`. A handler that had not been given its message when the time was over (all its
        threads hang, say) has not failed: the message is given back. Cancelling passes on within `GRACE`."""
        if self.seconds is None:
            return await run
        task = asyncio.create_task(_as_outcome(run))
        try:
            async with self._clock.deadline(self.seconds):
                await asyncio.wait([task])
        except TimeoutError:
            if not task.done():
                await self._end(task)
                return GIVEN_BACK if _given_back(task) else TimedOut(self.seconds)
        except asyncio.CancelledError:
            await self._end(task)
            raise
        return task.result()

    @property
    def left_behind(self) -> int:
        """How many handlers still run although they were cancelled."""
        return len(self._left_behind)

    async def _end(self, task: asyncio.Task[Outcome]) -> None:
        if not await end(task, GRACE, self._clock):
            self._left_behind.add(task)
            task.add_done_callback(self._left_behind.discard)
            self._logger.warning(
                "the handler does not end although it was cancelled; it is left behind (%d now)", self.left_behind
            )


async def end(task: asyncio.Task[Any], seconds: float, clock: Clock) -> bool:
    """Cancel a task and wait that long for its end. Returns whether it has ended."""
    task.cancel()
    try:
        async with clock.deadline(seconds):
            await asyncio.wait([task])
    except TimeoutError:
        pass
    return task.done()


async def _as_outcome(run: Coroutine[Any, Any, Outcome]) -> Outcome:
    try:
        return await run
    except NotStarted:
        return GIVEN_BACK


def _given_back(task: asyncio.Task[Outcome]) -> bool:
    return task.done() and not task.cancelled() and task.result() is GIVEN_BACK
