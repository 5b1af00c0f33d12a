"""Carrying verdicts out: publish, confirm, acknowledge, in this order; each delivery settled once and counted once,
whatever the broker answers and whenever the channel ends or time is up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import FakeClock
from pipeline.errors import (
    ConnectionLost,
    Nacked,
    NotConnected,
    PublishRefused,
    SettlementError,
    Unroutable,
    Unwritable,
)
from pipeline.events import MessageFailed, RedeliveryExpected, SettleTroubled
from pipeline.failure.verdict import Acknowledge, DeadLetter, Drop, Failure, GiveBack, HandleAgain, Verdict
from pipeline.message import Message
from pipeline.runtime.plan import ConsumerPlan
from pipeline.runtime.settle import LONGEST_HOLD, Case, Settler
from tests.runtime.stand_ins import (
    NEVER,
    Answer,
    HandDelivery,
    Journal,
    Recorder,
    ScriptedPublisher,
    a_consumer_ledger,
    a_plan,
    counts,
    in_time,
    nobody,
    some_turns,
)

FAILURE = Failure(reason="fatal", error_type="Reject", error="too old")
VERDICTS: list[Verdict] = [
    Acknowledge(),
    HandleAgain(FAILURE, 5.0),
    DeadLetter(FAILURE),
    Drop(FAILURE),
    GiveBack(),
]


class Desk:
    """A settler with everything around it."""

    def __init__(
        self,
        answers: list[Answer] | None = None,
        *,
        plan: ConsumerPlan | None = None,
        declare_again: Callable[[], Awaitable[None]] | None = None,
        mask: Callable[[str], str] = str,
    ) -> None:
        self.journal: Journal = []
        self.clock = FakeClock()
        self.seen = Recorder()
        self.ledger = a_consumer_ledger()
        self.publisher = ScriptedPublisher(answers or [], journal=self.journal)
        self.settler = Settler(
            plan=plan or a_plan(),
            publisher=self.publisher,
            ledger=self.ledger,
            clock=self.clock,
            emit=self.seen,
            declare_again=declare_again or nobody(),
            username="app",
            run_id="c0ffee00",
            mask=mask,
        )

    def case(self, message: Message | None = None) -> tuple[Case, HandDelivery]:
        self.ledger.delivered(1)
        delivery = HandDelivery(message, journal=self.journal)
        return Case(delivery), delivery

    async def settled(self, verdict: Verdict, message: Message | None = None) -> HandDelivery:
        case, delivery = self.case(message)
        await in_time(self.clock, self.settler.settle(case, verdict))
        return delivery


# Each verdict


@pytest.mark.parametrize(
    ("ack", "verdict", "journal", "counted"),
    [
        ("on_success", Acknowledge(), ["ack"], "done"),
        ("on_success", GiveBack(), ["nack"], "returned"),
        ("on_success", Drop(FAILURE), ["ack"], "dropped"),
        (
            "on_success",
            DeadLetter(FAILURE),
            ["publish to billing.dlq", "confirmed by billing.dlq", "ack"],
            "dead_lettered",
        ),
        ("manual", Acknowledge(), ["ack"], "done"),
        # There is nothing to acknowledge: the broker has forgotten the message.
        ("none", Acknowledge(), [], "done"),
        ("none", Drop(FAILURE), [], "dropped"),
        ("none", GiveBack(), [], "dropped"),
    ],
)
async def test_each_verdict_is_carried_out_in_order_and_counted(
    ack: str, verdict: Verdict, journal: Journal, counted: str
) -> None:
    desk = Desk(plan=a_plan(ack=ack))
    await desk.settled(verdict)
    assert desk.journal == journal
    assert counts(desk.ledger) == {"delivered": 1, counted: 1}


async def test_the_copy_goes_to_the_dead_letter_queue_under_the_same_id_and_must_arrive() -> None:
    desk = Desk(plan=a_plan(dead_letter="failed"))
    await desk.settled(DeadLetter(FAILURE))
    (copy,) = desk.publisher.sent
    assert (copy.exchange, copy.routing_key, copy.mandatory) == ("", "failed", True)
    assert (copy.message.message_id, copy.message.body) == ("m-1", b"hello")
    assert copy.message.headers["x-piperun-queue"] == "billing"
    assert copy.message.headers["x-piperun-last-failure"] == round(desk.clock.time() * 1000)


@pytest.mark.parametrize("without", [None, ""])
async def test_a_message_without_an_id_gets_one_of_its_own_on_its_copy(without: str | None) -> None:
    desk = Desk()
    for _ in range(3):
        await desk.settled(DeadLetter(FAILURE), Message(b"hello", message_id=without, queue="billing"))
    assert all(desk.publisher.ids)
    assert len(set(desk.publisher.ids)) == 3


@pytest.mark.parametrize(
    ("ack", "verdict", "dropped", "fate"),
    [
        ("on_success", DeadLetter(FAILURE), False, 'it is copied to dead-letter queue "billing.dlq"'),
        ("on_success", Drop(FAILURE), True, "it is DROPPED"),
        ("none", Drop(FAILURE), True, "it is DROPPED"),
        ("none", GiveBack(), True, "it is DROPPED"),
    ],
)
async def test_a_failure_is_told_with_what_happens_next(ack: str, verdict: Verdict, dropped: bool, fate: str) -> None:
    desk = Desk(plan=a_plan(ack=ack))
    await desk.settled(verdict)
    (told,) = desk.seen.of(MessageFailed)
    assert (told.consumer, told.message_id, told.dropped, told.fate) == ("charge", "m-1", dropped, fate)


async def test_secrets_are_masked_in_what_is_told_and_on_the_copy() -> None:
    failure = Failure(reason="max_attempts", error_type="ValueError", error="hunter-two is wrong")
    desk = Desk([Nacked("hunter-two")], mask=lambda text: text.replace("hunter-two", "***"))
    await desk.settled(DeadLetter(failure))
    assert desk.seen.of(MessageFailed)[0].error == "ValueError: *** is wrong"
    assert desk.seen.of(SettleTroubled)[0].reason == "***"
    assert desk.publisher.sent[-1].message.headers["x-piperun-error"] == "*** is wrong"


# Once


@pytest.mark.parametrize("first", VERDICTS, ids=lambda verdict: type(verdict).__name__)
@pytest.mark.parametrize("second", VERDICTS, ids=lambda verdict: type(verdict).__name__)
async def test_a_second_settling_is_refused_before_anything_reaches_the_broker(first: Verdict, second: Verdict) -> None:
    desk = Desk()
    case, delivery = desk.case()
    await desk.settler.settle(case, first)
    before = list(desk.journal)
    with pytest.raises(SettlementError, match="settled already"):
        await desk.settler.settle(case, second)
    await desk.settler.abandon(case)
    assert desk.journal == before
    assert len(delivery.settled) == 1
    assert desk.ledger.in_hand == 0


async def test_of_two_settlings_at_a_time_the_second_is_too_late() -> None:
    desk = Desk()
    case, delivery = desk.case()
    results = await asyncio.gather(
        *(desk.settler.settle(case, verdict) for verdict in (DeadLetter(FAILURE), Acknowledge())),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [type(None), SettlementError]
    assert delivery.settled == ["ack"]
    assert counts(desk.ledger) == {"delivered": 1, "dead_lettered": 1}


# When the copy is not confirmed


@pytest.mark.parametrize(
    "faults",
    [
        [Nacked("a queue is full"), Nacked("a queue is full")],
        [ConnectionLost("reset by peer")],
        [NotConnected("nothing was sent")],
        [PublishRefused("403")],
        [Nacked("full"), ConnectionLost("reset"), NotConnected("down"), PublishRefused("403"), Nacked("full")],
    ],
    ids=len,
)
async def test_it_is_never_acknowledged_before_the_confirm(faults: list[Answer]) -> None:
    desk = Desk(list(faults))
    await desk.settled(DeadLetter(FAILURE))
    assert desk.journal == ["publish to billing.dlq"] * (len(faults) + 1) + ["confirmed by billing.dlq", "ack"]
    assert set(desk.publisher.ids) == {"m-1"}  # so that a repeat can be recognised
    assert counts(desk.ledger) == {"delivered": 1, "dead_lettered": 1}
    troubles = desk.seen.of(SettleTroubled)
    assert len(troubles) == len(faults)
    assert all(trouble.next_attempt > 0 for trouble in troubles)


async def test_a_dead_letter_queue_that_was_deleted_is_declared_again_once() -> None:
    declared: list[str] = []

    async def declare_again() -> None:
        declared.append("again")

    gone = Unroutable(exchange="", routing_key="billing.dlq")
    desk = Desk([gone, gone, gone], declare_again=declare_again)
    await desk.settled(DeadLetter(FAILURE))
    assert declared == ["again"]
    assert desk.journal[-2:] == ["confirmed by billing.dlq", "ack"]


async def test_a_line_that_is_lost_while_declaring_again_is_only_a_delay() -> None:
    tries: list[str] = []

    async def declare_again() -> None:
        tries.append("try")
        if len(tries) == 1:
            raise ConnectionLost("reset by peer")

    gone = Unroutable(exchange="", routing_key="billing.dlq")
    desk = Desk([gone, gone], declare_again=declare_again)
    await desk.settled(DeadLetter(FAILURE))
    assert len(tries) == 2
    assert counts(desk.ledger) == {"delivered": 1, "dead_lettered": 1}


@pytest.mark.parametrize(
    "fault", [Nacked("a queue is full"), PublishRefused("403"), Unroutable(exchange="", routing_key="billing.dlq")]
)
async def test_a_copy_that_cannot_be_made_safe_is_given_back_after_a_while(fault: Exception) -> None:
    async def declare_again() -> None:
        pass

    desk = Desk([fault] * 3_000, declare_again=declare_again)
    started = desk.clock.now()
    delivery = await desk.settled(DeadLetter(FAILURE))
    assert delivery.settled == ["reject(requeue=True)"]  # it has failed: a quorum queue's delivery limit counts it
    assert LONGEST_HOLD <= desk.clock.now() - started <= LONGEST_HOLD + 30
    assert counts(desk.ledger) == {"delivered": 1, "returned": 1}


async def test_a_copy_whose_headers_cannot_be_written_goes_without_them() -> None:
    desk = Desk([Unwritable("header n cannot be written")])
    await desk.settled(DeadLetter(FAILURE), Message(b"hello", headers={"n": 2**64}, message_id="m-1", queue="billing"))
    _, second = desk.publisher.sent
    assert (second.message.body, second.message.message_id) == (b"hello", "m-1")
    assert second.message.headers["x-piperun-headers-left-out"] == "n"
    assert second.message.headers["x-piperun-reason"] == "fatal"
    assert desk.journal[-1] == "ack"
    assert counts(desk.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_a_copy_that_cannot_be_written_at_all_is_given_back_after_a_while() -> None:
    desk = Desk([Unwritable("its priority cannot be written")] * 1_000)
    delivery = await desk.settled(DeadLetter(FAILURE))
    assert delivery.settled == ["reject(requeue=True)"]
    assert counts(desk.ledger) == {"delivered": 1, "returned": 1}


# When the channel has ended


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: type(verdict).__name__)
async def test_a_delivery_whose_channel_has_ended_is_expected_again(verdict: Verdict) -> None:
    desk = Desk()
    case, delivery = desk.case()
    delivery.alive = False
    await in_time(desk.clock, desk.settler.settle(case, verdict))
    assert delivery.settled == []
    assert counts(desk.ledger) == {"delivered": 1, "redelivery_expected": 1}
    assert desk.seen.of(RedeliveryExpected) == [RedeliveryExpected(consumer="charge", message_id="m-1")]
    assert desk.seen.of(MessageFailed) == []  # it has not been dropped or copied


async def test_a_channel_that_ends_while_the_copy_waits_ends_the_trying() -> None:
    desk = Desk([Nacked("a queue is full")] * 1_000)
    case, delivery = desk.case()
    settling = asyncio.create_task(desk.settler.settle(case, DeadLetter(FAILURE)))
    await some_turns()
    delivery.alive = False
    await in_time(desk.clock, settling)
    assert counts(desk.ledger) == {"delivered": 1, "redelivery_expected": 1}
    assert len(desk.publisher.sent) < 5


# When time is up


@pytest.mark.parametrize(
    ("ack", "alive", "settled", "counted"),
    [
        ("on_success", True, ["nack"], "returned"),
        ("on_success", False, [], "redelivery_expected"),
        ("none", True, [], "dropped"),
    ],
)
async def test_what_was_not_settled_is_given_back_when_time_is_up(
    ack: str, alive: bool, settled: list[str], counted: str
) -> None:
    desk = Desk(plan=a_plan(ack=ack))
    case, delivery = desk.case()
    delivery.alive = alive
    await desk.settler.abandon(case)
    await desk.settler.abandon(case)
    assert delivery.settled == settled
    assert counts(desk.ledger) == {"delivered": 1, counted: 1}
    assert bool(desk.seen.of(MessageFailed)) == (ack == "none")  # a loss is said


async def test_a_copy_without_an_answer_is_given_back_when_time_is_up() -> None:
    desk = Desk([NEVER])
    case, delivery = desk.case()
    settling = asyncio.create_task(desk.settler.settle(case, DeadLetter(FAILURE)))
    await some_turns()
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    await desk.settler.abandon(case)
    assert delivery.settled == ["nack"]
    assert counts(desk.ledger) == {"delivered": 1, "returned": 1}
    with pytest.raises(SettlementError):
        await desk.settler.settle(case, Acknowledge())


async def test_an_ack_that_was_on_its_way_when_time_was_up_counts_as_to_be_delivered_again() -> None:
    desk = Desk()
    case, delivery = desk.case()
    settling = asyncio.create_task(desk.settler.settle(case, Acknowledge()))
    await asyncio.sleep(0)  # it has been written, and the socket has not said so
    settling.cancel()
    await asyncio.wait({settling})
    await desk.settler.abandon(case)
    assert delivery.settled == ["ack"]
    assert counts(desk.ledger) == {"delivered": 1, "redelivery_expected": 1}


# Whatever happens


FAULTS: list[Callable[[], Answer]] = [
    lambda: None,
    lambda: Nacked("a queue is full"),
    lambda: ConnectionLost("reset by peer"),
    lambda: NotConnected("nothing was sent"),
    lambda: PublishRefused("403"),
    lambda: Unroutable(exchange="", routing_key="billing.dlq"),
]
steps = st.fixed_dictionaries(
    {
        "verdict": st.sampled_from(VERDICTS),
        "faults": st.lists(st.sampled_from(FAULTS), max_size=4),
        "dies_after": st.none() | st.integers(0, 60),  # turns of the loop until its channel ends
        "up_after": st.none() | st.integers(0, 60),  # until its settling is cancelled and it is given back
    }
)


@given(st.lists(steps, max_size=6), st.sampled_from(["on_success", "manual", "none"]))
def test_the_numbers_add_up_whatever_happens(script: list[dict[str, Any]], ack: str) -> None:
    async def play() -> None:
        async def declare_again() -> None:
            pass

        desk = Desk(plan=a_plan(ack=ack), declare_again=declare_again)
        for step in script:
            if ack == "none" and isinstance(step["verdict"], DeadLetter | HandleAgain):
                continue  # `decide` never says so
            desk.publisher.answers = [fault() for fault in step["faults"]]
            delivery = await play_one(desk, **step)
            assert len(delivery.settled) <= (0 if ack == "none" else 1)
            assert desk.ledger.in_hand == 0
        # No acknowledgement without a confirm before it, for a message that was to be copied.
        assert counts(desk.ledger).get("delivered", 0) == sum(
            number for term, number in desk.ledger.numbers().items() if term not in ("delivered", "in_hand")
        )

    asyncio.run(play())


async def play_one(
    desk: Desk, *, verdict: Verdict, faults: object, dies_after: int | None, up_after: int | None
) -> HandDelivery:
    case, delivery = desk.case()
    settling = asyncio.create_task(desk.settler.settle(case, verdict))
    published = len(desk.publisher.sent)
    for turn in range(3_000):
        await asyncio.sleep(0)
        if settling.done():
            break
        if turn == dies_after:
            delivery.alive = False
        if turn == up_after:
            settling.cancel()
        if turn > 60:
            desk.clock.advance(1.0)
    await asyncio.wait({settling})
    if settling.cancelled():
        await desk.settler.abandon(case)
    else:
        settling.result()
    if isinstance(verdict, DeadLetter) and delivery.settled == ["ack"]:
        assert "confirmed by billing.dlq" in desk.journal
        assert len(desk.publisher.sent) > published
    return delivery
