"""Rings when something is due: sleeps by the clock that was handed in until the timeline's next moment, and no longer
where something earlier comes up. What is due, and what is done then, is not known here."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pipeline.clock import Clock, FakeClock
from pipeline.embedded.ground.timeline import Timeline

MOST_STEPS = 1_000  # of the timeline in one go; a chain of delays that is longer than that goes on by itself


class Bell:
    """The messages' time: that of a clock, and what a test has moved it ahead. `ring` is called on the loop, when
    something is due."""

    def __init__(self, timeline: Timeline, clock: Clock, ring: Callable[[], None]) -> None:
        self._timeline = timeline
        self._clock = clock
        self._ring = ring
        self._ahead = 0.0
        self._arming = False
        self._sleeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._timeline.changed = self._due_sooner
        self.tell_time()

    async def stop(self) -> None:
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None:
            sleeping.cancel()
            with suppress(asyncio.CancelledError):
                await sleeping

    def tell_time(self) -> bool:
        """Hand the time to the timeline, which does what is due. Whether that was all."""
        now = self._clock.now() + self._ahead
        self._timeline.advance(now, self._clock.time() + self._ahead)
        return self._timeline.now >= now

    def advance(self, seconds: float) -> None:
        """Move time on, and do what is due by then. A clock that tests move is moved itself, with everybody who shares
        it; any other one runs on as it does, and this broker is ahead of it from now on."""
        if isinstance(self._clock, FakeClock):
            self._clock.advance(seconds)
        else:
            self._ahead += seconds
        for _ in range(MOST_STEPS):
            if self.tell_time():
                break
        self._arm()

    def _due_sooner(self) -> None:
        """Once per turn of the loop, however many timers are set in it."""
        if not self._arming:
            self._arming = True
            asyncio.get_running_loop().call_soon(self._arm)

    def _arm(self) -> None:
        self._arming = False
        if self._sleeping is not None:
            self._sleeping.cancel()
        due = self._timeline.next_due
        self._sleeping = None if due is None else asyncio.create_task(self._sleep(due))

    async def _sleep(self, due: float) -> None:
        await self._clock.sleep_until(due - self._ahead)
        self._sleeping = None
        try:
            self._ring()
        finally:
            self._arm()
