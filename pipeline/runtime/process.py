"""One delivery, as a column: handle, read the outcome, decide, settle. What goes out on the way is confirmed before the
delivery is acknowledged. Loops, slots and queues are not known here. Hot: `process`."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, assert_never

from pipeline.amqp.publish import Publisher
from pipeline.clock import Clock
from pipeline.errors import ChannelGone, PublishError, SettlementError
from pipeline.events import AttemptDisbelieved, Event, MessageDone, MessageReceived, Notice, SettleTroubled
from pipeline.failpoints import ARMED, reach
from pipeline.failure.headers import COUNTED_IN, recall
from pipeline.failure.verdict import ACKNOWLEDGE, HandleAgain, Policy, Verdict, decide, failure_of, final
from pipeline.handlers.call import Handler, Output, ended_by
from pipeline.handlers.context import Context, Publish
from pipeline.handlers.limit import GRACE, TimeLimit, cancelled_itself
from pipeline.message import Message, Way
from pipeline.outcome import (
    DONE,
    GIVEN_BACK,
    Done,
    Failed,
    GivenBack,
    Outcome,
    Rejected,
    RetryAsked,
    Undecodable,
    seconds,
)
from pipeline.runtime.begun import begun
from pipeline.runtime.outputs import Outlet, Outputs, told
from pipeline.runtime.plan import ConsumerPlan
from pipeline.runtime.settle import LONGEST_HOLD, SETTLED_ALREADY, Case, Settler

_LOOK_EVERY = 0.25  # seconds, at whether waiting in this process still makes sense


class Processor:
    """Takes the deliveries of one consumer, one at a time per slot, to their end. What a message does not need is not
    made for it: outputs where it can send nothing, a context where its handler does not ask for one."""

    def __init__(
        self,
        *,
        plan: ConsumerPlan,
        publisher: Publisher,
        settler: Settler,
        limit: TimeLimit,
        clock: Clock,
        emit: Callable[[Event], None],
        context: Callable[[Publish], Context],
        asks_context: bool,
        verbose: bool,
        longest: int = sys.maxsize,
        policy: Policy | None = None,
    ) -> None:
        """A message whose body is longer than `longest` bytes is not handled. Without a `policy` no message is handled
        a second time."""
        consumer = plan.consumer
        self._consumer = consumer
        self._manual = consumer.ack == "manual"
        self._dead_letter = plan.dead_letter is not None
        self._longest = longest
        self._policy = policy
        self._counted_in = None if policy is None else COUNTED_IN[policy.strategy]
        self._inline = policy is not None and policy.strategy == "inline"
        self._stopping = False
        self._settler = settler
        self._limit = None if limit.seconds is None else limit
        self._clock = clock
        self._emit = emit
        self._context = context
        self._asks_context = asks_context
        self._one_for_all: Context | None = None
        self._sends = asks_context or consumer.publish is not None
        self._outlet = Outlet(
            consumer=consumer.name,
            publish=consumer.publish,
            plain=plan.plain_publish,
            publisher=publisher,
            clock=clock,
            longest_hold=None if consumer.ack == "none" else LONGEST_HOLD,
            troubled=self._troubled,
        )
        self._verbose = verbose  # an event per message costs; it is made only where the log shows it
        self._warned = False
        # While it is True nobody of ours cancels what runs here: a cancellation is the handler's own doing.
        self.undisturbed = False

    async def process(self, case: Case, handler: Handler) -> None:
        """Raises nothing but a cancellation, after giving the delivery back."""
        outputs = Outputs(self._outlet, case.delivery) if self._sends else None
        if self._counted_in is not None and case.delivery.message.mentions(self._counted_in):
            self._recall(case.delivery.message)
        started = self._received(case.message) if self._verbose else 0.0
        try:
            # Handle, conclude, settle. Nearly every message needs no more than the first line and the last one, which
            # is why the steps stand here and not in a coroutine each.
            if len(case.delivery.message.body) > self._longest:
                run = self._too_large(case.message)
            else:
                run = self._begun(case, handler, outputs)
            outcome = await run if self._limit is None else await self._limit.within(run)
            ARMED and reach("settle.after_handler")
            if outcome is not DONE or outputs is not None or self._manual:
                outcome = await self._concluded(case, outcome, outputs)
                if self._inline and outcome is not DONE:
                    outcome = await self._handled_again(case, handler, outcome)
            if case.begun:
                self._settled_by_hand(outcome)
            else:
                await self._settler.settle(case, ACKNOWLEDGE if outcome is DONE else self._decide(case, outcome))
        except asyncio.CancelledError:
            if outputs is not None:
                outputs.forget()
            if case.by_hand is not None:
                case.by_hand.cancel()
            if self.undisturbed and await self._failed_by_itself(case):
                return
            await self._settler.abandon(case)
            raise
        except ChannelGone as gone:  # while its outputs waited for their confirms
            if outputs is not None:
                outputs.forget()
            self._notice(f"{case.message!r} goes back to its queue: {gone}")
            await self._settler.abandon(case)
        finally:
            if self._manual:
                case.message.hand_over(_too_late)  # the other way leads to the case, and from there to the message
        if self._verbose:
            self._done(case.message, started)

    def stop_waiting(self) -> None:
        """What waits here to be handled again goes back to its queue."""
        self._stopping = True

    def _recall(self, message: Message) -> None:
        assert self._policy is not None
        said = recall(message, self._policy)
        if said is not None:
            self._emit(AttemptDisbelieved(consumer=self._consumer.name, message_id=message.message_id, said=said))

    async def _handled_again(self, case: Case, handler: Handler, outcome: Outcome) -> Outcome:
        """With `strategy: inline`: how the last attempt ended. The delivery and its slot are held all the time, so that
        nothing behind it is handled before it."""
        while isinstance(verdict := self._decide(case, outcome), HandleAgain):
            self._settler.tell_again(case.message, verdict.failure, verdict.after)
            if not await self._waited(case, verdict.after):
                return GIVEN_BACK
            case.message.attempt += 1
            outcome = await self._attempted(case, handler)
        return outcome

    async def _waited(self, case: Case, duration: float) -> bool:
        """False when the pipeline stops, or its channel ends, which leaves no sense in waiting: it comes again."""
        end = self._clock.now() + duration
        while (left := end - self._clock.now()) > 0 and not self._stopping and case.delivery.alive:
            ARMED and reach("inline.before_pause")
            await self._clock.sleep(min(left, _LOOK_EVERY))
        return not self._stopping and case.delivery.alive

    async def _attempted(self, case: Case, handler: Handler) -> Outcome:
        outputs = Outputs(self._outlet, case.delivery) if self._sends else None
        try:
            run = self._begun(case, handler, outputs)
            outcome = await run if self._limit is None else await self._limit.within(run)
            ARMED and reach("inline.after_handler")
            return await self._concluded(case, outcome, outputs)
        except BaseException:  # it was cancelled, or its channel has ended
            if outputs is not None:
                outputs.forget()
            raise

    async def _failed_by_itself(self, case: Case) -> bool:
        """A handler has cancelled the task that it runs in, which is the slot's own: the message has failed, and the
        slot goes on. False when that cannot be carried out: at the end of the process everything is cancelled."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        if case.begun:
            return case.over
        outcome = Failed(cancelled_itself())
        verdict = self._decide(case, outcome)
        if self._inline and isinstance(verdict, HandleAgain):  # the slot is not in a state to handle it again
            verdict = final(failure_of(outcome), ack=self._consumer.ack, dead_letter=self._dead_letter)
        try:
            async with self._clock.deadline(GRACE):
                await self._settler.settle(case, verdict)
        except (TimeoutError, asyncio.CancelledError):
            return False
        return True

    async def _too_large(self, message: Message) -> Outcome:
        """In the place of the handler, before anything reads the body."""
        return Undecodable(
            f"too large: its body has {len(message.body)} bytes, and `max_message_size` is {self._longest} bytes"
        )

    def _begun(self, case: Case, handler: Handler, outputs: Outputs | None) -> Coroutine[Any, Any, Outcome]:
        message = case.delivery.message
        if self._manual:
            message.hand_over(partial(self._settle_by_hand, case, outputs))
        context = self._one_for_all or self._context_for(outputs)
        return handler(message, context, self._unwanted if outputs is None else self._output(outputs))

    async def _concluded(self, case: Case, outcome: Outcome, outputs: Outputs | None) -> Outcome:
        """The same, after what it returned is sent and everything is confirmed."""
        if self._manual:
            outcome = await self._concluded_by_hand(case, outcome, outputs)
            if case.begun:
                return outcome
        if type(outcome) is Done:  # not with `match`, which would be a fiftieth of all that a message takes
            value = outcome.value
            if value is not None and self._consumer.publish is None:
                await self._unwanted(value)
                value = None
            if outputs is None:
                return DONE
            try:
                last = None if value is None else outputs.made(value)
            except BaseException as error:
                outputs.forget()
                return ended_by(error)
            try:
                await outputs.confirmed(last)
            except PublishError as error:
                return Failed(error)
            return DONE
        if type(outcome) is Failed and isinstance(outcome.error, ChannelGone):
            raise outcome.error
        if outputs is not None:
            outputs.forget()  # a handler that was left behind may still try
        return outcome

    async def _concluded_by_hand(self, case: Case, outcome: Outcome, outputs: Outputs | None) -> Outcome:
        """What it returned goes out whether or not the message is settled already, and nobody waits for its confirm
        who has settled it before."""
        if isinstance(outcome, Done) and outcome.value is not None:
            try:
                ARMED and reach("by_hand.before_output")
                await self._output(outputs)(outcome.value)
            except BaseException as error:
                outcome = ended_by(error)
        if case.by_hand is not None:
            # The handler may have been cut off while it waited for its own settling, which goes on.
            ARMED and reach("by_hand.before_end")
            await asyncio.wait({case.by_hand})
        if case.begun or not isinstance(outcome, Done):
            return outcome
        return Failed(SettlementError("the handler ended without message.ack(), reject() or retry()"))

    def _context_for(self, outputs: Outputs | None) -> Context:
        if self._asks_context and outputs is not None:
            return self._context(outputs.publish)
        self._one_for_all = self._context(_not_asked)  # only its logger is used, for a generator that does not close
        return self._one_for_all

    def _decide(self, case: Case, outcome: Outcome) -> Verdict:
        return decide(
            outcome,
            ack=self._consumer.ack,
            dead_letter=self._dead_letter,
            policy=self._policy,
            attempt=case.message.attempt,
        )

    async def _settle_by_hand(
        self, case: Case, outputs: Outputs | None, way: Way, argument: str | float | None
    ) -> None:
        """What `message.ack()` and its like do. It goes on when the handler that waits for it is cut off; so what must
        be waited for runs in a task of its own."""
        if case.begun or (case.by_hand is not None and not case.by_hand.done()):
            raise SettlementError(SETTLED_ALREADY)
        step = self._carry_out(case, outputs, way, argument)
        # An ack waits for nothing where nothing was sent. The others publish a copy, with a deadline, which must be
        # that of their own task.
        case.by_hand = begun(step) if way == "ack" else asyncio.create_task(step)
        if case.by_hand is not None:
            case.by_hand.add_done_callback(told)
            ARMED and reach("by_hand.before_settled")
            await asyncio.shield(case.by_hand)
            ARMED and reach("by_hand.after_settled")

    async def _carry_out(self, case: Case, outputs: Outputs | None, way: Way, argument: str | float | None) -> None:
        match way:
            case "ack":
                if outputs is not None:
                    await outputs.confirmed()
                verdict: Verdict = ACKNOWLEDGE
            case "reject":
                verdict = self._decide(case, Rejected(str(argument)))
            case "retry":
                verdict = self._decide(case, RetryAsked(seconds(argument), "the handler asked for a retry"))
            case _:
                assert_never(way)
        await self._settler.settle(case, verdict)

    def _settled_by_hand(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Done | GivenBack):
            failure = failure_of(outcome)
            told = f"{failure.error_type}: {failure.error}"
            self._notice(f"after it had settled the message the handler ended with {told}; nothing follows from it")

    def _output(self, outputs: Outputs | None) -> Output:
        return self._unwanted if outputs is None or self._consumer.publish is None else outputs.add

    async def _unwanted(self, value: object) -> None:
        if not self._warned:
            self._warned = True
            self._notice(
                f"the handler returned a {type(value).__name__}, and the consumer has no `publish`: it goes nowhere"
            )

    def _troubled(self, message: Message, reason: str, pause: float) -> None:
        self._emit(
            SettleTroubled(
                consumer=self._consumer.name, message_id=message.message_id, reason=reason, next_attempt=pause
            )
        )

    def _received(self, message: Message) -> float:
        self._emit(
            MessageReceived(
                consumer=self._consumer.name,
                message_id=message.message_id,
                redelivered=message.redelivered,
                attempt=message.attempt,
                body=_bytes(message),
            )
        )
        return self._clock.now()

    def _done(self, message: Message, started: float) -> None:
        self._emit(
            MessageDone(
                consumer=self._consumer.name,
                message_id=message.message_id,
                redelivered=message.redelivered,
                seconds=self._clock.now() - started,
                body=_bytes(message),
            )
        )

    def _notice(self, sentence: str) -> None:
        self._emit(Notice(subject=f"consumer.{self._consumer.name}", sentence=sentence, level="warning"))


def _bytes(message: Message) -> bytes:
    return message.body if isinstance(message.body, bytes) else b""


async def _too_late(_way: Way, _argument: str | float | None) -> None:
    raise SettlementError(SETTLED_ALREADY)


async def _not_asked(*_: object, **__: Any) -> None:
    raise AssertionError("a handler that does not ask for a context publishes nothing through it")
