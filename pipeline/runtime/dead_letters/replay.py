"""Send dead letters back: publish, wait for the confirm, then acknowledge the dead letter. Interrupted at any point a
message may be in both queues; it is always in one. What is said of it to a person is not known here."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pipeline.amqp.hand import Hand, Taken, hand
from pipeline.amqp.inspect import depth
from pipeline.amqp.link import Generation
from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.errors import BrokerError, ChannelGone, ConnectionLost, Nacked, NotConnected, PublishRefused, Unroutable
from pipeline.events import Event
from pipeline.failure.replayed import replayed
from pipeline.failure.story import story
from pipeline.failure.wanted import Wanted
from pipeline.runtime.dead_letters.line import connected
from pipeline.runtime.dead_letters.look import MOST_HELD
from pipeline.runtime.dead_letters.targets import Targets
from pipeline.runtime.stop import Stop
from pipeline.values import Frozen

_MOST_IN_FLIGHT = 100
_A_MOMENT = 1.0  # seconds, for those who wait for a connection to hear that it has ended
_ON_ITS_WAY = 30.0  # seconds that a message may wait until the broker takes it, during an alarm for instance
_LONGEST_SILENCE = 60.0  # seconds without any confirm; during an alarm none comes for what was sent as it began
# Half of RabbitMQ's default consumer timeout (30 min), after which the broker would close the channel: with a slow rate
# what is held for the end would be held too long.
_LONGEST_HOLD = 900.0


class Order(Frozen, frozen=True, kw_only=True):
    """What is to be sent back. `rate` in messages a second; `force`: also where nobody consumes."""

    queue: str
    wanted: Wanted
    to: str | None
    limit: int | None
    rate: float | None
    dry_run: bool
    force: bool


@dataclass(kw_only=True)
class Report:
    """How far it came. Every message that was looked at is counted once: as sent, as passed over, as refused (it
    stays), or as uncertain (unconfirmed, it is in its dead-letter queue and may be in the other one, too)."""

    ceiling: int = 0  # how many there were at the start: never more are looked at
    sent: Counter[str] = field(default_factory=Counter)  # by target
    passed_over: int = 0  # not wanted
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    uncertain: int = 0
    twice: int = 0  # of those sent: the broker did not hear of the acknowledgement
    stopped: str = ""  # why it ended before its end

    @property
    def looked_at(self) -> int:
        return self.sent.total() + self.passed_over + self.refused.total() + self.uncertain

    @property
    def failed(self) -> bool:
        return bool(self.stopped or self.refused or self.uncertain or self.twice)


async def replay(
    pipeline: Pipeline,
    order: Order,
    *,
    clock: Clock,
    stop: Stop,
    progress: Callable[[Report], None],
    emit: Callable[[Event], None],
) -> Report | None:
    """None: there is no such queue. `progress` is called for each message, `emit` when the broker blocks us. Raises
    `BrokerError` when it could not even begin; a failure on the way is in the report."""
    report = Report()
    try:
        # Two connections, for an alarm of the broker stops all that comes from one that publishes, acks included.
        async with connected(pipeline, "dlq", clock) as generation:
            there = (await depth(generation, [order.queue]))[order.queue]
            if there is None:
                return None
            report.ceiling = there.ready
            async with connected(pipeline, "dlq replay", clock) as publishing, hand(generation, order.queue) as taking:
                targets = Targets(generation, source=order.queue, named=order.to, forced=order.force)
                await _Replay(order, report, taking, publishing, targets, clock, stop, progress, emit).run()
    except BrokerError as error:
        if not report.looked_at:
            raise
        report.stopped = report.stopped or str(error)
    return report


class _Replay:
    def __init__(
        self,
        order: Order,
        report: Report,
        taking: Hand,
        publishing: Generation,
        targets: Targets,
        clock: Clock,
        stop: Stop,
        progress: Callable[[Report], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._order = order
        self._report = report
        self._taking = taking
        self._publishing = publishing
        self._publisher = Publisher(clock=clock, emit=emit, window=_MOST_IN_FLIGHT)
        self._targets = targets
        self._clock = clock
        self._stop = stop
        self._progress = progress
        self._taken = 0
        self._begun = 0
        self._moving: set[asyncio.Task[None]] = set()
        self._enough = asyncio.Event()  # somebody interrupts, or the publishing connection has ended
        self._held_since: float | None = None
        self._next = 0.0  # when the rate allows another one

    async def run(self) -> None:
        """Returns when each message that was taken has its end, or time is up after an interruption."""
        around = [asyncio.create_task(step) for step in (self._publisher.live(self._publishing), self._watch())]
        try:
            while not self._over() and await self._room():
                taken = await self._taking.take()
                if taken is None:
                    break
                self._taken += 1
                await self._one(taken)
                self._progress(self._report)
        except ConnectionLost as error:
            self._halt(_lost(error))
        finally:
            await self._until_answered()
            for task in around:
                task.cancel()
            await asyncio.wait(around)

    async def _watch(self) -> None:
        lost = asyncio.ensure_future(self._publishing.wait_ended())
        told = asyncio.ensure_future(self._stop.event.wait())
        try:
            await asyncio.wait({lost, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            told.cancel()
        self._halt("interrupted" if self._stop.requested else _lost(self._publishing.reason))
        self._enough.set()

    def _over(self) -> bool:
        report, order = self._report, self._order
        # What stands still in our hand only because its confirm is on its way is not held.
        held = self._taking.held - len(self._moving)
        if held >= MOST_HELD:
            self._halt(
                f"{held:,} messages that stay are held by now, and no more are; what is behind them was not seen"
            )
        elif self._held_since is not None and self._clock.now() - self._held_since > _LONGEST_HOLD:
            self._halt(f"messages that stay were held for {_LONGEST_HOLD / 60:g} minutes; run it again")
        full = order.limit is not None and self._begun >= order.limit
        return bool(report.stopped) or full or self._taken >= report.ceiling

    async def _one(self, taken: Taken) -> None:
        message, report = taken.message, self._report
        tale = story(message.headers)
        if not self._order.wanted.matches(message, tale):
            report.passed_over += 1
            self._hold()
            return
        target, why_not = await self._targets.of(tale)
        if why_not is not None:
            report.refused[why_not] += 1
            self._hold()
            return
        self._begun += 1
        if self._order.dry_run:
            report.sent[target] += 1
            self._hold()
            return
        if not await self._in_time():
            return  # interrupted: it goes back with the others
        copy = replayed(message, tale, username=self._publishing.address.username)
        outgoing = Outgoing.of(copy, exchange="", routing_key=target, mandatory=True)
        task = asyncio.create_task(self._move(taken, outgoing))
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    async def _move(self, taken: Taken, outgoing: Outgoing) -> None:
        report = self._report
        try:
            await self._publisher.send(outgoing, timeout=_ON_ITS_WAY)
        except (Unroutable, PublishRefused) as error:  # this message's own trouble; the others may fare better
            report.refused[str(error)] += 1
            self._hold()
        except Nacked as error:
            report.refused[str(error)] += 1
            self._halt(str(error))
        except NotConnected as error:
            report.refused[str(error)] += 1
            # That its channel had just been closed may be the first that is heard of a connection's end.
            self._halt(_lost(self._publishing.reason) if await self._publishing.is_over() else str(error))
        except (ConnectionLost, asyncio.CancelledError) as error:
            report.uncertain += 1
            self._halt(_lost(error))
        else:
            report.sent[outgoing.routing_key] += 1
            try:
                await taken.ack()
            except (ChannelGone, asyncio.CancelledError) as error:
                report.twice += 1
                self._halt(_lost(error))
        self._progress(report)

    def _hold(self) -> None:
        if self._held_since is None:
            self._held_since = self._clock.now()

    def _halt(self, why: str) -> None:
        self._report.stopped = self._report.stopped or why

    # Waiting

    async def _room(self) -> bool:
        """Whether another message may be on its way. False: it is enough."""
        while len(self._moving) >= _MOST_IN_FLIGHT and not self._enough.is_set():
            await self._one_answered()
        return not self._enough.is_set()

    async def _in_time(self) -> bool:
        """Returns when the rate allows another message. False: it is enough."""
        if self._order.rate is not None:
            pause = self._next - self._clock.now()
            if pause > 0:
                await self._unless_enough(self._clock.sleep(pause))
            self._next = max(self._next, self._clock.now()) + 1 / self._order.rate
        return not self._enough.is_set()

    async def _one_answered(self) -> None:
        try:
            async with self._clock.deadline(_LONGEST_SILENCE):
                await self._unless_enough(asyncio.wait(self._moving, return_when=asyncio.FIRST_COMPLETED))
        except TimeoutError:
            self._halt(f"no confirm came within {_LONGEST_SILENCE:g} s")
            self._enough.set()

    async def _unless_enough(self, step: Awaitable[object]) -> None:
        doing = asyncio.ensure_future(step)
        enough = asyncio.ensure_future(self._enough.wait())
        try:
            await asyncio.wait({doing, enough}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            enough.cancel()
            doing.cancel()

    async def _until_answered(self) -> None:
        """Every message on its way has its confirm. Once it is enough, only for as long as `Stop` allows, or for a
        moment where the connection has ended; what is still unconfirmed then may be in both queues."""
        while self._moving and not self._enough.is_set():
            await self._one_answered()
        if self._moving:
            seconds = _A_MOMENT if self._publishing.ended else self._stop.remaining  # 0 unless somebody interrupted
            with contextlib.suppress(TimeoutError):
                async with self._clock.deadline(seconds):
                    await asyncio.wait(self._moving)
        if left := set(self._moving):
            for task in left:
                task.cancel()
            await asyncio.wait(left)


def _lost(why: object) -> str:
    """An acknowledgement in the socket may not have arrived, and nobody knows which."""
    return f"lost the connection ({why or 'no answer in time'}): the last of them may be in both queues"
