"""Stand-ins for what cannot be provoked over a real line: a publisher whose answers are written down beforehand, a
delivery whose channel ends when the test says so. Both write into one journal, so that the order of things shows."""

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import FakeClock
from pipeline.config.model import Consumer
from pipeline.errors import ChannelGone, SettlementError
from pipeline.events import Event
from pipeline.failure.verdict import Policy
from pipeline.ledger import WIDTH, ConsumerLedger, ProducerLedger
from pipeline.message import Message
from pipeline.runtime.plan import ConsumerPlan, plan
from tests.models import a_consumer, a_pipeline, a_queue

T = TypeVar("T")
Journal = list[str]

CONFIRMED = None
NEVER = "never"
Answer = BaseException | str | None


class ScriptedPublisher(Publisher):
    """Answers each message as the script says, `confirmed` when it is at its end. `NEVER`: only a cancellation ends
    the wait."""

    def __init__(self, answers: Iterable[Answer] = (), *, journal: Journal | None = None) -> None:
        super().__init__(clock=FakeClock(), emit=lambda _: None)
        self.answers = list(answers)
        self.sent: list[Outgoing] = []
        self.at_once = False  # whether `begin` takes messages
        self.doubted: list[Outgoing] = []
        self.gate: asyncio.Event | None = None  # closed: nothing is answered until it is set
        self.journal = [] if journal is None else journal

    def begin(self, outgoing: Outgoing) -> asyncio.Future[None] | None:
        if not self.at_once:
            return None
        return asyncio.ensure_future(self.send(outgoing, timeout=1.0))

    async def send(self, outgoing: Outgoing, *, timeout: float | None) -> None:
        assert timeout is not None and timeout < 60, "nobody waits for a connection without an end"
        self.sent.append(outgoing)
        where = outgoing.exchange or outgoing.routing_key
        self.journal.append(f"publish to {where}")
        answer = self.answers.pop(0) if self.answers else CONFIRMED
        if self.gate is not None:
            await self.gate.wait()
        if answer == NEVER:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if isinstance(answer, BaseException):
            raise answer
        self.journal.append(f"confirmed by {where}")

    def doubt(self, outgoing: Outgoing) -> None:
        self.doubted.append(outgoing)

    @property
    def ids(self) -> list[str | None]:
        return [each.message.message_id for each in self.sent]


class HandDelivery:
    """A `pipeline.message.Delivery`, strict about being settled once."""

    def __init__(self, message: Message | None = None, *, journal: Journal | None = None) -> None:
        self._message = message or Message(
            b"hello", message_id="m-1", queue="billing", exchange="", routing_key="billing"
        )
        self.journal = [] if journal is None else journal
        self.settled: list[str] = []
        self.alive = True

    @property
    def message(self) -> Message:
        return self._message

    async def ack(self) -> None:
        await self._settle("ack")

    async def nack(self) -> None:
        await self._settle("nack")

    async def reject(self, *, requeue: bool) -> None:
        await self._settle(f"reject(requeue={requeue})")

    async def _settle(self, way: str) -> None:
        if self.settled:
            raise SettlementError("settled already")
        if not self.alive:
            raise ChannelGone("its channel has ended")
        self.settled.append(way)
        self.journal.append(way)
        await asyncio.sleep(0)  # as the socket would


class Recorder:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


def a_consumer_ledger() -> ConsumerLedger:
    return ConsumerLedger([0] * WIDTH)


def a_producer_ledger() -> ProducerLedger:
    return ProducerLedger([0] * WIDTH)


def counts(ledger: ConsumerLedger | ProducerLedger) -> dict[str, int]:
    """The numbers that are not zero."""
    return {term: number for term, number in ledger.numbers().items() if number}


def a_plan(*, dead_letter: Any = None, **consumer: Any) -> ConsumerPlan:
    """The plan of one consumer of queue "billing"."""
    queue = a_queue("billing", dead_letter=dead_letter)
    (planned,) = plan(a_pipeline(queues=(queue,), consumers=(a_consumer(**consumer),))).consumers
    return planned


def a_policy(consumer: Consumer) -> Policy | None:
    """What `runtime.prepare` makes of a consumer's `retry`, with exceptions of Python's own."""
    retry = consumer.retry
    if retry is None:
        return None
    return Policy(
        delays=retry.delays,
        strategy=retry.strategy,
        only=tuple(getattr(builtins, name) for name in retry.only),
        excluded=tuple(getattr(builtins, name) for name in retry.excluded),
    )


async def some_turns(count: int = 20) -> None:
    """Enough turns of the loop for everything that could happen now."""
    for _ in range(count):
        await asyncio.sleep(0)


async def in_time(clock: FakeClock, step: Awaitable[T], *, stride: float = 1.0, most: int = 3_000) -> T:
    """What a step comes to, with time moved on whenever somebody waits for it."""
    task = asyncio.ensure_future(step)
    for _ in range(most):
        await some_turns()
        if task.done():
            return await task
        clock.advance(stride)
    task.cancel()
    raise AssertionError(f"it did not end within {most * stride:g} seconds of its own time")


def nobody() -> Callable[[], Awaitable[None]]:
    """For `declare_again`, where nobody is expected to ask."""

    async def declare_again() -> None:
        raise AssertionError("nothing has to be declared again")

    return declare_again
