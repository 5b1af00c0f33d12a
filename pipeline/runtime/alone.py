"""Handling one message alone in its process, across all consumers: nobody begins another one, and what is in hand ends
first. So a death says who caused it. All of it is bounded: a handler that does not end holds up nobody for long. Which
message it is, and why, is not known here."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pipeline.clock import Clock
from pipeline.runtime.in_hand import OwnRow

OTHERS_MOST = 10.0  # seconds for what is in hand to end
ALONE_MOST = 30.0  # seconds for the message itself, while all others wait


class Handling(Protocol):
    """A consumer that takes part."""

    @property
    def handling(self) -> int:
        """How many of its messages are being handled."""
        ...

    def go_on(self) -> None:
        """It may begin messages again."""
        ...


class Alone:
    """One message at a time has the process for itself. Those that wait for it are in nobody's way: none is counted as
    being handled, so that two of them do not wait for each other."""

    def __init__(self, row: OwnRow, clock: Clock) -> None:
        self.row = row
        self.closed = False  # hot: asked before each message
        self._clock = clock
        self._consumers: list[Handling] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._turn = 0

    def joined_by(self, consumer: Handling) -> None:
        self._consumers.append(consumer)

    async def begin(self, slot: int, given_up: Callable[[], bool]) -> int | None:
        """From now on the message of this slot is the only one that a death counts for, until `end`, to be called with
        what this returns, or until its time is up. None: given up before it came to that."""
        await self.until(lambda: not self.closed or given_up())
        if given_up():
            return None
        self.closed = True
        self._turn += 1
        try:
            async with self._clock.deadline(OTHERS_MOST):
                await self.until(lambda: given_up() or not any(each.handling for each in self._consumers))
        except TimeoutError:
            pass  # they go on; for what comes now they are not to blame, as far as one can tell
        except BaseException:
            self.end(self._turn)
            raise
        await self._clock.sleep(0)  # their acknowledgements are written at the end of a turn of the loop
        if given_up():
            self.end(self._turn)
            return None
        self.row.mark_alone(slot)
        self._clock.alarm(self._clock.now() + ALONE_MOST, partial(self.end, self._turn))
        return self._turn

    def end(self, turn: int) -> None:
        """Safe to call twice: who comes later, or when the next turn has begun, has come too late."""
        if not self.closed or turn != self._turn:
            return
        self.row.unmark_alone()
        self.closed = False
        self.tell()
        for consumer in self._consumers:
            consumer.go_on()

    async def until(self, what: Callable[[], bool]) -> None:
        while not what():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter  # ends with `tell`, at the latest when the turn of somebody else is over

    def tell(self) -> None:
        """Something has changed: a message has ended, or somebody is told to stop."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():  # cancelled
                waiter.set_result(None)
