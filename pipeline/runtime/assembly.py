"""The parts of one file, made and wired: links, publisher, consumers, producers. In which order they are opened and
stopped stands in `run.py`; what each part does, in its own file."""

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from pipeline.amqp.consume import Subscription
from pipeline.amqp.declare import Difference, compare, declare
from pipeline.amqp.link import Generation, Link
from pipeline.amqp.publish import Publisher
from pipeline.amqp.self_check import Line
from pipeline.clock import Clock
from pipeline.config import model
from pipeline.config.model import Broker, Producer, Topology
from pipeline.errors import BrokerError, TopologyDiffers
from pipeline.events import Event, TopologyConflict
from pipeline.handlers import context
from pipeline.handlers.call import Handler, handler
from pipeline.handlers.context import Context
from pipeline.handlers.limit import TimeLimit
from pipeline.handlers.signature import CallPlan
from pipeline.handlers.stream import StreamHandler
from pipeline.handlers.threads import Threads
from pipeline.ledger import ConsumerLedger, ProducerLedger
from pipeline.runtime.alone import Alone
from pipeline.runtime.claims import Claims, store_of
from pipeline.runtime.consume import ConsumerRun
from pipeline.runtime.idle import waiting
from pipeline.runtime.once import Once
from pipeline.runtime.plan import ConsumerPlan, LinkName
from pipeline.runtime.prepare import Prepared
from pipeline.runtime.process import Processor
from pipeline.runtime.produce import ProducerRun
from pipeline.runtime.settle import Settler
from pipeline.runtime.turn import Turn
from pipeline.runtime.watched import WatchedRun
from pipeline.sources import Source, open_source
from pipeline.values import Frozen, replace


class Surroundings(Frozen, frozen=True, kw_only=True):
    """What every part of a process shares."""

    clock: Clock
    emit: Callable[[Event], None]
    mask: Callable[[str], str]
    stopping: asyncio.Event
    run_id: str
    verbose: bool
    sources: bool  # whether this process runs the sources
    first_start: bool  # whether a difference to the broker ends the run; later it is a conflict of its consumer
    alone: Alone | None  # with workers: for messages that were in hand when one of them died
    checkpoints: Path | None  # of this run, with workers: for files that keep no checkpoint from one run to the next


class Assembly:
    """One file of the run."""

    def __init__(
        self,
        prepared: Prepared,
        broker: Broker,
        consumers: list[ConsumerLedger],
        producers: list[ProducerLedger],
        around: Surroundings,
        line: Line,
    ) -> None:
        self.prepared = prepared
        self.plan = prepared.plan
        self._broker = broker
        self._around = around
        self._line = line
        self._first_start = around.first_start
        self._turn = Turn(around.clock)
        self._surroundings: dict[str, context.Surroundings] = {}
        self._keys: list[Claims] = []
        self.streams: list[StreamHandler] = []
        self.publisher = Publisher(clock=around.clock, emit=around.emit, longest=broker.max_message_size)
        self.consumers = [self._consumer(*each) for each in zip(self.plan.consumers, consumers, strict=True)]
        self.producers = [
            self._producer(producer, ledger)
            for producer, ledger in zip(self.plan.producers, producers, strict=True)
            if around.sources and not ledger.finished
        ]
        self.links = {name: self._link(name, topology) for name, topology in self.plan.topologies.items()}

    async def open(self, *, wait: bool) -> None:
        """Connect and declare. Raises `BrokerError`, and `TopologyDiffers` with all differences at the first start;
        `StoreError` when keys cannot be kept."""
        for link in self.links.values():
            await link.open(wait=wait)
        self._first_start = False
        for claims in self._keys:
            await claims.open()

    async def close_keys(self) -> None:
        """Comes after the last message."""
        for claims in self._keys:
            await claims.close()

    async def waiting(self) -> int | None:
        """How many messages are ready in the queues that this file consumes; None when the broker cannot be asked."""
        return await waiting(self.plan, lambda each: self.links[each.link])

    def _link(self, name: LinkName, topology: Topology) -> Link:
        subscriptions = [run.subscription for run in self.consumers if run.plan.link == name]
        return Link(
            broker=self._broker,
            name=f"piperun {self.plan.pipeline.name} {name} {platform.node()}:{os.getpid()}",
            purpose=name,
            clock=self._around.clock,
            emit=self._around.emit,
            declare=lambda generation: self._declare(generation, topology),
            parts=[self.publisher] if name == "publish" else [each for each in subscriptions if each is not None],
            plain=self._line == "plain",
        )

    async def _declare(self, generation: Generation, topology: Topology) -> None:
        if self._first_start:
            await declare_first(generation, topology)
            return
        differences = await declare(generation, topology)
        for difference in differences:
            subject = f"{difference.kind}.{difference.name}"
            self._around.emit(TopologyConflict(subject=subject, sentence=difference.sentence))

    def _consumer(self, plan: ConsumerPlan, ledger: ConsumerLedger) -> ConsumerRun:
        around = self._around
        call_plan = self.prepared.handlers[plan.consumer.name]
        claims = self._claims(plan)
        settler = Settler(
            plan=plan,
            publisher=self.publisher,
            ledger=ledger,
            clock=around.clock,
            emit=around.emit,
            declare_again=self._declare_again(plan),
            username=self._broker.addresses[0].username,
            run_id=around.run_id,
            mask=around.mask,
            remember=None if claims is None else claims.done,
        )
        processor = Processor(
            plan=plan,
            publisher=self.publisher,
            settler=settler,
            clock=around.clock,
            emit=around.emit,
            limit=TimeLimit(plan.consumer.timeout, clock=around.clock, logger=_logger(plan)),
            context=self._context(plan),
            asks_context=call_plan.asks_context,
            verbose=around.verbose,
            longest=self._broker.max_message_size,
            policy=self.prepared.policies.get(plan.consumer.name),
        )
        threads = Threads(plan.consumer.name, plan.consumer.concurrency)
        run = self._run(plan)(
            plan=plan,
            processor=processor if claims is None else Once(claims, processor, settler, ledger),
            settler=settler,
            handlers=self._handlers(plan, call_plan, threads),
            threads=threads,
            in_threads=call_plan.kind in ("thread", "generator"),
            ledger=ledger,
            turn=self._turn,
            clock=around.clock,
            emit=around.emit,
        )
        run.subscription = self._subscription(plan, run)
        return run

    def _claims(self, plan: ConsumerPlan) -> Claims | None:
        settings, name, around = plan.consumer.idempotency, plan.consumer.name, self._around
        if settings is None:
            return None
        store = store_of(
            settings,
            pipeline=self.plan.pipeline.name,
            consumer=name,
            folder=None if around.checkpoints is None else self._in_folder_of_run(around.checkpoints),
            clock=around.clock,
            emit=around.emit,
        )
        claims = Claims(
            store,
            header=settings.header,
            consumer=name,
            clock=around.clock,
            emit=around.emit,
            stopping=around.stopping,
        )
        self._keys.append(claims)
        return claims

    def _run(self, plan: ConsumerPlan) -> Callable[..., ConsumerRun]:
        alone = self._around.alone
        if alone is None:
            return ConsumerRun
        return partial(WatchedRun, alone=alone, hands=alone.row.hands(plan))

    def _subscription(self, plan: ConsumerPlan, run: ConsumerRun) -> Subscription:
        consumer = plan.consumer
        return Subscription(
            consumer=consumer.name,
            tag=f"{self.plan.pipeline.name}.{consumer.name}",
            queue=consumer.queue,
            prefetch=consumer.prefetch,
            no_ack=consumer.ack == "none",
            exclusive=consumer.exclusive,
            arguments=consumer.arguments,
            receive=run.receive,
            redeclare=self._redeclare(plan),
            clock=self._around.clock,
            emit=self._around.emit,
        )

    def _redeclare(self, plan: ConsumerPlan) -> Callable[[Generation], Awaitable[tuple[Difference, ...]]]:
        topology = self.plan.topology_of(plan.queue)
        return lambda generation: declare(generation, topology)

    def _declare_again(self, plan: ConsumerPlan) -> Callable[[], Awaitable[None]]:
        """For a dead-letter queue or a wait queue that somebody deleted."""
        names = {plan.dead_letter, *plan.wait_queues}
        queues = tuple(each for each in self.plan.topologies["publish"].queues if each.name in names)

        async def again() -> None:
            generation = self.links["publish"].generation
            if generation is not None:
                await declare(generation, Topology(exchanges=(), queues=queues))

        return again

    def _handlers(self, plan: ConsumerPlan, call_plan: CallPlan, threads: Threads) -> list[Handler]:
        """One per slot. Only a loop over messages is somebody of its own; other handlers are called side by side."""
        concurrency = plan.consumer.concurrency
        if call_plan.is_stream:
            streams = [StreamHandler(call_plan, clock=self._around.clock) for _ in range(concurrency)]
            self.streams += streams
            return list(streams)
        return [handler(call_plan, threads=threads, clock=self._around.clock)] * concurrency

    def _context(self, plan: ConsumerPlan) -> Callable[[context.Publish], Context]:
        name = plan.consumer.name
        return lambda publish: Context(self._surroundings[name], publish)

    def give_state(self, states: Mapping[str, object]) -> None:
        """What lifespans have made, by consumer. Comes before the first message."""
        for plan in self.plan.consumers:
            name = plan.consumer.name
            self._surroundings[name] = context.Surroundings(
                consumer=name,
                logger=_logger(plan),
                stopping=self._around.stopping,
                state=states.get(name),
                loop=asyncio.get_running_loop(),
            )

    def _producer(self, producer: Producer, ledger: ProducerLedger) -> ProducerRun:
        around = self._around
        return ProducerRun(
            producer=producer,
            source=self._source(producer, ledger),
            publisher=self.publisher,
            ledger=ledger,
            clock=around.clock,
            emit=around.emit,
            mask=around.mask,
        )

    def _source(self, producer: Producer, ledger: ProducerLedger) -> Source:
        return open_source(
            self._going_on(producer, ledger.numbers()["confirmed"]),
            producer=producer.name,
            clock=self._around.clock,
            keep_checkpoint=self._around.checkpoints is not None or not self.plan.pipeline.broker.embedded,
            find=self.prepared.find,
        )

    def _going_on(self, producer: Producer, confirmed: int) -> model.Source:
        """A worker that died in the middle may have run this source before us: what was confirmed is not sent again."""
        folder, pipeline = self._around.checkpoints, self.plan.pipeline
        match producer.source:
            case model.IntervalSource(count=int(count)) as settings:
                return replace(settings, count=count - confirmed)
            case model.FileSource() as settings if folder and (pipeline.broker.embedded or not settings.checkpoint):
                return replace(settings, checkpoint=self._in_folder_of_run(folder) / f"{producer.name}.json")
            case settings:
                return settings

    def _in_folder_of_run(self, folder: Path) -> Path:
        return folder.joinpath(*self.plan.pipeline.path.absolute().parts[1:])  # two files may have the same name


async def declare_first(generation: Generation, topology: Topology) -> None:
    """Everything is compared before anything is made: a file that differs leaves no trace on the broker. Raises
    `BrokerError` where a right is missing, else `TopologyDiffers` with all differences."""
    for finding in (compare, declare):
        differences = await finding(generation, topology)
        forbidden = [difference.sentence for difference in differences if difference.forbidden]
        if forbidden:
            raise BrokerError("; ".join(forbidden))
        if differences:
            raise TopologyDiffers([difference.sentence for difference in differences])


def _logger(plan: ConsumerPlan) -> logging.Logger:
    return logging.getLogger(f"piperun.consumer.{plan.consumer.name}")
