"""A handler's time limit. What runs over is cancelled; what does not even end then is left behind, counted and named in
the log, so that nobody waits for it for ever. What a timeout means for the message is not known here. Hot: `within`."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from pipeline.clock import Clock
from pipeline.handlers.threads import NotStarted
from pipeline.outcome import GIVEN_BACK, Failed, Outcome, TimedOut

GRACE = 2.0  # seconds for a cancelled handler to put its own things in order


class TimeLimit:
    """`timeout` of one consumer; None means no limit."""

    def __init__(self, seconds: float | None, *, clock: Clock, logger: logging.Logger) -> None:
        self.seconds = seconds
        self._clock = clock
        self._logger = logger
        self._name = logger.name.removeprefix("piperun.")  # tasks say whose code runs in them
        # What runs, with the moment at which its time is up. All have the same time, so the first is up first, and one
        # alarm for it does for all: the plain form, a deadline round each, costs more than the handler's task.
        self._running: dict[_Over, float] = {}
        self._alarmed = False
        self._left_behind: set[asyncio.Task[Outcome]] = set()  # the loop itself keeps tasks by weak reference only

    async def within(self, run: Coroutine[Any, Any, Outcome]) -> Outcome:
        """How it ended, or `TimedOut`. A handler that had not been given its message when the time was over (all its
        threads hang, say) has not failed: the message is given back. Cancelling passes on within `GRACE`."""
        if self.seconds is None:
            return await run
        over: _Over = asyncio.get_running_loop().create_future()
        # A task of its own, for one that swallows its cancellation must be left behind.
        task = asyncio.create_task(_as_outcome(run, over), name=self._name)
        self._running[over] = self._clock.now() + self.seconds
        if not self._alarmed:
            self._set_alarm(self._running[over])
        try:
            await over  # ends with the handler, or with its time
        except asyncio.CancelledError:
            await self._end(task)
            raise
        finally:
            self._running.pop(over, None)
        if task.done():  # maybe with the bell
            return Failed(cancelled_itself()) if task.cancelled() else task.result()
        await self._end(task)
        return GIVEN_BACK if _given_back(task) else TimedOut(self.seconds)

    @property
    def left_behind(self) -> int:
        """How many handlers still run although they were cancelled."""
        return len(self._left_behind)

    def _set_alarm(self, moment: float) -> None:
        self._alarmed = True
        self._clock.alarm(moment, self._ring)

    def _ring(self) -> None:
        """Tell those whose time is up, and set the alarm for the next."""
        self._alarmed = False
        now = self._clock.now()
        while self._running:
            over, moment = next(iter(self._running.items()))
            if moment > now:
                self._set_alarm(moment)
                return
            del self._running[over]
            _tell(over)

    async def _end(self, task: asyncio.Task[Outcome]) -> None:
        if not await end(task, GRACE, self._clock):
            self._left_behind.add(task)
            task.add_done_callback(self._left_behind.discard)
            self._logger.warning(
                "the handler does not end although it was cancelled; it is left behind (%d now)", self.left_behind
            )


def cancelled_itself() -> asyncio.CancelledError:
    """How a handler has failed that was cancelled and not by us."""
    return asyncio.CancelledError("the handler has cancelled the task that it runs in")


async def end(task: asyncio.Task[Any], seconds: float, clock: Clock) -> bool:
    """Cancel a task and wait that long for its end. Returns whether it has ended."""
    task.cancel()
    try:
        async with clock.deadline(seconds):
            await asyncio.wait([task])
    except TimeoutError:
        pass
    return task.done()


_Over = asyncio.Future[None]


def _tell(over: _Over) -> None:
    if not over.done():
        over.set_result(None)


async def _as_outcome(run: Coroutine[Any, Any, Outcome], over: _Over) -> Outcome:
    try:
        return await run
    except NotStarted:
        return GIVEN_BACK
    finally:
        _tell(over)


def _given_back(task: asyncio.Task[Outcome]) -> bool:
    return task.done() and not task.cancelled() and task.result() is GIVEN_BACK
