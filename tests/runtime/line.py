"""The real parts of one file over a real line: links, publisher, subscriptions, settling, with plain functions as
handlers. What `runtime.assembly` does from files, this does from model objects."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from pipeline.amqp.consume import Subscription
from pipeline.amqp.declare import Topology, declare
from pipeline.amqp.link import Generation, Link
from pipeline.amqp.publish import Publisher
from pipeline.amqp.self_check import plain_by_hand
from pipeline.clock import SystemClock
from pipeline.config.model import Pipeline
from pipeline.handlers.call import handler
from pipeline.handlers.context import Context, Surroundings
from pipeline.handlers.limit import TimeLimit
from pipeline.handlers.signature import plan as call_plan
from pipeline.handlers.threads import Threads
from pipeline.ledger import ConsumerLedger
from pipeline.runtime.broker import at
from pipeline.runtime.consume import ConsumerRun
from pipeline.runtime.plan import ConsumerPlan, LinkName, plan
from pipeline.runtime.process import Processor
from pipeline.runtime.settle import Settler
from pipeline.runtime.turn import Turn
from tests.models import a_broker
from tests.runtime.stand_ins import Recorder, a_consumer_ledger, a_policy
from tests.waiting import deadline


class Line:
    """One file's consumers with their connections. `handlers` are functions by the consumer's name."""

    def __init__(self, url: str, pipeline: Pipeline, handlers: dict[str, Callable[..., Any]]) -> None:
        self.broker = at(a_broker(), url)
        self.plan = plan(pipeline)
        self.clock = SystemClock()
        self.turn = Turn(self.clock)
        self.seen = Recorder()
        self.bugs: list[BaseException] = []
        self.publisher = Publisher(clock=self.clock, emit=self.seen)
        self.ledgers = {each.consumer.name: a_consumer_ledger() for each in self.plan.consumers}
        self.runs = {each.consumer.name: self._run(each, handlers[each.consumer.name]) for each in self.plan.consumers}
        self.links: dict[LinkName, Link] = {name: self._link(name, each) for name, each in self.plan.topologies.items()}

    @property
    def ledger(self) -> ConsumerLedger:
        """Of the only consumer."""
        (ledger,) = self.ledgers.values()
        return ledger

    @property
    def run(self) -> ConsumerRun:
        (run,) = self.runs.values()
        return run

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        """Connected, declared, and consuming. Afterwards consumers are drained, within a deadline."""
        keeping = []
        try:
            async with asyncio.timeout(deadline(20)):
                for link in self.links.values():
                    await link.open(wait=False)
                keeping = [asyncio.create_task(link.keep()) for link in self.links.values()]
                await self.publisher.wait_ready()
                for run in self.runs.values():
                    run.start(self.bugs.append)
                    assert run.subscription is not None
                    await run.subscription.wait_started()
            yield self
            async with asyncio.timeout(deadline(20)):
                await asyncio.gather(*(run.drain() for run in self.runs.values()))
        finally:
            for link in self.links.values():
                await link.close(timeout=2.0)
            if keeping:
                await asyncio.wait(keeping, timeout=deadline(10))
        assert self.bugs == []

    def _link(self, name: LinkName, topology: Topology) -> Link:
        async def declare_all(generation: Generation) -> None:
            assert await declare(generation, topology) == ()

        subscriptions = [run.subscription for run in self.runs.values() if run.plan.link == name]
        return Link(
            broker=self.broker,
            name=f"test {name}",
            purpose=name,
            clock=self.clock,
            emit=self.seen,
            declare=declare_all,
            parts=[self.publisher] if name == "publish" else [each for each in subscriptions if each is not None],
            plain=plain_by_hand(),
        )

    def _run(self, planned: ConsumerPlan, function: Callable[..., Any]) -> ConsumerRun:
        consumer = planned.consumer
        logger = logging.getLogger(f"piperun.consumer.{consumer.name}")
        around = Surroundings(
            consumer=consumer.name,
            logger=logger,
            stopping=asyncio.Event(),
            state=None,
            loop=asyncio.get_running_loop(),
        )
        ledger = self.ledgers[consumer.name]
        settler = Settler(
            plan=planned,
            publisher=self.publisher,
            ledger=ledger,
            clock=self.clock,
            emit=self.seen,
            declare_again=self._declare_again,
            username=self.broker.addresses[0].username,
            run_id="c0ffee00",
            mask=str,
        )
        called = call_plan(function, name=consumer.name, content=None, ack=consumer.ack)
        processor = Processor(
            plan=planned,
            publisher=self.publisher,
            settler=settler,
            limit=TimeLimit(consumer.timeout, clock=self.clock, logger=logger),
            clock=self.clock,
            emit=self.seen,
            context=partial(Context, around),
            asks_context=called.asks_context,
            verbose=False,
            policy=a_policy(consumer),
        )
        run = ConsumerRun(
            plan=planned,
            processor=processor,
            settler=settler,
            handlers=[handler(called, threads=Threads(consumer.name, consumer.concurrency), clock=self.clock)]
            * consumer.concurrency,
            in_threads=False,
            ledger=ledger,
            turn=self.turn,
            clock=self.clock,
            emit=self.seen,
        )
        run.subscription = Subscription(
            consumer=consumer.name,
            tag=consumer.name,
            queue=consumer.queue,
            prefetch=consumer.prefetch,
            no_ack=consumer.ack == "none",
            exclusive=consumer.exclusive,
            arguments=consumer.arguments,
            receive=run.receive,
            redeclare=lambda generation: declare(generation, self.plan.topology_of(planned.queue)),
            clock=self.clock,
            emit=self.seen,
        )
        return run

    async def _declare_again(self) -> None:
        generation = self.links["publish"].generation
        assert generation is not None
        await declare(generation, self.plan.topologies["publish"])
