"""Carry a verdict out: the only code that acknowledges. Publish, wait for the confirm, then ack: a message can come
twice, it cannot get lost. Why it was decided is not known here. Hot: `Case`, and `settle` for what succeeded."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import assert_never

from pipeline.amqp.publish import Kept, Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.config.model import wait_queue
from pipeline.errors import ChannelGone, ConnectionLost, PublishRefused, SettlementError, Unroutable, Unwritable
from pipeline.events import Event, MessageFailed, MessageRetried, RedeliveryExpected, SettleTroubled
from pipeline.failpoints import ARMED, reach
from pipeline.failure.headers import dead_letter_copy, wait_copy, without_user_headers
from pipeline.failure.verdict import (
    ACKNOWLEDGE,
    Acknowledge,
    DeadLetter,
    Drop,
    Failure,
    GiveBack,
    HandleAgain,
    Verdict,
    final,
)
from pipeline.ledger import ConsumerLedger
from pipeline.message import Delivery, Message
from pipeline.runtime.confirm import GaveUp, until_confirmed
from pipeline.runtime.plan import ConsumerPlan
from pipeline.values import Light

_GIVEN_UP = Failure(reason="given_up", error_type="Stopped", error="it was not handled to its end")

# Half of RabbitMQ's default consumer timeout (30 min): longer than that a delivery is not held for a copy that cannot
# be confirmed, since the broker would close the channel over it, with every other delivery on it.
LONGEST_HOLD = 900.0
_REFUSED_PAUSE = 5.0
SETTLED_ALREADY = "this message was settled already; each is settled once"


class Case(Light):
    """One delivery between its arrival and its end. `begun` is the gate: who comes second has come too late."""

    delivery: Delivery
    begun: bool = False
    over: bool = False
    by_hand: asyncio.Task[None] | None = None  # what `message.ack()` and its like have begun

    @property
    def message(self) -> Message:
        return self.delivery.message


class Settler:
    """Settles the deliveries of one consumer, each exactly once, and counts each exactly once."""

    def __init__(
        self,
        *,
        plan: ConsumerPlan,
        publisher: Publisher,
        ledger: ConsumerLedger,
        clock: Clock,
        emit: Callable[[Event], None],
        declare_again: Callable[[], Awaitable[None]],
        username: str,
        run_id: str,
        mask: Callable[[str], str],
        remember: Callable[[Case], Awaitable[None]] | None = None,
    ) -> None:
        """`remember` is awaited before each ack of a success: for a consumer with `idempotency`."""
        self._plan = plan
        self._acknowledged = plan.consumer.ack != "none"
        self._remember = remember
        self._plainly = self._acknowledged and remember is None
        self._publisher = publisher
        self._ledger = ledger
        self._clock = clock
        self._emit = emit
        self._declare_again = declare_again
        self._username = username
        self._run_id = run_id
        self._mask = mask

    async def settle(self, case: Case, verdict: Verdict) -> None:
        """Raises `SettlementError` when the delivery was settled before. A channel that has ended is no error: the
        delivery is counted as one that the broker delivers again."""
        if case.begun:
            raise SettlementError(SETTLED_ALREADY)
        case.begun = True
        try:
            if verdict is ACKNOWLEDGE and self._plainly:  # nearly always, and so without a coroutine between
                ARMED and reach("settle.before_ack")
                await case.delivery.ack()
                ARMED and reach("settle.after_ack")
                self._ledger.done()
            else:
                await self._carry_out(case, verdict)
        except ChannelGone:
            self._ledger.redelivery_expected()
            self._emit(RedeliveryExpected(consumer=self._plan.consumer.name, message_id=case.message.message_id))
        case.over = True

    async def abandon(self, case: Case) -> None:
        """Give back what is not settled yet, whatever it was about to become: time is up. Raises nothing."""
        if case.over:
            return
        case.begun = case.over = True
        if self._plan.consumer.ack == "none":
            self._ledger.dropped()
            self._tell(case.message, _GIVEN_UP, "it is DROPPED", dropped=True)
            return
        try:
            ARMED and reach("settle.before_abandon")
            await case.delivery.nack()
            ARMED and reach("settle.after_abandon")
            self._ledger.returned()
        except (ChannelGone, SettlementError):  # the second: an ack was on its way when time was up
            self._ledger.redelivery_expected()
        except asyncio.CancelledError:
            self._ledger.redelivery_expected()  # whether the broker has heard of it is not known
            raise

    async def _carry_out(self, case: Case, verdict: Verdict) -> None:
        delivery = case.delivery
        acknowledged = self._acknowledged
        match verdict:
            case Acknowledge():
                if self._remember is not None:
                    ARMED and reach("settle.before_remembered")
                    await self._remember(case)
                if acknowledged:
                    ARMED and reach("settle.after_remembered")
                    await delivery.ack()
                self._ledger.done()
            case HandleAgain(failure, after):
                await self._wait(case, failure, after)
            case DeadLetter(failure):
                await self._dead_letter(case, failure)
            case Drop(failure):
                if acknowledged:
                    ARMED and reach("settle.before_drop")
                    await delivery.ack()
                self._ledger.dropped()
                self._tell(case.message, failure, "it is DROPPED", dropped=True)
            case GiveBack():
                if acknowledged:
                    ARMED and reach("settle.before_give_back")
                    await delivery.nack()
                    ARMED and reach("settle.after_give_back")
                    self._ledger.returned()
                else:
                    self._ledger.dropped()
                    self._tell(case.message, _GIVEN_UP, "it is DROPPED", dropped=True)
            case _:
                assert_never(verdict)

    async def _wait(self, case: Case, failure: Failure, after: float) -> None:
        """On the broker, in a queue for this delay or, with `strategy: native`, in its own."""
        retry = self._plan.consumer.retry
        if retry is not None and retry.strategy == "native":
            ARMED and reach("settle.before_native_retry")
            await case.delivery.reject(requeue=True)  # as a failure: the broker counts it, and waits the longer
        else:
            copy = self._copy(wait_copy, case, failure)
            try:
                safe = await self._confirmed(case, _to(wait_queue(self._plan.queue.name, after), copy))
            except Unwritable as error:
                # Without its own headers it would be another message; and what cannot be written will not be next time.
                self._trouble(case.message, f"{error}; it cannot be handled again", 0.0)
                await self._carry_out(case, self._final(failure))
                return
            if not safe:
                await self._give_back_failed(case)
                return
            ARMED and reach("settle.after_wait_confirm")
            await case.delivery.ack()
            ARMED and reach("settle.after_wait_ack")
        self._ledger.retried()
        self.tell_again(case.message, failure, after)

    def _final(self, failure: Failure) -> Verdict:
        return final(failure, ack=self._plan.consumer.ack, dead_letter=self._plan.dead_letter is not None)

    async def _dead_letter(self, case: Case, failure: Failure) -> None:
        target = self._plan.dead_letter
        assert target is not None, "decide() dead-letters only where there is a dead-letter queue"
        copy = self._copy(dead_letter_copy, case, failure)
        try:
            safe = await self._confirmed(case, _to(target, copy))
        except Unwritable as error:
            self._trouble(case.message, f"{error}; its own headers are left out of the copy", 0.0)
            safe = await self._confirmed(case, _to(target, without_user_headers(copy)), stripped=True)
        if safe:
            ARMED and reach("settle.after_confirm")
            await case.delivery.ack()
            ARMED and reach("settle.after_copy_ack")
            self._ledger.dead_lettered()
            self._tell(case.message, failure, f'it is copied to dead-letter queue "{target}"', dropped=False)
        else:
            await self._give_back_failed(case)

    def _copy(self, make: Callable[..., Message], case: Case, failure: Failure) -> Message:
        copy = make(
            case.message,
            failure,
            consumer=self._plan.consumer.name,
            run_id=self._run_id,
            milliseconds=round(self._clock.time() * 1000),
            username=self._username,
            mask=self._mask,
        )
        # Returns are matched by message id, and repeats can only be recognised by one.
        copy.message_id = copy.message_id or uuid.uuid4().hex
        return copy

    async def _give_back_failed(self, case: Case) -> None:
        ARMED and reach("settle.before_reject")
        await case.delivery.reject(requeue=True)
        self._ledger.returned()

    async def _confirmed(self, case: Case, outgoing: Outgoing, *, stripped: bool = False) -> bool:
        """Whether the copy is safe. False: it cannot be made safe and its time is up. Raises `ChannelGone`, and
        `Unwritable` unless it is `stripped` of all that may be left out."""
        started = self._clock.now()

        def worth_it() -> bool:
            return case.delivery.alive and self._clock.now() - started < LONGEST_HOLD

        declared_again = False
        while worth_it():
            try:
                ARMED and reach("settle.before_copy")
                await until_confirmed(
                    self._publisher,
                    outgoing,
                    clock=self._clock,
                    worth_it=worth_it,
                    troubled=lambda reason, pause: self._trouble(case.message, reason, pause),
                )
                return True
            except GaveUp:
                break
            except Unroutable as error:
                reason = str(error)
                if not declared_again:  # somebody deleted the dead-letter queue, or the wait queue
                    with suppress(ConnectionLost):
                        ARMED and reach("settle.before_declare_again")
                        await self._declare_again()
                        ARMED and reach("settle.after_declare_again")
                        declared_again = True
                        continue
            except PublishRefused as error:
                if isinstance(error, Unwritable) and not stripped:
                    raise
                reason = str(error)
            self._trouble(case.message, reason, _REFUSED_PAUSE)
            ARMED and reach("settle.before_next_try")
            await self._clock.sleep(_REFUSED_PAUSE)
        if not case.delivery.alive:
            raise ChannelGone("the channel ended while a copy waited for its confirm")
        return False

    def tell_again(self, message: Message, failure: Failure, after: float) -> None:
        """That an attempt has failed which is not the last."""
        retry = self._plan.consumer.retry
        body = message.body
        self._emit(
            MessageRetried(
                consumer=self._plan.consumer.name,
                message_id=message.message_id,
                error=self._mask(f"{failure.error_type}: {failure.error}"),
                attempt=message.attempt,
                attempts=retry.attempts if retry is not None else message.attempt,
                after=after,
                frames=failure.frames,
                body=body if isinstance(body, bytes) else b"",
            )
        )

    def _trouble(self, message: Message, reason: str, pause: float) -> None:
        self._emit(
            SettleTroubled(
                consumer=self._plan.consumer.name,
                message_id=message.message_id,
                reason=self._mask(reason),
                next_attempt=pause,
            )
        )

    def _tell(self, message: Message, failure: Failure, fate: str, *, dropped: bool) -> None:
        body = message.body
        self._emit(
            MessageFailed(
                consumer=self._plan.consumer.name,
                message_id=message.message_id,
                reason=failure.reason,
                error=self._mask(f"{failure.error_type}: {failure.error}"),
                fate=fate,
                dropped=dropped,
                frames=failure.frames,
                body=body if isinstance(body, bytes) else b"",
            )
        )


def _to(queue: str, copy: Message) -> Outgoing:
    return Kept.of(copy, exchange="", routing_key=queue, mandatory=True)
