"""One consumer's loop: deliveries wait here, `concurrency` slots take them in order, and at the end what has not begun
goes back. What handling means, and which connection they came over, is not known here. Hot: `receive`, `_slot`."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from pipeline.amqp.consume import Subscription
from pipeline.clock import Clock
from pipeline.events import ConsumerPaused, ConsumerResumed, Event, HandlerAbandoned, HandlerFreed, HandlerStuck
from pipeline.failure.verdict import GiveBack
from pipeline.handlers.call import Handler
from pipeline.handlers.threads import Threads
from pipeline.ledger import ConsumerLedger
from pipeline.message import Delivery
from pipeline.runtime.once import Once
from pipeline.runtime.plan import ConsumerPlan
from pipeline.runtime.process import Processor
from pipeline.runtime.settle import Case, Settler
from pipeline.runtime.turn import Turn

# With `ack: none` AMQP knows no prefetch: above the first number the consumer is cancelled, below the second it
# consumes again.
PAUSE_AT = 1_000
RESUME_AT = 100
# Seconds for a cancelled handler, once time is up.
_GRACE = 1.0


class ConsumerRun:
    """The deliveries of one consumer, from the client's callback to their end."""

    def __init__(
        self,
        *,
        plan: ConsumerPlan,
        processor: Processor | Once,
        settler: Settler,
        handlers: Sequence[Handler],
        in_threads: bool,
        ledger: ConsumerLedger,
        turn: Turn,
        clock: Clock,
        emit: Callable[[Event], None],
        threads: Threads | None = None,
    ) -> None:
        """`threads` are those that the handlers run in, if they do."""
        self.plan = plan
        self._processor = processor
        self._settler = settler
        self._handlers = handlers
        self._in_threads = in_threads
        self._threads = threads
        self._ledger = ledger
        self._turn = turn
        self._clock = clock
        self._emit = emit
        self._at_most_once = plan.link == "consume-none"
        self._waiting: deque[Delivery] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()  # one for each slot that waits
        self._in_hand: dict[int, Case] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._draining = False
        self._flow: asyncio.Task[None] | None = None
        self._paused = False
        self._lacking: set[asyncio.Future[None]] = set()  # one for each slot whose thread does not come back
        self.stuck = 0  # so many of them have been told
        self.subscription: Subscription | None = None

    def receive(self, deliveries: Sequence[Delivery]) -> None:
        """What the client read at once, in one step: nothing is awaited here."""
        self._ledger.delivered(len(deliveries))
        self._waiting.extend(deliveries)
        self._wake(len(deliveries))
        if self._at_most_once and len(self._waiting) >= PAUSE_AT and not self._paused:
            self._turn_flow(pause=True)

    def start(self, bug: Callable[[BaseException], None]) -> None:
        """One task per slot. With `concurrency: 1` the order of the queue is kept. They stand in no task group, which
        would wait for ever for a handler that swallows its cancellation; `bug` hears of an exception of ours."""

        self._processor.undisturbed = True

        def ended(slot: asyncio.Task[None]) -> None:
            if not slot.cancelled() and (error := slot.exception()) is not None:
                bug(error)

        for number, handler in enumerate(self._handlers):
            # Named for the watchdog of the loop, which says whose code has blocked it.
            slot = asyncio.create_task(self._slot(number, handler), name=f"consumer.{self.plan.consumer.name}")
            slot.add_done_callback(ended)
            self._slots.append(slot)

    async def drain(self) -> None:
        """Take nothing new, give back what has not begun, and return when the handlers have ended. With `ack: none`
        the broker has forgotten what waits here, so it is handled to the end instead."""
        if self.subscription is not None:
            await self.subscription.cancel()
        self._draining = True
        self._processor.stop_waiting()
        if not self._at_most_once:
            await self._give_back_unstarted()
        self._wake(len(self._slots))
        for thread in self._lacking:
            thread.cancel()  # nobody waits for it
        if self._slots:
            await asyncio.wait(self._slots)

    async def cut_off(self) -> int:
        """Time is up: cancel what still runs, give it back and name it. Returns how many handlers that were."""
        self._processor.undisturbed = False
        cut = list(self._in_hand.values())
        for case in cut:
            self._emit(
                HandlerAbandoned(
                    consumer=self.plan.consumer.name,
                    message_id=case.message.message_id,
                    thread=self._in_threads,
                    dropped=self._at_most_once,
                )
            )
        for slot in self._slots:
            slot.cancel()
        try:
            async with self._clock.deadline(_GRACE):
                if self._slots:
                    await asyncio.wait(self._slots)
        except TimeoutError:
            for case in cut:
                await self._settler.abandon(case)
        while self._waiting:
            await self._settler.abandon(Case(self._waiting.popleft()))
        return len(cut)

    @property
    def in_hand(self) -> int:
        return len(self._waiting) + len(self._in_hand)

    async def _slot(self, number: int, handler: Handler) -> None:
        waiting, in_hand, turn, threads = self._waiting, self._in_hand, self._turn, self._threads
        while True:
            while not waiting or (self._draining and not self._at_most_once):
                if self._draining:
                    return
                await self._woken()
            delivery = waiting.popleft()
            if self._paused and len(waiting) <= RESUME_AT:
                self._turn_flow(pause=False)
            if not (self._at_most_once or delivery.alive):
                self._ledger.redelivery_expected()  # its channel is gone: another consumer gets it, or we do again
                continue
            turn.begin()
            case = in_hand[number] = Case(delivery)
            try:
                await self._processor.process(case, handler)
            finally:
                del in_hand[number]
            if threads is not None and threads.left_behind > len(self._lacking):
                await self._thread_back(threads.missed(), case.message.message_id)
            if turn.used_up:
                await self._clock.sleep(0)

    async def _woken(self) -> None:
        """A future for each slot that waits, and as many are woken as have something to do. One event for all of them
        would wake a hundred slots for each message that comes alone."""
        waiter = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        await waiter  # ends with a delivery or with `drain`

    def _wake(self, count: int) -> None:
        idle = self._idle
        while count > 0 and idle:
            waiter = idle.popleft()
            if not waiter.done():  # cancelled
                waiter.set_result(None)
                count -= 1

    async def _give_back_unstarted(self) -> None:
        while self._waiting:
            # The last first: the broker puts each back to its old place, whatever the order.
            case = Case(self._waiting.pop())
            try:
                await self._settler.settle(case, GiveBack())
            except asyncio.CancelledError:
                await self._settler.abandon(case)
                raise

    # Slots whose thread does not end

    async def _thread_back(self, thread: asyncio.Future[None], message_id: str | None) -> None:
        """The message is settled, and the slot stays taken until its thread ends: the next message would only wait
        here for a thread, until its own time is over."""
        if self._draining:
            return
        self._lacking.add(thread)
        try:
            if await self._comes_soon(thread):
                return
            self._stick(message_id)
            await asyncio.wait({thread})  # ends with the thread, or with `drain`
            self._free()
        finally:
            thread.cancel()
            self._lacking.discard(thread)

    async def _comes_soon(self, thread: asyncio.Future[None]) -> bool:
        with suppress(TimeoutError):
            async with self._clock.deadline(_GRACE):
                await asyncio.wait({thread})
        return thread.done()

    def _stick(self, message_id: str | None) -> None:
        self.stuck += 1
        name, slots = self.plan.consumer.name, len(self._slots)
        self._emit(HandlerStuck(consumer=name, message_id=message_id, stuck=self.stuck, slots=slots))
        if self.stuck == slots and not self._at_most_once:
            self._wish(pause=True)  # and what waits here goes back, for others to handle

    def _free(self) -> None:
        stood = self.stuck == len(self._slots)
        self.stuck -= 1
        if self._draining:
            return
        self._emit(HandlerFreed(consumer=self.plan.consumer.name, stuck=self.stuck, slots=len(self._slots)))
        if stood and not self._at_most_once:
            self._wish(pause=False)

    # Pauses

    def _turn_flow(self, *, pause: bool) -> None:
        self._paused = pause
        waiting = len(self._waiting)
        name = self.plan.consumer.name
        self._emit(
            ConsumerPaused(consumer=name, waiting=waiting) if pause else ConsumerResumed(consumer=name, waiting=waiting)
        )
        self._wish(pause=pause)

    def _wish(self, *, pause: bool) -> None:
        before = self._flow
        self._flow = asyncio.create_task(self._set_flow(before, pause=pause))

    async def _set_flow(self, before: asyncio.Task[None] | None, *, pause: bool) -> None:
        if before is not None:
            await before
        if self.subscription is not None and not self._draining:
            await (self.subscription.pause() if pause else self.subscription.resume())
        if pause and not (self._at_most_once or self._draining):
            await self._give_back_unstarted()
