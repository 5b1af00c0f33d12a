"""A consumer's loop in a worker: what is in hand is written down, and what was in hand at a death is handled alone,
given up at the limit, or given back at a stop. Several consumers, with hand-made deliveries, in one process."""

import asyncio
from typing import Any

import pytest

from pipeline.clock import FakeClock
from pipeline.events import HandledAlone, HandlerAbandoned
from pipeline.message import Message
from pipeline.runtime.alone import ALONE_MOST, OTHERS_MOST, Alone
from pipeline.runtime.in_hand import Hands, InHand
from pipeline.runtime.plan import ConsumerPlan, plan
from pipeline.runtime.turn import Turn
from pipeline.runtime.watched import WatchedRun
from tests.models import a_consumer, a_pipeline, a_queue
from tests.runtime.stand_ins import HandDelivery, counts, in_time, some_turns
from tests.runtime.works import Works

OURS, OTHER = 0, 1  # rows


class Process:
    """Two consumers of one worker, what they share, and the memory that it shares with another worker."""

    def __init__(self, *, dead_letter: Any = None, **consumer: Any) -> None:
        names = ("charge", "refund")
        wanted = a_pipeline(
            queues=(a_queue("billing"),), consumers=tuple(a_consumer(name, **consumer) for name in names)
        )
        self.plan = plan(wanted)
        self.shared = InHand([self.plan], rows=2)
        self.clock = FakeClock()
        self.alone = Alone(self.shared.row(OURS), self.clock)
        self.shops = [Shop(self, each, dead_letter=dead_letter, **consumer) for each in self.plan.consumers]

    def died(self, message_id: str, *, times: int = 1, status: int = -6) -> None:
        """So many other workers died with this message of the first consumer in hand."""
        for _ in range(times):
            self.shared.suspects.count(0, message_id.encode(), now=0.0, status=status)

    @property
    def others_hands(self) -> Hands:
        """Those of the other worker, for the first consumer."""
        return self.shared.row(OTHER).hands(self.plan.consumers[0])

    @property
    def in_hand(self) -> list[str]:
        """What counts if this process dies now."""
        return [held.decode() for _, held in self.shared.found(OURS)]

    async def drained(self) -> None:
        await in_time(self.clock, asyncio.gather(*(shop.run.drain() for shop in self.shops)))
        assert [shop.bugs for shop in self.shops] == [[]] * len(self.shops)


class Handled:
    """A handler that notes what it gets, and holds each message until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()
        self.fails = False
        self.clings = False  # swallows its cancellation

    async def __call__(self, body: str) -> None:
        self.begun.append(body)
        while True:
            try:
                await self.go.wait()
                break
            except asyncio.CancelledError:
                if not self.clings:
                    raise
        if self.fails:
            raise RuntimeError("no")
        self.ended.append(body)


class Shop:
    """One consumer that runs."""

    def __init__(self, process: Process, consumer: ConsumerPlan, **settings: Any) -> None:
        self.handled = Handled()
        self.works = works = Works(self.handled, publish=None, **settings)
        self.ledger, self.seen = works.ledger, works.seen
        self.bugs: list[BaseException] = []
        self.deliveries: list[HandDelivery] = []
        self.run = WatchedRun(
            alone=process.alone,
            hands=process.shared.row(OURS).hands(consumer),
            plan=works.plan,
            processor=works.processor,
            settler=works.settler,
            handlers=[works.handler] * works.plan.consumer.concurrency,
            in_threads=False,
            ledger=works.ledger,
            turn=Turn(process.clock),
            clock=process.clock,
            emit=works.seen,
        )
        self.run.start(self.bugs.append)

    async def receive(self, *ids: str, redelivered: bool = False, alive: bool = True) -> None:
        new = []
        for each in ids:
            message = Message(each.encode(), message_id=each, queue="billing", redelivered=redelivered)
            new.append(HandDelivery(message, journal=self.works.journal))
            new[-1].alive = alive
        self.run.receive(new)
        self.deliveries += new
        await some_turns()

    async def let_go(self) -> None:
        self.handled.go.set()
        await some_turns(60)

    @property
    def settled(self) -> list[str]:
        return [" ".join(each.settled) for each in self.deliveries]


async def test_what_is_handled_is_written_down_until_it_is_settled() -> None:
    process = Process(concurrency=2)
    shop = process.shops[0]
    await shop.receive("a", "b", "c")
    assert process.in_hand == ["a", "b"]  # the third one has not begun
    await shop.let_go()
    assert (process.in_hand, shop.settled) == ([], ["ack"] * 3)
    await process.drained()


async def test_with_no_acknowledgement_nothing_is_written_down() -> None:
    process = Process(ack="none")
    shop = process.shops[0]
    await shop.receive("a", "b", redelivered=True)
    assert (process.in_hand, shop.handled.begun) == ([], ["a"])
    await shop.let_go()
    await process.drained()
    assert counts(shop.ledger) == {"delivered": 2, "done": 2}


async def test_a_suspect_is_handled_alone_and_cleared_by_its_success() -> None:
    # Given two consumers that have messages in hand, and one more that two other workers died with
    process = Process(concurrency=2)
    ours, others = process.shops
    process.died("suspect", times=2)
    await ours.receive("a")
    await others.receive("x")
    await ours.receive("suspect", redelivered=True)
    # Then it waits until both have ended, and nobody begins anything
    await ours.receive("b")
    await others.receive("y")
    assert (ours.handled.begun, others.handled.begun, process.in_hand) == (["a"], ["x"], ["a", "x"])
    others.handled.go.set()
    await some_turns()
    assert (ours.handled.begun, others.handled.begun) == (["a"], ["x"])
    # When they have ended it is handled, with nothing beside it
    ours.handled.go.set()
    ours.handled.go = asyncio.Event()
    await some_turns()
    assert (ours.handled.begun, others.handled.begun) == (["a", "suspect"], ["x"])
    assert process.in_hand == ["suspect"]
    # And when it has succeeded it is a message like any other, and all go on
    await ours.let_go()
    assert process.shared.suspects.deaths(0, b"suspect") == 0
    assert (ours.handled.ended, others.handled.ended) == (["a", "suspect", "b"], ["x", "y"])
    (told,) = ours.seen.of(HandledAlone)
    assert (told.message_id, told.deaths, told.crash_limit) == ("suspect", 2, 3)
    await process.drained()


async def test_a_suspect_that_fails_without_killing_its_process_is_cleared_as_well() -> None:
    process = Process()
    shop = process.shops[0]
    shop.handled.fails = True
    process.died("suspect")
    await shop.receive("suspect", redelivered=True)
    await shop.let_go()
    await process.drained()
    assert process.shared.suspects.deaths(0, b"suspect") == 0
    assert shop.works.failed.reason == "max_attempts"


async def test_two_suspects_are_handled_one_after_the_other() -> None:
    process = Process(concurrency=4)
    ours, others = process.shops
    for each in ("s1", "s2", "s3"):
        process.died(each)
    process.shared.suspects.count(1, b"t1", now=0.0, status=-6)
    await ours.receive("s1", "s2", "s3", redelivered=True)
    await others.receive("t1", redelivered=True)
    seen = []
    for _ in range(4):
        (alone,) = process.in_hand
        seen.append(alone)
        for shop in process.shops:
            shop.handled.go.set()
            shop.handled.go = asyncio.Event()
        await some_turns()
    assert sorted(seen) == ["s1", "s2", "s3", "t1"]
    assert ours.settled == ["ack"] * 3 and others.settled == ["ack"]
    await process.drained()


@pytest.mark.parametrize(("dead_letter", "end"), [(None, "dead_lettered"), (False, "dropped")])
async def test_at_its_limit_a_message_is_not_handled_again(dead_letter: Any, end: str) -> None:
    process = Process(crash_limit=2, dead_letter=dead_letter)
    shop = process.shops[0]
    process.died("kills", times=2, status=-11)
    await shop.receive("kills", redelivered=True)
    await some_turns(60)
    assert (shop.handled.begun, shop.settled) == ([], ["ack"])
    assert counts(shop.ledger) == {"delivered": 1, end: 1}
    failed = shop.works.failed
    assert (failed.reason, failed.error) == (
        "crash",
        "WorkerDied: 2 workers died with it in hand, the last one: killed by SIGSEGV",
    )
    # And whoever sends it back has it handled once more
    await shop.receive("kills", redelivered=True)
    assert shop.handled.begun == ["kills"]
    await shop.let_go()
    await process.drained()


async def test_a_message_at_its_limit_that_cannot_be_settled_is_given_up_the_next_time() -> None:
    process = Process()
    shop = process.shops[0]
    process.died("kills", times=3)
    # Given that its channel ends while the copy waits for its confirm
    shop.works.publisher.gate = asyncio.Event()
    await shop.receive("kills", redelivered=True)
    shop.deliveries[0].alive = False
    shop.works.publisher.gate.set()
    await some_turns(60)
    # Then the next delivery is not handled either
    assert process.shared.suspects.deaths(0, b"kills") == 3
    await shop.receive("kills", redelivered=True)
    await some_turns(60)
    assert (shop.handled.begun, shop.settled) == ([], ["", "ack"])
    assert process.shared.suspects.deaths(0, b"kills") == 0
    await process.drained()


async def test_a_message_that_is_new_here_is_no_suspect() -> None:
    """The broker marks what it delivers again; a copy that somebody sends under the same id has not killed anybody."""
    process = Process(concurrency=2)
    shop = process.shops[0]
    process.died("m-1", times=3)
    await shop.receive("m-1", "b")
    assert process.in_hand == ["m-1", "b"]
    await shop.let_go()
    await process.drained()


# Bounds


async def test_a_handler_that_does_not_end_holds_up_a_suspect_for_a_while_only() -> None:
    # Given a message that goes on and on beside a suspect
    process = Process(concurrency=2)
    ours, others = process.shops
    process.died("suspect")
    await others.receive("slow")
    await ours.receive("suspect", redelivered=True)
    assert ours.handled.begun == []
    # When it has had its time, then the suspect is handled, and a death counts for nobody else
    process.clock.advance(OTHERS_MOST)
    await some_turns()
    assert (ours.handled.begun, process.in_hand) == (["suspect"], ["suspect"])
    await ours.let_go()
    assert process.in_hand == ["slow"]
    await others.let_go()
    await process.drained()


async def test_a_suspect_that_does_not_end_holds_up_the_others_for_a_while_only() -> None:
    process = Process(concurrency=2)
    ours, others = process.shops
    process.died("suspect")
    await ours.receive("suspect", redelivered=True)
    await others.receive("x")
    assert others.handled.begun == []
    # When its time is up, then the others begin, and from now on a death counts for all
    process.clock.advance(ALONE_MOST)
    await some_turns()
    assert (others.handled.begun, process.in_hand) == (["x"], ["suspect", "x"])
    # And its end is no end of somebody else's turn
    process.died("next")
    await ours.receive("next", redelivered=True)
    ours.handled.go.set()
    ours.handled.go = asyncio.Event()
    await others.let_go()
    assert process.in_hand == ["next"]
    await ours.let_go()
    await process.drained()


# The count comes a little later than the message


async def test_what_a_dead_worker_still_holds_is_not_handled_before_it_is_counted() -> None:
    # Given a message that another worker had in hand when it died, which the supervisor has not seen yet
    process = Process(concurrency=2)
    shop = process.shops[0]
    process.others_hands.take(0, Message(b"", message_id="kills"))
    await shop.receive("kills", "b", redelivered=True)
    assert shop.handled.begun == ["b"]
    # When it is counted and taken out there
    process.died("kills", times=3)
    process.shared.empty(OTHER)
    process.clock.advance(0.01)
    await some_turns(60)
    # Then the count is known here
    assert shop.works.failed.reason == "crash"
    await shop.let_go()
    await process.drained()


async def test_a_worker_that_lives_and_has_lost_its_line_is_not_waited_for_for_long() -> None:
    process = Process(concurrency=1)
    shop = process.shops[0]
    process.others_hands.take(0, Message(b"", message_id="m-1"))
    shop.handled.go.set()
    await shop.receive("m-1", redelivered=True)
    assert shop.handled.begun == []
    for _ in range(310):
        process.clock.advance(0.01)
        await some_turns(3)
    assert shop.handled.begun == ["m-1"]
    # And the next one not at all
    await shop.receive("m-1", redelivered=True)
    assert shop.handled.begun == ["m-1", "m-1"]
    await process.drained()


# Stopping


@pytest.mark.parametrize("which", ["behind another suspect", "behind what is in hand", "at the count"])
async def test_a_suspect_that_waits_goes_back_at_a_stop(which: str) -> None:
    process = Process(concurrency=2)
    ours, others = process.shops
    if which == "at the count":
        process.others_hands.take(0, Message(b"", message_id="suspect"))
    else:
        process.died("suspect")
    if which == "behind another suspect":
        process.died("first")
        await ours.receive("first", redelivered=True)
    else:
        await others.receive("x")
    await ours.receive("suspect", "b", redelivered=True)
    # When the process is told to stop
    draining = asyncio.gather(*(shop.run.drain() for shop in process.shops))
    await some_turns()
    process.clock.advance(0.01)
    await some_turns()
    # Then what waits goes back, and what has begun ends
    assert ours.settled[-2] == "nack"
    assert process.in_hand == {"behind another suspect": ["first"], "at the count": ["b", "x"]}.get(which, ["x"])
    for shop in process.shops:
        await shop.let_go()
    await in_time(process.clock, draining)
    assert ours.bugs == others.bugs == []
    assert process.in_hand == []
    for shop in process.shops:
        assert shop.ledger.in_hand == 0


async def test_what_is_given_back_when_time_is_up_counts_for_nobody() -> None:
    # Given a handler that swallows its cancellation, a suspect behind it, and another one that waits to be alone
    process = Process(concurrency=3)
    ours, others = process.shops
    others.handled.clings = True
    await others.receive("clings")
    process.died("suspect")
    await ours.receive("suspect", redelivered=True)
    assert process.in_hand == ["clings"]
    # When time is up
    cut = await in_time(process.clock, asyncio.gather(*(shop.run.cut_off() for shop in process.shops)))
    # Then both are given back, and the process can end without a count
    assert cut == [0, 1]
    assert (ours.settled, others.settled) == (["nack"], ["nack"])
    assert process.in_hand == []
    assert [told.message_id for told in others.seen.of(HandlerAbandoned)] == ["clings"]
    others.handled.clings = False
    await others.let_go()
    assert ours.bugs == others.bugs == []
