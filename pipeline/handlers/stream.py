"""Run a handler that loops over its messages itself: `async for message in messages`. Start it, start it again when it
ends, cancel and close it. How a message is settled, and where it comes from, is not known here."""

import asyncio
from typing import Any

from pipeline.clock import Clock
from pipeline.handlers.call import Output, close_generator, ended_by, put_out
from pipeline.handlers.context import Context, Surroundings
from pipeline.handlers.limit import GRACE, end
from pipeline.handlers.messages import Hand, Messages, Offered
from pipeline.handlers.signature import CallPlan
from pipeline.handlers.threads import NotStarted
from pipeline.message import Message
from pipeline.outcome import DONE, GIVEN_BACK, Failed, Outcome

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


class StreamHandler:
    """One loop of the user's function, which is a `Handler`: for N loops make N. Calls that overlap wait their turn.

    The function starts with the first message. Asking for the next message, or returning, settles the one before as
    success; an exception fails it. A function that has ended is started again: at once if it was given a message, else
    after a pause, while the message that waits for it is kept."""

    def __init__(self, plan: CallPlan, *, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._offered = Offered()
        self._round: _Round | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._left_behind: set[_Round] = set()

    async def __call__(self, message: Message, context: Context, output: Output) -> Outcome:
        """Hand the message to the loop, and wait for how it ends. Cancelled, it cancels the user's function."""
        if self._offered.closed:
            return GIVEN_BACK
        hand = Hand(message, context, output)
        self._offered.put(hand)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(context.around))
        try:
            return await asyncio.shield(hand.outcome)
        except asyncio.CancelledError:
            if self._offered.take_back(hand):
                raise NotStarted from None
            await self._cancel(hand)
            raise

    async def close(self, seconds: float = GRACE) -> None:
        """End the loop at its next ask, so that what the user wrote after it runs. What has not ended after `seconds`
        is cancelled, and its message given back. Safe to call twice."""
        for hand in self._offered.close():
            hand.end(GIVEN_BACK)
        if self._keeper is None or self._round is None:
            return
        try:
            async with self._clock.deadline(seconds):
                await self._round.over.wait()
        except TimeoutError:
            await self._end(self._round)
        finally:
            self._round.task.cancel()
            self._keeper.cancel()

    async def _keep(self, around: Surroundings) -> None:
        pause = _FIRST_PAUSE
        while not self._offered.closed:
            self._round = _Round(self._plan, self._offered, around, self._clock)
            await self._round.over.wait()  # comes with the end of the function, or when it is left behind
            if self._round.messages.given:
                pause = _FIRST_PAUSE
            elif not self._offered.closed:
                around.logger.error(
                    'stream handler "%s" ended before it asked for a message; it starts again in %g s',
                    self._plan.name,
                    pause,
                )
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _cancel(self, hand: Hand) -> None:
        """Cancel the function that has this message in hand. It may also swallow that and ask for the next one."""
        running = self._round
        if running is None or running.messages.hand is not hand:
            return
        running.cancel()
        try:
            async with self._clock.deadline(GRACE / 2):  # in time for the caller, who waits for `GRACE`
                await asyncio.shield(hand.outcome)
        except TimeoutError:
            self._leave_behind(running)

    async def _end(self, running: "_Round") -> None:
        running.cancel()
        if not await end(running.task, GRACE, self._clock):
            self._leave_behind(running)

    def _leave_behind(self, running: "_Round") -> None:
        self._left_behind.add(running)
        running.task.add_done_callback(lambda _: self._left_behind.discard(running))
        running.leave()


class _Round:
    """The user's function from one start to its end."""

    def __init__(self, plan: CallPlan, offered: Offered, around: Surroundings, clock: Clock) -> None:
        self.over = asyncio.Event()
        self.messages = Messages(offered, asked=self._forgive)
        self._plan = plan
        self._clock = clock
        self._context = Context(around, self._publish)
        self._cancelled = False
        self.task = asyncio.create_task(self._run(), name=f"consumer.{around.consumer}")

    def cancel(self) -> None:
        self._cancelled = True
        self.task.cancel()

    def leave(self) -> None:
        """It does not end; from now on it gets nothing and nobody waits for it."""
        self._context.logger.warning(
            'stream handler "%s" does not end although it was cancelled; it is left behind', self._plan.name
        )
        self.messages.end()
        self.messages.settle(GIVEN_BACK)
        self.over.set()

    def _forgive(self) -> None:
        """A function that swallowed its cancellation and asks for more goes on as if it were new."""
        if self._cancelled:
            self._cancelled = False
            self.task.uncancel()

    async def _run(self) -> None:
        try:
            await self._call()
            outcome: Outcome = DONE
        except BaseException as error:
            outcome = self._read(error)
        self.messages.end()
        if not self.messages.settle(outcome) and outcome not in (DONE, GIVEN_BACK):
            raised = outcome.error if isinstance(outcome, Failed) else None
            self._context.logger.error(
                'stream handler "%s" failed with no message in hand: %s', self._plan.name, outcome, exc_info=raised
            )
        self.over.set()

    def _read(self, error: BaseException) -> Outcome:
        try:
            return ended_by(error)
        except asyncio.CancelledError:
            return GIVEN_BACK

    async def _call(self) -> None:
        arguments = [fill(self.messages, self._context) for fill in self._plan.positional]
        keywords = {name: fill(self.messages, self._context) for name, fill in self._plan.keywords}
        running: Any = self._plan.function(*arguments, **keywords)
        if self._plan.kind == "stream":
            await running
            return
        try:
            async for value in running:
                await put_out(value, self._in_hand("yield a value").output)
        except BaseException:
            await close_generator(running.aclose(), self._context, self._clock)
            raise

    async def _publish(self, body: object, **where: Any) -> None:
        publish: Any = self._in_hand("publish").context.publish
        await publish(body, **where)

    def _in_hand(self, what: str) -> Hand:
        if self.messages.hand is None:
            raise RuntimeError(f"a stream handler can {what} only while it has a message in hand")
        return self.messages.hand
