"""One delivery, as a column: handle, read the outcome, decide, settle. What goes out on the way is confirmed before the
delivery is acknowledged. Loops, slots and queues are not known here."""

import asyncio
from collections.abc import Callable
from typing import assert_never

from pipeline.amqp.publish import Publisher
from pipeline.clock import Clock
from pipeline.errors import ChannelGone, PublishError, SettlementError
from pipeline.events import Event, MessageDone, MessageReceived, Notice, SettleTroubled
from pipeline.failure.verdict import Acknowledge, Verdict, decide, failure_of
from pipeline.handlers.call import Handler, Output
from pipeline.handlers.context import Context
from pipeline.handlers.limit import TimeLimit
from pipeline.message import Message, Settle, Way
from pipeline.outcome import Done, Failed, GivenBack, Outcome, Rejected, RetryAsked, seconds
from pipeline.runtime.outputs import Outputs, told
from pipeline.runtime.plan import ConsumerPlan
from pipeline.runtime.settle import LONGEST_HOLD, Case, Settler


class Processor:
    """Takes the deliveries of one consumer, one at a time per slot, to their end."""

    def __init__(
        self,
        *,
        plan: ConsumerPlan,
        publisher: Publisher,
        settler: Settler,
        limit: TimeLimit,
        clock: Clock,
        emit: Callable[[Event], None],
        context: Callable[[Outputs], Context],
        verbose: bool,
    ) -> None:
        self._consumer = plan.consumer
        self._plain = plan.plain_publish
        self._dead_letter = plan.dead_letter is not None
        self._publisher = publisher
        self._settler = settler
        self._limit = limit
        self._clock = clock
        self._emit = emit
        self._context = context
        self._verbose = verbose  # an event per message costs; it is made only where the log shows it
        self._warned = False

    async def process(self, case: Case, handler: Handler) -> None:
        """Raises nothing but a cancellation, after giving the delivery back."""
        outputs = self._outputs(case)
        started = self._received(case.message)
        try:
            outcome = await self._handle(case, handler, outputs)
            if case.begun:
                self._settled_by_hand(outcome)
            else:
                await self._settler.settle(case, self._decide(outcome))
        except asyncio.CancelledError:
            outputs.forget()
            if case.by_hand is not None:
                case.by_hand.cancel()
            await self._settler.abandon(case)
            raise
        except ChannelGone as gone:  # while its outputs waited for their confirms
            outputs.forget()
            self._notice(f"{case.message!r} goes back to its queue: {gone}")
            await self._settler.abandon(case)
        self._done(case.message, started)

    async def _handle(self, case: Case, handler: Handler, outputs: Outputs) -> Outcome:
        message = case.message
        if self._consumer.ack == "manual":
            message.hand_over(self._by_hand(case, outputs))
        run = handler(message, self._context(outputs), self._output(outputs))
        outcome = await self._limit.within(run)
        if case.by_hand is not None:
            # The handler may have been cut off while it waited for its own settling, which goes on.
            await asyncio.wait({case.by_hand})
            if case.begun:
                return outcome
        match outcome:
            case Done() if self._consumer.ack == "manual" and not case.begun:
                return Failed(SettlementError("the handler ended without message.ack(), reject() or retry()"))
            case Done():
                return await self._confirmed(outputs)
            case Failed(ChannelGone() as gone):
                raise gone
            case _:
                outputs.forget()  # a handler that was left behind may still try
                return outcome

    async def _confirmed(self, outputs: Outputs) -> Outcome:
        try:
            await outputs.confirmed()
        except PublishError as error:
            return Failed(error)
        return Done()

    def _decide(self, outcome: Outcome) -> Verdict:
        return decide(outcome, ack=self._consumer.ack, dead_letter=self._dead_letter)

    def _by_hand(self, case: Case, outputs: Outputs) -> Settle:
        async def verdict_of(way: Way, argument: str | float | None) -> Verdict:
            match way:
                case "ack":
                    await outputs.confirmed()
                    return Acknowledge()
                case "reject":
                    return self._decide(Rejected(str(argument)))
                case "retry":
                    return self._decide(RetryAsked(seconds(argument), "the handler asked for a retry"))
                case _:
                    assert_never(way)

        async def carry_out(way: Way, argument: str | float | None) -> None:
            await self._settler.settle(case, await verdict_of(way, argument))

        async def settle(way: Way, argument: str | float | None) -> None:
            if case.begun or (case.by_hand is not None and not case.by_hand.done()):
                raise SettlementError("this message was settled already; each is settled once")
            case.by_hand = asyncio.create_task(carry_out(way, argument))
            case.by_hand.add_done_callback(told)
            await asyncio.shield(case.by_hand)

        return settle

    def _settled_by_hand(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Done | GivenBack):
            failure = failure_of(outcome)
            told = f"{failure.error_type}: {failure.error}"
            self._notice(f"after it had settled the message the handler ended with {told}; nothing follows from it")

    def _output(self, outputs: Outputs) -> Output:
        if self._consumer.publish is not None:
            return outputs.add
        return self._unwanted

    async def _unwanted(self, value: object) -> None:
        if not self._warned:
            self._warned = True
            self._notice(
                f"the handler returned a {type(value).__name__}, and the consumer has no `publish`: it goes nowhere"
            )

    def _outputs(self, case: Case) -> Outputs:
        delivery = case.delivery
        # With `ack: none` there is no delivery to go back to: only the end of the run ends the trying.
        at_most_once = self._consumer.ack == "none"
        return Outputs(
            case.message,
            consumer=self._consumer.name,
            publish=self._consumer.publish,
            plain=self._plain,
            publisher=self._publisher,
            clock=self._clock,
            alive=lambda: at_most_once or delivery.alive,
            longest_hold=None if at_most_once else LONGEST_HOLD,
            troubled=lambda reason, pause: self._troubled(case.message, reason, pause),
        )

    def _troubled(self, message: Message, reason: str, pause: float) -> None:
        self._emit(
            SettleTroubled(
                consumer=self._consumer.name, message_id=message.message_id, reason=reason, next_attempt=pause
            )
        )

    def _received(self, message: Message) -> float:
        if self._verbose:
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
        if self._verbose:
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
