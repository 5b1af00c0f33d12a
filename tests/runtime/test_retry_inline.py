"""`strategy: inline`: a message that failed is held, with its slot, and its handler called again; whoever stops, or
loses the channel, does not wait for it."""

import asyncio
from typing import Any

import pytest

from pipeline.errors import Reject
from pipeline.events import MessageRetried
from pipeline.message import Message
from tests.models import a_retry
from tests.runtime.stand_ins import NEVER, counts, some_turns
from tests.runtime.works import Works


class Handler:
    """Fails as long as it is told to, and keeps what it has seen and when."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.attempts: list[int] = []

    async def __call__(self, message: Message) -> str:
        self.attempts.append(message.attempt)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return "an invoice"


def inline(handler: Any, *delays: float, answers: Any = (), **more: Any) -> Works:
    retry = {name: more.pop(name) for name in ("only", "excluded") if name in more}
    return Works(handler, answers, retry=a_retry(*delays, strategy="inline", **retry), **more)


async def test_it_is_handled_again_in_the_same_delivery_and_done_when_its_output_is_confirmed() -> None:
    handler = Handler(ValueError("boom"), ValueError("boom"))
    works = inline(handler, 5.0, 20.0)
    began = works.clock.now()
    delivery = await works.process()
    assert handler.attempts == [1, 2, 3]
    assert delivery.settled == ["ack"]
    assert works.journal == ["publish to invoices", "confirmed by invoices", "ack"]
    assert works.clock.now() - began >= 25.0
    assert counts(works.ledger) == {"delivered": 1, "done": 1}
    told = [(each.attempt, each.attempts, each.after) for each in works.seen.of(MessageRetried)]
    assert told == [(1, 3, 5.0), (2, 3, 20.0)]
    assert works.publisher.ids == ["m-1:charge:1"]  # a repeat would come under the same id


async def test_it_is_dead_lettered_after_its_last_attempt_with_the_count() -> None:
    handler = Handler(*[ValueError("boom")] * 3)
    works = inline(handler, 1.0, 1.0)
    await works.process()
    assert handler.attempts == [1, 2, 3]
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}
    (copy,) = works.publisher.sent
    assert (copy.message.headers["x-piperun-attempt"], copy.message.headers["x-piperun-reason"]) == (3, "max_attempts")
    assert works.failed.reason == "max_attempts"


@pytest.mark.parametrize("error", [Reject("too old"), KeyError("no such thing")])
async def test_what_is_not_worth_it_is_not_handled_again(error: BaseException) -> None:
    handler = Handler(error)
    works = inline(handler, 1.0, only=("ValueError",))
    await works.process()
    assert handler.attempts == [1]
    assert works.failed.reason == "fatal"


async def test_an_attempt_that_takes_too_long_is_a_failure_like_any_other() -> None:
    attempts: list[int] = []

    async def charge(message: Message) -> None:
        attempts.append(message.attempt)
        if message.attempt == 1:
            await asyncio.Event().wait()

    works = inline(charge, 1.0, timeout=5.0)
    await works.process()
    assert attempts == [1, 2]
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


async def waiting(works: Works) -> tuple[Any, asyncio.Task[None]]:
    """A delivery that waits for its second attempt."""
    delivery = works.delivered()
    task = works.begin(delivery)
    await some_turns()
    assert works.seen.of(MessageRetried)
    return delivery, task


async def ended(works: Works, task: asyncio.Task[None]) -> None:
    works.clock.advance(1.0)
    await some_turns()
    await task


async def test_a_stop_gives_back_what_waits_and_does_not_wait_for_it() -> None:
    works = inline(Handler(ValueError("boom")), 600.0)
    delivery, task = await waiting(works)
    works.processor.stop_waiting()
    await ended(works, task)
    assert delivery.settled == ["nack"]
    assert counts(works.ledger) == {"delivered": 1, "returned": 1}


async def test_a_channel_that_ends_ends_the_waiting() -> None:
    handler = Handler(ValueError("boom"))
    works = inline(handler, 600.0)
    delivery, task = await waiting(works)
    delivery.alive = False
    await ended(works, task)
    assert handler.attempts == [1]
    assert counts(works.ledger) == {"delivered": 1, "redelivery_expected": 1}


async def test_time_that_is_up_gives_back_what_waits() -> None:
    works = inline(Handler(ValueError("boom")), 600.0)
    delivery, task = await waiting(works)
    task.cancel()
    await asyncio.wait({task})
    assert delivery.settled == ["nack"]
    assert counts(works.ledger) == {"delivered": 1, "returned": 1}


async def test_time_that_is_up_in_a_later_attempt_leaves_no_output_behind() -> None:
    works = inline(Handler(ValueError("boom")), 1.0, answers=[NEVER])
    delivery, task = await waiting(works)
    for _ in range(8):
        works.clock.advance(0.25)
        await some_turns()
    assert works.publisher.ids == ["m-1:charge:1"]
    task.cancel()
    await asyncio.wait({task})
    assert delivery.settled == ["nack"]
    assert counts(works.ledger) == {"delivered": 1, "returned": 1}
