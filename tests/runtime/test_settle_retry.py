"""A message that is to be handled again: its copy is confirmed in the wait queue before it is acknowledged, or the
broker delays it in its own; whatever goes wrong, it is somewhere."""

from typing import Any

import pytest

from pipeline.errors import ConnectionLost, Nacked, NotConnected, PublishRefused, Unroutable, Unwritable
from pipeline.events import MessageFailed, MessageRetried, SettleTroubled
from pipeline.failure.verdict import Failure, HandleAgain
from pipeline.message import Message
from pipeline.runtime.settle import LONGEST_HOLD
from tests.models import a_retry
from tests.runtime.stand_ins import Answer, a_plan, counts
from tests.runtime.test_settle import Desk

FAILURE = Failure(reason="max_attempts", error_type="ValueError", error="boom")
AGAIN = HandleAgain(FAILURE, 60.0)
WAITING = "billing.retry.60000ms"


def a_desk(answers: list[Answer] | None = None, *, strategy: str = "broker", **more: Any) -> Desk:
    dead_letter = more.pop("dead_letter", None)
    plan = a_plan(dead_letter=dead_letter, retry=a_retry(5.0, 60.0, strategy=strategy))
    return Desk(answers, plan=plan, **more)


async def test_its_copy_is_confirmed_in_the_wait_queue_of_its_delay_before_it_is_acknowledged() -> None:
    desk = a_desk()
    message = Message(b"hello", message_id="m-1", queue="billing", exchange="orders", routing_key="paid", attempt=2)
    await desk.settled(AGAIN, message)
    assert desk.journal == [f"publish to {WAITING}", f"confirmed by {WAITING}", "ack"]
    assert counts(desk.ledger) == {"delivered": 1, "retried": 1}
    (copy,) = desk.publisher.sent
    assert (copy.exchange, copy.mandatory, copy.message.message_id) == ("", True, "m-1")
    assert copy.message.headers["x-piperun-attempt"] == 2
    (told,) = desk.seen.of(MessageRetried)
    assert (told.consumer, told.message_id, told.error) == ("charge", "m-1", "ValueError: boom")
    assert (told.attempt, told.attempts, told.after, told.body) == (2, 3, 60.0, b"hello")
    assert desk.seen.of(MessageFailed) == []


async def test_with_the_native_strategy_it_is_rejected_into_its_own_queue() -> None:
    desk = a_desk(strategy="native")
    await desk.settled(AGAIN)
    assert desk.journal == ["reject(requeue=True)"]  # not nack, which RabbitMQ 4.3 does not count
    assert counts(desk.ledger) == {"delivered": 1, "retried": 1}


@pytest.mark.parametrize(
    "faults",
    [[Nacked("full")], [ConnectionLost("reset"), NotConnected("down")], [PublishRefused("403"), Nacked("full")]],
)
async def test_it_is_never_acknowledged_before_the_confirm(faults: list[Answer]) -> None:
    desk = a_desk(list(faults))
    await desk.settled(AGAIN)
    assert desk.journal == [f"publish to {WAITING}"] * (len(faults) + 1) + [f"confirmed by {WAITING}", "ack"]
    assert set(desk.publisher.ids) == {"m-1"}
    assert counts(desk.ledger) == {"delivered": 1, "retried": 1}


async def test_a_wait_queue_that_was_deleted_is_declared_again_once() -> None:
    declared: list[str] = []

    async def declare_again() -> None:
        declared.append("again")

    desk = a_desk([Unroutable(exchange="", routing_key=WAITING)] * 2, declare_again=declare_again)
    await desk.settled(AGAIN)
    assert declared == ["again"]
    assert counts(desk.ledger) == {"delivered": 1, "retried": 1}


async def test_a_copy_that_cannot_be_made_safe_goes_back_after_a_while() -> None:
    desk = a_desk([Nacked("full")] * 3_000)
    started = desk.clock.now()
    delivery = await desk.settled(AGAIN)
    assert delivery.settled == ["reject(requeue=True)"]
    assert desk.clock.now() - started >= LONGEST_HOLD
    assert counts(desk.ledger) == {"delivered": 1, "returned": 1}


@pytest.mark.parametrize(("dead_letter", "counted"), [(None, "dead_lettered"), (False, "dropped")])
async def test_a_message_that_cannot_be_written_as_it_is_has_no_further_attempt(dead_letter: Any, counted: str) -> None:
    # Given headers that the client library has read and cannot write
    unwritable = Unwritable("header n cannot be written")
    desk = a_desk([unwritable] * (2 if dead_letter is None else 1), dead_letter=dead_letter)
    # When it is to be handled again, then it is not as another message than it was: it fails for good, which is told
    await desk.settled(AGAIN, Message(b"hello", headers={"n": 2**64}, message_id="m-1", queue="billing"))
    assert counts(desk.ledger) == {"delivered": 1, counted: 1}
    assert "it cannot be handled again" in desk.seen.of(SettleTroubled)[0].reason
    (told,) = desk.seen.of(MessageFailed)
    assert told.reason == "max_attempts"
    assert desk.journal[-1] == "ack"


async def test_a_channel_that_has_ended_means_that_it_comes_again_by_itself() -> None:
    for strategy in ("broker", "native"):
        desk = a_desk(strategy=strategy)
        case, delivery = desk.case()
        delivery.alive = False
        await desk.settler.settle(case, AGAIN)
        assert counts(desk.ledger) == {"delivered": 1, "redelivery_expected": 1}
        assert desk.seen.of(MessageRetried) == []


async def test_secrets_are_masked_in_what_is_told_and_on_the_copy() -> None:
    desk = a_desk(mask=lambda text: text.replace("boom", "***"))
    await desk.settled(AGAIN)
    assert desk.seen.of(MessageRetried)[0].error == "ValueError: ***"
    assert desk.publisher.sent[0].message.headers["x-piperun-error"] == "***"
