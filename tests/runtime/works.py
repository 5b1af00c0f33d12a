"""One consumer: its processor and settler, with a real handler, a scripted publisher and hand-made deliveries."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pipeline.clock import FakeClock
from pipeline.events import MessageFailed
from pipeline.handlers.call import handler
from pipeline.handlers.context import Context, Surroundings
from pipeline.handlers.limit import TimeLimit
from pipeline.handlers.signature import plan as call_plan
from pipeline.handlers.threads import Threads
from pipeline.idempotency import Store
from pipeline.message import Message
from pipeline.runtime.claims import Claims, store_of
from pipeline.runtime.once import Once
from pipeline.runtime.process import Processor
from pipeline.runtime.settle import Case, Settler
from tests.models import a_publish
from tests.runtime.stand_ins import (
    Answer,
    HandDelivery,
    Journal,
    Recorder,
    ScriptedPublisher,
    a_consumer_ledger,
    a_plan,
    a_policy,
    in_time,
    nobody,
)


class Works:
    """One consumer's processor, with a real handler."""

    def __init__(
        self,
        function: Callable[..., Any],
        answers: Sequence[Answer] = (),
        *,
        verbose: bool = False,
        longest: int = 16 * 2**20,
        dead_letter: Any = None,
        store: Store | None = None,
        **consumer: Any,
    ) -> None:
        self.journal: Journal = []
        self.clock = FakeClock()
        self.seen = Recorder()
        self.ledger = a_consumer_ledger()
        self.publisher = ScriptedPublisher(answers, journal=self.journal)
        self.plan = plan = a_plan(dead_letter=dead_letter, **{"publish": a_publish(), **consumer})
        logger = logging.getLogger("piperun.consumer.charge")
        around = Surroundings(
            consumer="charge",
            logger=logger,
            stopping=asyncio.Event(),
            state=None,
            loop=asyncio.get_running_loop(),
        )
        self.stopping = around.stopping
        claims = self.claims = self._claims(store)
        self.settler = Settler(
            plan=plan,
            publisher=self.publisher,
            ledger=self.ledger,
            clock=self.clock,
            emit=self.seen,
            declare_again=nobody(),
            username="app",
            run_id="c0ffee00",
            mask=str,
            remember=None if claims is None else claims.done,
        )
        called = call_plan(function, name="charge", content=None, ack=plan.consumer.ack)
        processor = Processor(
            plan=plan,
            publisher=self.publisher,
            settler=self.settler,
            limit=TimeLimit(plan.consumer.timeout, clock=self.clock, logger=logger),
            clock=self.clock,
            emit=self.seen,
            context=partial(Context, around),
            asks_context=called.asks_context,
            verbose=verbose,
            longest=longest,
            policy=a_policy(plan.consumer),
        )
        self.processor = processor if claims is None else Once(claims, processor, self.settler, self.ledger)
        self.threads = Threads("charge", plan.consumer.concurrency)
        self.handler = handler(called, threads=self.threads, clock=self.clock)

    def _claims(self, store: Store | None) -> Claims | None:
        settings = self.plan.consumer.idempotency
        if settings is None:
            return None
        store = store or store_of(
            settings, pipeline="shop", consumer="charge", folder=None, clock=self.clock, emit=self.seen
        )
        return Claims(
            store,
            header=settings.header,
            consumer="charge",
            clock=self.clock,
            emit=self.seen,
            stopping=self.stopping,
        )

    def delivered(self, message: Message | None = None) -> HandDelivery:
        self.ledger.delivered(1)
        return HandDelivery(message, journal=self.journal)

    def begin(self, delivery: HandDelivery) -> asyncio.Task[None]:
        return asyncio.create_task(self.processor.process(Case(delivery), self.handler))

    async def process(self, message: Message | None = None) -> HandDelivery:
        delivery = self.delivered(message)
        await in_time(self.clock, self.begin(delivery))
        return delivery

    @property
    def failed(self) -> MessageFailed:
        (told,) = self.seen.of(MessageFailed)
        return told
