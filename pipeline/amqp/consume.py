"""One consumer: a channel, a prefetch, basic.consume, and again when the broker ends it, without a word to the others.
What comes is handed over in the client's callback; what handling means is not known here. Hot: `_on_delivery`."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal, cast

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as ClientChannel
from pamqp.commands import Basic
from pamqp.common import FieldTable

from pipeline.amqp.backoff import Backoff
from pipeline.amqp.convert import to_message
from pipeline.amqp.declare import Difference
from pipeline.amqp.fast.deliveries import Deliveries, FastDelivery
from pipeline.amqp.faults import Refused, answered_within, translate, translated, why_ended
from pipeline.amqp.generation import Generation
from pipeline.amqp.plain.delivery import PlainDelivery
from pipeline.clock import Clock
from pipeline.config.model import Arguments
from pipeline.errors import ChannelGone, ConnectionLost
from pipeline.events import ConsumerInConflict, ConsumerInterrupted, ConsumerStarted, Event
from pipeline.message import Delivery
from pipeline.values import Frozen

State = Literal["starting", "consuming", "paused", "conflict", "interrupted", "cancelled"]

_FIRST_PAUSE = 0.5  # seconds until an interrupted consumer is started again
_FIRST_PAUSE_IN_CONFLICT = 1.0
_LONGEST_PAUSE = 60.0
_HEALTHY = 60.0  # a consumer that lived that long begins with the shortest pause again
_CANCEL_ANSWER = 5.0  # seconds
_CANCELLED = (
    "the broker cancelled it: its queue was deleted, or the queue's node went down, or (from RabbitMQ 4.3 on) a "
    "message stayed unacknowledged for too long and comes again, which a `timeout` prevents"
)


class _Trouble(Frozen, frozen=True, kw_only=True):
    """Why this consumer does not consume. `conflict`: its queue is not as the file says, or not ours to consume."""

    reason: str
    conflict: bool


class Subscription:
    """Lives in one link. `state` tells how it stands."""

    def __init__(
        self,
        *,
        consumer: str,
        tag: str,
        queue: str,
        prefetch: int,
        no_ack: bool,
        exclusive: bool,
        arguments: Arguments,
        receive: Callable[[Sequence[Delivery]], None],
        redeclare: Callable[[Generation], Awaitable[tuple[Difference, ...]]],
        clock: Clock,
        emit: Callable[[Event], None],
    ) -> None:
        self.queue = queue
        self.state: State = "starting"
        self._consumer = consumer
        self._tag = tag
        self._prefetch = prefetch
        self._no_ack = no_ack
        self._exclusive = exclusive
        self._arguments = arguments
        self._receive = receive
        self._redeclare = redeclare
        self._clock = clock
        self._emit = emit
        self._paused = False
        self._cancelled = asyncio.Event()
        self._started = asyncio.Event()
        self._intake: _Intake | None = None
        self._in_conflict = Backoff(initial=_FIRST_PAUSE_IN_CONFLICT, maximum=_LONGEST_PAUSE)
        self._interrupted = Backoff(initial=_FIRST_PAUSE, maximum=_LONGEST_PAUSE)

    async def wait_started(self) -> None:
        """Returns when it consumes for the first time, or is in conflict and reported, or was cancelled."""
        await self._started.wait()

    async def cancel(self) -> None:
        """Stop for good: nothing new is taken from here on, and what still arrives goes back. The channel stays open,
        so that what is in hand can be settled. Returns when the broker has answered, or after some seconds."""
        self._cancelled.set()
        self._enter("cancelled")
        await self._carried_out()

    async def pause(self) -> None:
        """Ask for no more until `resume`; what is on its way is still handed over."""
        self._paused = True
        await self._carried_out()

    async def resume(self) -> None:
        self._paused = False
        await self._carried_out()

    @property
    def tag(self) -> str | None:
        """Under which it is registered, as far as is known here; None while it is not, or is not to be."""
        return None if self.state != "consuming" or self._intake is None else self._intake.tag

    def missing(self) -> str | None:
        """Why it is not registered although nobody has said so; None where all is well, or the trouble is known."""
        if self.state != "consuming" or self._intake is None or self._intake.registered:
            return None
        return "the client knows it no more, and nobody has said why"

    def begin_again(self, reason: str) -> None:
        """Cancel what may be left of it at the broker, and consume anew, on the same channel: what is in hand can still
        be settled. Safe to ask for a consumer that is well; it is never there twice."""
        if self._intake is not None:
            self._intake.doubt(reason)

    async def live(self, generation: Generation) -> None:
        """Consume until the generation ends."""
        self._intake = None
        conflict = generation.conflicts.get(self.queue)
        trouble = None if conflict is None else _Trouble(reason=conflict, conflict=True)
        try:
            while not (self._cancelled.is_set() or generation.ended):
                if trouble is None:
                    trouble = await self._consume(generation)
                else:
                    await self._tell_and_pause(trouble)
                    trouble = await self._declared_again(generation)
        finally:
            if not self._cancelled.is_set():
                self._enter("interrupted")

    # Consuming

    async def _consume(self, generation: Generation) -> _Trouble | None:
        """Until something ends it; None when that is the generation or `cancel`."""
        began = self._clock.now()
        try:
            intake = await self._open_intake(generation)
            trouble = await self._follow(intake)
            return None if trouble is None or await generation.is_over() else trouble
        except Refused as refusal:
            return _Trouble(reason=_why_refused(refusal), conflict=True)
        except (ValueError, TypeError) as error:
            return _Trouble(reason=f"it cannot be asked for: {error}", conflict=True)
        except ConnectionLost as error:
            return None if await generation.is_over() else _Trouble(reason=str(error), conflict=False)
        finally:
            if self._clock.now() - began >= _HEALTHY:
                self._interrupted.reset()

    async def _open_intake(self, generation: Generation) -> "_Intake":
        """The channel there is, since deliveries in hand are settled over it, or a new one."""
        if self._intake is None or self._intake.channel.is_closed:
            channel = cast(ClientChannel, await (await generation.channel()).get_underlay_channel())
            if not self._no_ack:
                async with answered_within(generation.patience, "basic.qos"):
                    await channel.basic_qos(prefetch_count=self._prefetch)
            self._intake = _Intake(channel, patience=generation.patience)
            self._intake.claim = self._taken_over(channel, generation)
        self._intake.trouble = None
        if self._intake.tag is not None:
            await self._intake.cancel_what_is_left()
        return self._intake

    async def _follow(self, intake: "_Intake") -> _Trouble | None:
        """Do what is wished (consume, pause, cancel) until the broker ends it."""
        intake.followed = True
        try:
            while intake.trouble is None:
                intake.changed.clear()
                wanted = not (self._paused or self._cancelled.is_set())
                if wanted and intake.tag is None:
                    await self._start(intake)
                elif not wanted and intake.tag is not None:
                    await intake.cancel()
                elif self._cancelled.is_set():
                    return None
                else:
                    self._enter("consuming" if wanted else "paused")
                    intake.carried_out.set()
                    await intake.changed.wait()  # ends with a wish, with the broker's word, or with the channel
            return intake.trouble
        finally:
            intake.followed = False
            intake.carried_out.set()

    async def _start(self, intake: "_Intake") -> None:
        resumed = self.state == "paused"
        consume = partial(
            intake.channel.basic_consume,
            self.queue,
            self._on_delivery,
            no_ack=self._no_ack,
            exclusive=self._exclusive,
            arguments=cast(FieldTable, dict(self._arguments)) or None,
        )
        await intake.consume(f"{self._tag}-{secrets.token_hex(4)}", consume)
        self._in_conflict.reset()
        if not (resumed or self._cancelled.is_set()):
            self._emit(ConsumerStarted(consumer=self._consumer, queue=self.queue))

    def _taken_over(self, channel: ClientChannel, generation: Generation) -> Deliveries | None:
        """From here on deliveries of this channel do not reach the client, unless the line is the plain one."""
        switch = generation.switch
        if switch is None:
            return None
        receive = self._on_deliveries
        deliveries = Deliveries(channel.number, switch, queue=self.queue, no_ack=self._no_ack, receive=receive)
        return deliveries if switch.claim(channel.number, deliveries) else None

    def _on_deliveries(self, deliveries: Sequence[FastDelivery]) -> None:
        if self._no_ack or not self._cancelled.is_set():
            self._receive(deliveries)
            return
        for delivery in deliveries:
            delivery.give_back()

    async def _on_delivery(self, incoming: DeliveredMessage) -> None:
        """The plain line's: the client calls back."""
        deliver = incoming.delivery
        assert isinstance(deliver, Basic.Deliver)
        tag = None if self._no_ack else deliver.delivery_tag
        delivery = PlainDelivery(to_message(incoming, self.queue), incoming.channel, tag)
        if tag is None or not self._cancelled.is_set():
            self._receive((delivery,))
            return
        with contextlib.suppress(ChannelGone):
            await delivery.nack()

    async def _carried_out(self) -> None:
        intake = self._intake
        if intake is None or not intake.followed:
            return  # whoever opens the next one reads the wish
        intake.carried_out.clear()
        intake.changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_ANSWER):
                await intake.carried_out.wait()

    # Between two tries

    async def _tell_and_pause(self, trouble: _Trouble) -> None:
        self._enter("conflict" if trouble.conflict else "interrupted")
        pause = (self._in_conflict if trouble.conflict else self._interrupted).pause()
        event = ConsumerInConflict if trouble.conflict else ConsumerInterrupted
        self._emit(event(consumer=self._consumer, queue=self.queue, reason=trouble.reason, next_attempt=pause))
        sleeping = asyncio.ensure_future(self._clock.sleep(pause))
        cancelled = asyncio.ensure_future(self._cancelled.wait())
        try:
            await asyncio.wait({sleeping, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            cancelled.cancel()

    async def _declared_again(self, generation: Generation) -> _Trouble | None:
        try:
            differences = await self._redeclare(generation)
        except ConnectionLost as error:
            return None if await generation.is_over() else _Trouble(reason=str(error), conflict=False)
        ours = [each.sentence for each in differences if each.kind == "queue" and each.name == self.queue]
        return _Trouble(reason="; ".join(ours), conflict=True) if ours else None

    def _enter(self, state: State) -> None:
        self.state = "cancelled" if self._cancelled.is_set() else state
        if self.state in ("consuming", "conflict", "cancelled"):
            self._started.set()


class _Intake:
    """One channel of a consumer."""

    def __init__(self, channel: ClientChannel, *, patience: float) -> None:
        self.channel = channel
        self.claim: Deliveries | None = None  # None on the plain line
        self.tag: str | None = None  # of the consumer that is registered now
        self.trouble: _Trouble | None = None
        self.followed = False
        self.changed = asyncio.Event()
        self.carried_out = asyncio.Event()
        self._patience = patience
        channel.closing.add_done_callback(self._on_closed)
        # A queue that is deleted, or whose node goes down, cancels its consumers; the channel stays open, and the
        # client writes a line into its log and consumes no more.
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled)

    async def consume(self, tag: str, basic_consume: Callable[..., Awaitable[object]]) -> None:
        self.tag = tag
        try:
            async with answered_within(self._patience, "basic.consume"):
                await basic_consume(consumer_tag=tag)
        except BaseException as error:
            self.tag = None
            self._give_up_over(error)
            raise

    def _give_up_over(self, error: BaseException) -> None:
        """Without an answer the client closes the channel, and says so to nobody before the broker does. RabbitMQ ends
        the connection over whatever comes for the channel behind that."""
        if self.claim is not None and isinstance(error, ConnectionLost | asyncio.CancelledError):
            self.claim.gone()

    async def cancel(self) -> None:
        """Without a deadline of its own: the client would close the channel when it passes, and what is in hand could
        no longer be settled. Ends with the channel at the latest."""
        tag, self.tag = self.tag, None
        with translated():
            await self.channel.basic_cancel(str(tag))

    @property
    def registered(self) -> bool:
        return self.tag in self.channel.consumers and not self.channel.is_closed

    def doubt(self, reason: str) -> None:
        """End it as the broker would, but keep the tag: it may be there."""
        if self.followed:
            self._end(reason)

    async def cancel_what_is_left(self) -> None:
        """RabbitMQ answers also for a tag that it does not know. Without an answer the channel is given up."""
        tag, self.tag = self.tag, None
        try:
            async with answered_within(self._patience, "basic.cancel"):
                await self.channel.basic_cancel(str(tag))
        except BaseException as error:
            self._give_up_over(error)
            raise

    def _on_cancelled(self, frame: Basic.Cancel) -> None:
        # The tag stays, to be cancelled before anything is consumed anew. RabbitMQ 4.3 also says so to a consumer that
        # held a message for too long, and keeps it: it counts, and gets messages as soon as it settles one.
        if frame.consumer_tag == self.tag:
            self._end(_CANCELLED)

    def _on_closed(self, closing: "asyncio.Future[object]") -> None:
        error = None if closing.cancelled() else closing.exception()
        self.tag = None
        refusal = translate(error) if isinstance(error, Exception) else None
        self._end(_why_refused(refusal) if isinstance(refusal, Refused) else why_ended(error))

    def _end(self, reason: str) -> None:
        if self.trouble is None:
            self.trouble = _Trouble(reason=reason, conflict=False)
        self.changed.set()


def _why_refused(refusal: Refused) -> str:
    if "delivery acknowledgement" in refusal.text and "timed out" in refusal.text:
        return (
            "a message stayed unacknowledged for longer than the broker allows (its consumer timeout), and comes "
            f"again: write a `timeout` for the consumer that is shorter than that ({refusal.text})"
        )
    return refusal.text
