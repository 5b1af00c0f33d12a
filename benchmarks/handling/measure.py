"""One measurement: deliveries through a consumer's real loop, processor, settler and handler, in this process and
without a socket. The deliveries and the publisher are stand-ins that cost next to nothing: an ack is a number, and what
was published in one turn of the loop is confirmed in the next. How often and what is printed is not known here."""

import asyncio
import gc
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.handling.shapes import Shape
from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock, SystemClock
from pipeline.config.load import Text, load
from pipeline.failure.verdict import Policy
from pipeline.handlers.call import handler
from pipeline.handlers.context import Context, Surroundings
from pipeline.handlers.limit import TimeLimit
from pipeline.handlers.signature import plan as call_plan
from pipeline.handlers.threads import Threads
from pipeline.ledger import WIDTH, ConsumerLedger
from pipeline.message import Delivery, Message
from pipeline.runtime.alone import Alone
from pipeline.runtime.consume import ConsumerRun
from pipeline.runtime.in_hand import InHand
from pipeline.runtime.plan import Plan, plan
from pipeline.runtime.process import Processor
from pipeline.runtime.settle import Settler
from pipeline.runtime.turn import Turn
from pipeline.runtime.watched import WatchedRun

PREFETCH = 100
_MOST_SECONDS = 120


class Feed:
    """The broker's side: so many deliveries at once, and one more for each that was acknowledged, a turn later."""

    def __init__(self, messages: Sequence[Message], receive: Callable[[Sequence["HandDelivery"]], None]) -> None:
        self._left: Iterator[HandDelivery] = iter([HandDelivery(message, self) for message in messages])
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._to_come = len(messages)
        self._acknowledged = 0
        self._turning = False
        self.over = asyncio.Event()

    def begin(self) -> None:
        self._give(PREFETCH)

    def acknowledged(self) -> None:
        self._acknowledged += 1
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        count, self._acknowledged = self._acknowledged, 0
        self._to_come -= count
        if not self._to_come:
            self.over.set()
        self._give(count)

    def _give(self, count: int) -> None:
        batch = [delivery for _, delivery in zip(range(count), self._left, strict=False)]
        if batch:
            self._receive(batch)


class HandDelivery:
    """A `pipeline.message.Delivery`."""

    __slots__ = ("_feed", "message")

    def __init__(self, message: Message, feed: Feed) -> None:
        self.message = message
        self._feed = feed

    @property
    def alive(self) -> bool:
        return True

    async def ack(self) -> None:
        self._feed.acknowledged()

    async def nack(self) -> None:
        raise AssertionError("no handler fails here")

    async def reject(self, *, requeue: bool) -> None:
        raise AssertionError("no handler fails here")


class Confirming(Publisher):
    """Confirms in the next turn of the loop whatever was sent in this one."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock(), emit=lambda _: None)
        self._loop = asyncio.get_running_loop()
        self._unanswered: list[asyncio.Future[None]] = []

    async def send(self, outgoing: Outgoing, *, timeout: float | None) -> None:
        if not self._unanswered:
            self._loop.call_soon(self._confirm)
        confirm = self._loop.create_future()
        self._unanswered.append(confirm)
        await confirm

    def _confirm(self) -> None:
        waiting, self._unanswered = self._unanswered, []
        for each in waiting:
            each.set_result(None)


def measure(shape: Shape, messages: int, *, in_worker: bool = False) -> float:
    """CPU seconds of this process, threads included, for so many messages from the client's callback to their ack.
    `in_worker`: what is in hand is written down, as with `runtime.workers`."""
    return asyncio.run(_measure(shape, messages, partial(start_consumer, in_worker=in_worker)))


def measure_floor(shape: Shape, messages: int) -> float:
    """The same with nothing between the stand-ins and the function: what the benchmark itself costs."""
    return asyncio.run(_measure(shape, messages, _start_floor))


_Start = Callable[[Shape], tuple[Callable[[Sequence[HandDelivery]], None], Callable[[], None]]]


async def _measure(shape: Shape, messages: int, start: _Start) -> float:
    receive, end = start(shape)
    made = [
        Message(shape.body, content_type=shape.content_type, message_id=f"{number:032}", queue="orders")
        for number in range(messages)
    ]
    feed = Feed(made, receive)
    gc.collect()
    gc.freeze()  # what was made beforehand is not looked at again and again
    began = time.process_time()
    feed.begin()
    async with asyncio.timeout(_MOST_SECONDS):
        await feed.over.wait()
    spent = time.process_time() - began
    gc.unfreeze()
    end()
    return spent


def _start_floor(shape: Shape) -> tuple[Callable[[Sequence[HandDelivery]], None], Callable[[], None]]:
    waiting: deque[HandDelivery] = deque()
    arrived = asyncio.Event()

    async def slot() -> None:
        while True:
            while not waiting:
                arrived.clear()
                await arrived.wait()
            delivery = waiting.popleft()
            await shape.function(delivery.message.body)
            await delivery.ack()

    def receive(batch: Sequence[HandDelivery]) -> None:
        waiting.extend(batch)
        arrived.set()

    task = asyncio.create_task(slot())

    def end() -> None:
        task.cancel()

    return receive, end


def start_consumer(
    shape: Shape, *, clock: Clock | None = None, publisher: Publisher | None = None, in_worker: bool = False
) -> tuple[Callable[[Sequence[Delivery]], None], Callable[[], None]]:
    """A consumer as the runtime makes one, on the machine's clock and publishing through the stand-in unless others are
    given: what takes its deliveries, and what ends it and looks whether all of them were done."""
    file = _plan(shape)
    (planned,) = file.consumers
    consumer = planned.consumer
    clock = clock or SystemClock()
    publisher = publisher or Confirming()
    ledger = ConsumerLedger([0] * WIDTH)
    logger = logging.getLogger("benchmark")
    settler = Settler(
        plan=planned,
        publisher=publisher,
        ledger=ledger,
        clock=clock,
        emit=_unexpected,
        declare_again=_nothing,
        username="guest",
        run_id="c0ffee00",
        mask=str,
    )
    around = Surroundings(
        consumer=consumer.name,
        logger=logger,
        stopping=asyncio.Event(),
        state=None,
        loop=asyncio.get_running_loop(),
    )
    called = call_plan(shape.function, name=shape.name, content=consumer.content, ack=consumer.ack)
    processor = Processor(
        plan=planned,
        publisher=publisher,
        settler=settler,
        limit=TimeLimit(consumer.timeout, clock=clock, logger=logger),
        clock=clock,
        emit=_unexpected,
        context=partial(Context, around),
        asks_context=called.asks_context,
        verbose=False,
        policy=None if consumer.retry is None else Policy(delays=consumer.retry.delays, strategy="broker"),
    )
    threads = Threads(consumer.name, consumer.concurrency)
    run = _run(file, clock, in_worker=in_worker)(
        plan=planned,
        processor=processor,
        settler=settler,
        handlers=[handler(called, threads=threads, clock=clock)] * consumer.concurrency,
        in_threads=called.kind in ("thread", "generator"),
        ledger=ledger,
        turn=Turn(clock),
        clock=clock,
        emit=_unexpected,
    )
    run.start(_unexpected)

    def end() -> None:
        threads.close()
        numbers = ledger.numbers()
        assert numbers["done"] == numbers["delivered"], numbers

    return run.receive, end


def _run(file: Plan, clock: Clock, *, in_worker: bool) -> Callable[..., ConsumerRun]:
    if not in_worker:
        return ConsumerRun
    row = InHand([file], rows=1).row(0)
    return partial(WatchedRun, alone=Alone(row, clock), hands=row.hands(file.consumers[0]))


def _plan(shape: Shape) -> Plan:
    """As from a file, so that every default is the schema's."""
    consumer = {"queue": "orders", "handler": "benchmarks:none", "prefetch": PREFETCH, **shape.consumer}
    file = {"queues": {"orders": {}, "invoices": {}}, "consumers": {"charge": consumer}}
    loaded = load([Text(path="handling.yaml", text=json.dumps(file))], environment={})
    assert not loaded.has_errors, loaded.problems
    return plan(loaded.pipelines[0])


def _unexpected(told: object) -> None:
    raise AssertionError(told)


async def _nothing() -> None:
    return None
