"""A consumer's loop in a worker process. Before a message is handled it is written down where the supervisor can read
it when this process has died; a message that was in hand at such a death is handled alone, and no more at
`crash_limit`. Without workers nothing of this runs. Hot: `_slot`."""

import asyncio
from typing import Any

from pipeline.events import HandledAlone
from pipeline.failure.verdict import GIVE_BACK, DeadLetter, Drop, crashed
from pipeline.handlers.call import Handler, Output
from pipeline.handlers.context import Context
from pipeline.message import Message
from pipeline.outcome import GIVEN_BACK, Outcome
from pipeline.runtime.alone import Alone
from pipeline.runtime.consume import RESUME_AT, ConsumerRun
from pipeline.runtime.in_hand import Hands, identity
from pipeline.runtime.settle import Case
from pipeline.runtime.suspects import cause

# The broker may deliver again what a dead worker had in hand before the supervisor has counted it. That is waited for,
# but not for long, and once a minute at most: the other worker may as well live and have lost its line only, or hold
# another message that looks the same.
_LOOK_EVERY = 0.01  # seconds
_MOST_LOOKS = 300
_NO_LOOK_AFTER_VAIN = 60.0  # seconds


class WatchedRun(ConsumerRun):
    """Deliveries of one consumer in one worker."""

    def __init__(self, *, alone: Alone, hands: Hands, **parts: Any) -> None:
        super().__init__(**parts)
        self._alone = alone
        self._hands = hands
        self._limit = self.plan.consumer.crash_limit
        self._no_look_before = 0.0
        alone.joined_by(self)

    @property
    def handling(self) -> int:
        return len(self._in_hand)

    def go_on(self) -> None:
        self._wake(len(self._waiting))

    async def cut_off(self) -> int:
        count = await super().cut_off()
        if not self._at_most_once:
            for number in range(len(self._slots)):
                self._hands.let_go(number)  # given back, whether or not its handler has ended: the end is in order
        return count

    async def _give_back_unstarted(self) -> None:
        self._alone.tell()  # those that wait to be handled alone have not begun
        await super()._give_back_unstarted()

    async def _slot(self, number: int, handler: Handler) -> None:
        # As in `ConsumerRun`, where each line has its reason. Written out, since a call in between is paid per message.
        waiting, in_hand, turn, alone = self._waiting, self._in_hand, self._turn, self._alone
        take, let_go, threads = self._hands.take, self._hands.let_go, self._threads
        while True:
            while not waiting or alone.closed or (self._draining and not self._at_most_once):
                if alone.closed:
                    alone.tell()
                if self._draining and not (self._at_most_once and waiting):
                    return
                await self._woken()
            delivery = waiting.popleft()
            if self._paused and len(waiting) <= RESUME_AT:
                self._turn_flow(pause=False)
            if not (self._at_most_once or delivery.alive):
                self._ledger.redelivery_expected()
                continue
            turn.begin()
            case = Case(delivery)
            if self._at_most_once:
                in_hand[number] = case
                try:
                    await self._processor.process(case, handler)
                finally:
                    del in_hand[number]
            elif delivery.message.redelivered and await self._is_suspect(number, case, handler):
                pass
            else:
                in_hand[number] = case
                take(number, delivery.message)
                try:
                    await self._processor.process(case, handler)
                finally:
                    del in_hand[number]
                    let_go(number)
            if threads is not None and threads.left_behind > len(self._lacking):
                await self._thread_back(threads.missed(), case.message.message_id)
            if turn.used_up:
                await self._clock.sleep(0)

    async def _is_suspect(self, number: int, case: Case, handler: Handler) -> bool:
        """Whether it was, and is seen to. False: it is to be handled at once, like any other."""
        held = identity(case.message)
        try:
            if deaths := await self._deaths(held):
                await self._see_to(number, case, handler, held, deaths)
                return True
            # It may have been asked for meanwhile.
            await self._alone.until(lambda: not self._alone.closed or self._draining)
            if self._draining:
                await self._settler.settle(case, GIVE_BACK)
            return self._draining
        except asyncio.CancelledError:
            await self._settler.abandon(case)
            raise

    async def _deaths(self, held: bytes) -> int:
        if self._hands.held_elsewhere(held) and self._clock.now() >= self._no_look_before:
            for _ in range(_MOST_LOOKS):
                await self._clock.sleep(_LOOK_EVERY)
                if self._draining or not self._hands.held_elsewhere(held):
                    break
            else:
                self._no_look_before = self._clock.now() + _NO_LOOK_AFTER_VAIN
        return self._hands.deaths(held)  # after the look, for the supervisor counts first and takes it out then

    async def _see_to(self, number: int, case: Case, handler: Handler, held: bytes, deaths: int) -> None:
        if deaths >= self._limit:
            await self._give_up(number, case, held, deaths)
            return
        turn = await self._alone.begin(self._hands.slot_in_row(number), lambda: self._draining)
        if turn is None:
            await self._settler.settle(case, GIVE_BACK)
            return
        try:
            await self._handle_alone(number, case, handler, held, deaths)
        finally:
            self._alone.end(turn)

    async def _handle_alone(self, number: int, case: Case, handler: Handler, held: bytes, deaths: int) -> None:
        if not case.delivery.alive:
            self._ledger.redelivery_expected()
            return
        consumer, message = self.plan.consumer.name, case.message
        self._emit(
            HandledAlone(consumer=consumer, message_id=message.message_id, deaths=deaths, crash_limit=self._limit)
        )
        ended = False

        async def noted(message: Message, context: Context, output: Output) -> Outcome:
            nonlocal ended
            outcome = await handler(message, context, output)
            ended = outcome is not GIVEN_BACK
            return outcome

        self._in_hand[number] = case
        self._hands.take(number, message)
        try:
            await self._processor.process(case, noted)
        finally:
            del self._in_hand[number]
            self._hands.let_go(number)
        if ended:  # well or badly, but this process lives: it was a bystander
            self._hands.clear(held)

    async def _give_up(self, number: int, case: Case, held: bytes, deaths: int) -> None:
        failure = crashed(deaths, cause(self._hands.last_status(held)))
        kept = self.plan.dead_letter is not None
        # Not beside a message that may kill this process between the copy and its acknowledgement.
        await self._alone.until(lambda: not self._alone.closed or self._draining)
        self._in_hand[number] = case
        try:
            await self._settler.settle(case, DeadLetter(failure) if kept else Drop(failure))
        finally:
            del self._in_hand[number]
        if case.delivery.alive:  # else it comes again
            self._hands.clear(held)
