"""A consumer with `idempotency`: what comes again is acknowledged and not handled, what is in hand elsewhere waits, and
what failed is handled again. A store that fails holds messages, and loses none."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.clock import FakeClock
from pipeline.errors import Reject, StoreError
from pipeline.events import DuplicateHeld, DuplicateSkipped, MessageFailed, Notice, SettleTroubled
from pipeline.idempotency import Claim, Found
from pipeline.idempotency.memory import MemoryStore
from pipeline.message import Message
from pipeline.runtime.settle import LONGEST_HOLD
from tests.models import a_publish, a_retry, an_idempotency
from tests.runtime.stand_ins import Journal, counts, in_time, some_turns
from tests.runtime.works import Works


class Once(Works):
    """A consumer that remembers. Its handler counts its calls, and waits for `gate` where there is one."""

    def __init__(self, *fails: BaseException | None, gate: asyncio.Event | None = None, **settings: Any) -> None:
        self.handled: list[str | None] = []
        endings = list(fails)

        async def charge(message: Message) -> None:
            self.handled.append(message.message_id)
            if gate is not None:
                await gate.wait()
            if endings and (error := endings.pop(0)) is not None:
                raise error

        settings = {"idempotency": an_idempotency(), "publish": None, **settings}
        super().__init__(settings.pop("function", charge), **settings)

    @property
    def warnings(self) -> list[str]:
        return [each.sentence for each in self.seen.of(Notice)]


def message(message_id: str | None = "m-1", **more: Any) -> Message:
    return Message(b"tea", message_id=message_id, queue="billing", exchange="", routing_key="billing", **more)


# What comes again


async def test_a_message_that_comes_again_is_acknowledged_without_being_handled() -> None:
    works = Once()
    first, again = await works.process(message()), await works.process(message(redelivered=True))
    assert (first.settled, again.settled) == (["ack"], ["ack"])
    assert works.handled == ["m-1"]
    assert works.seen.of(DuplicateSkipped) == [DuplicateSkipped(consumer="charge", message_id="m-1", key="m-1")]
    # It counts as done, so that the sum stays, and beside it as a duplicate
    assert counts(works.ledger) == {"delivered": 2, "done": 2, "duplicates": 1}


async def test_another_message_is_handled() -> None:
    works = Once()
    await works.process(message("m-1"))
    await works.process(message("m-2"))
    assert works.handled == ["m-1", "m-2"]


async def test_the_key_may_be_a_header() -> None:
    works = Once(idempotency=an_idempotency(header="order"))
    for message_id, order in (("m-1", 7), ("m-2", 7), ("m-2", 8)):
        await works.process(message(message_id, headers={"order": order}))
    assert works.handled == ["m-1", "m-2"]
    assert [each.key for each in works.seen.of(DuplicateSkipped)] == ["7"]


async def test_a_message_without_a_key_is_handled_like_any_other_and_that_is_said_once() -> None:
    works = Once()
    for nameless in (None, "", None):
        await works.process(message(nameless))
    assert len(works.handled) == 3
    assert works.warnings == [
        "messages come without a `message_id`, and are handled as if there were no `idempotency`; "
        "set it where they are published, or name a `header` in `idempotency`"
    ]
    assert counts(works.ledger) == {"delivered": 3, "done": 3}


async def test_a_message_without_the_header_is_handled_like_any_other_and_that_is_said_once() -> None:
    works = Once(idempotency=an_idempotency(header="order"))
    for headers in ({}, {"order": 1.5}):
        await works.process(message(headers=headers))
    assert len(works.handled) == 2
    assert works.warnings == [
        'messages come without a header "order" that is text or a whole number, and are handled as if there were no '
        "`idempotency`; set it where they are published"
    ]


async def test_an_acknowledgement_that_does_not_arrive_is_made_up_for_when_the_message_comes_again() -> None:
    # Given a message that is handled to its end, while its channel is lost
    works = Once(gate=(gate := asyncio.Event()))
    delivery = works.delivered(message())
    running = works.begin(delivery)
    await some_turns()
    delivery.alive = False
    gate.set()
    await in_time(works.clock, running)
    # When the broker delivers it again, then it is not handled a second time
    again = await works.process(message(redelivered=True))
    assert (works.handled, again.settled) == (["m-1"], ["ack"])
    assert counts(works.ledger) == {"delivered": 2, "redelivery_expected": 1, "done": 1, "duplicates": 1}


# The order of things


class Written(MemoryStore):
    """Writes what it is asked into the journal of the consumer."""

    def __init__(self, works: Callable[[], Works]) -> None:
        super().__init__(window=60.0, max_keys=100, clock=works().clock, forgets=pytest.fail)
        self.works = works

    async def finish(self, claim: Claim) -> None:
        self.works().journal.append(f"{claim.key} is done")
        await super().finish(claim)


async def journal_of(works: Works) -> Journal:
    assert works.claims is not None
    works.claims._store = Written(lambda: works)
    await works.process(message())
    return works.journal


async def test_a_key_is_done_after_the_confirms_and_before_the_ack() -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Once(function=charge, publish=a_publish())
    assert await journal_of(works) == ["publish to invoices", "confirmed by invoices", "m-1 is done", "ack"]


async def test_a_handler_that_acknowledges_itself_has_its_key_done_before_that() -> None:
    async def charge(message: Message) -> None:
        await message.ack()

    works = Once(function=charge, ack="manual")
    assert await journal_of(works) == ["m-1 is done", "ack"]
    await works.process(message())
    assert counts(works.ledger) == {"delivered": 2, "done": 2, "duplicates": 1}


async def test_a_message_that_the_handler_rejects_itself_is_not_done() -> None:
    async def charge(message: Message) -> None:
        await message.reject("not today")

    works = Once(function=charge, ack="manual")
    for _ in range(2):
        await works.process(message())
    assert counts(works.ledger) == {"delivered": 2, "dead_lettered": 2}


# What failed


async def never(body: bytes) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("error", [ValueError("no"), Reject("no")])
async def test_a_message_that_failed_is_handled_when_it_comes_again(error: BaseException) -> None:
    works = Once(error)
    await works.process(message())
    await works.process(message())
    await works.process(message())
    assert works.handled == ["m-1"] * 2
    assert counts(works.ledger) == {"delivered": 3, "dead_lettered": 1, "done": 2, "duplicates": 1}


async def test_an_attempt_is_no_duplicate_of_the_one_before() -> None:
    works = Once(ValueError("no"), ValueError("no"), retry=a_retry(5.0, 60.0))
    await works.process(message())
    for failed in (1, 2):
        await works.process(message(headers={"x-piperun-attempt": failed}))
    await works.process(message(headers={"x-piperun-attempt": 2}))  # the copy of a worker that died before its ack
    assert works.handled == ["m-1"] * 3
    assert counts(works.ledger) == {"delivered": 4, "retried": 2, "done": 2, "duplicates": 1}


async def test_a_message_whose_time_was_up_is_handled_when_it_comes_again() -> None:
    works = Once(function=never, timeout=10.0)
    for _ in range(2):
        await works.process(message())
    assert [each.reason for each in works.seen.of(MessageFailed)] == ["timeout"] * 2


async def test_a_handler_that_is_cut_off_leaves_its_key_free() -> None:
    works = Once(gate=(gate := asyncio.Event()))
    delivery = works.delivered(message())
    running = works.begin(delivery)
    await some_turns()
    running.cancel()
    await asyncio.wait([running])
    assert delivery.settled == ["nack"]
    gate.set()
    assert (await works.process(message())).settled == ["ack"]
    assert works.handled == ["m-1"] * 2


# What is in hand elsewhere


async def test_a_copy_waits_while_the_other_is_handled_and_is_skipped_when_that_is_done() -> None:
    works = Once(gate=(gate := asyncio.Event()))
    running = [works.begin(works.delivered(message())) for _ in range(3)]
    for _ in range(20):
        await some_turns()
        works.clock.advance(1.0)
    assert works.handled == ["m-1"]
    assert [each.key for each in works.seen.of(DuplicateHeld)] == ["m-1"] * 2  # said once for each
    gate.set()
    for each in running:
        await in_time(works.clock, each)
    assert works.handled == ["m-1"]
    assert counts(works.ledger) == {"delivered": 3, "done": 3, "duplicates": 2}


async def test_a_copy_is_handled_when_the_other_has_failed() -> None:
    works = Once(ValueError("no"), None, gate=(gate := asyncio.Event()))
    running = [works.begin(works.delivered(message())) for _ in range(2)]
    await some_turns()
    gate.set()
    for each in running:
        await in_time(works.clock, each)
    assert works.handled == ["m-1"] * 2
    assert counts(works.ledger) == {"delivered": 2, "dead_lettered": 1, "done": 1}


class Taken(MemoryStore):
    """Somebody else has every key in hand."""

    def __init__(self) -> None:
        pass

    async def begin(self, key: str) -> Claim | Found:
        return Found.IN_HAND


@pytest.mark.parametrize("end", ["hold", "stop", "channel", "cut off"])
async def test_a_copy_that_waits_in_vain_goes_back_unhandled(end: str) -> None:
    works = Once(store=Taken())
    delivery = works.delivered(message())
    waiting = works.begin(delivery)
    await some_turns()
    assert not waiting.done()
    match end:
        case "hold":
            works.clock.advance(LONGEST_HOLD)
        case "stop":
            works.processor.stop_waiting()
        case "channel":
            delivery.alive = False
        case "cut off":
            waiting.cancel()
    if end == "cut off":
        await asyncio.wait([waiting])
    else:
        await in_time(works.clock, waiting)
    assert works.handled == []
    assert delivery.settled == ([] if end == "channel" else ["nack"])
    assert counts(works.ledger) == {"delivered": 1, "redelivery_expected" if end == "channel" else "returned": 1}


# A store that fails

TROUBLE = 'the idempotency store "keys.sqlite" cannot be used: database or disk is full; it is tried again'


class Failing(MemoryStore):
    """Fails so many times at each of its two steps."""

    def __init__(self, *, begin: int = 0, finish: int = 0) -> None:
        super().__init__(window=60.0, max_keys=100, clock=FakeClock(), forgets=pytest.fail)
        self.left = {"begin": begin, "finish": finish}

    async def begin(self, key: str) -> Claim | Found:
        self._fail("begin")
        return await super().begin(key)

    async def finish(self, claim: Claim) -> None:
        self._fail("finish")
        await super().finish(claim)

    def _fail(self, step: str) -> None:
        if self.left[step]:
            self.left[step] -= 1
            raise StoreError(TROUBLE)


@pytest.mark.parametrize("step", ["begin", "finish"])
async def test_a_store_that_fails_holds_the_message_until_it_works_again(step: str) -> None:
    works = Once(store=Failing(**{step: 5}))
    assert (await works.process(message())).settled == ["ack"]
    told = works.seen.of(SettleTroubled)
    assert {each.reason for each in told} == {TROUBLE}
    assert [each.next_attempt for each in told] == [0.05, 0.1, 0.2, 0.4, 0.8]
    await works.process(message())
    assert works.handled == ["m-1"]


async def test_a_store_that_never_works_gives_messages_back_unhandled() -> None:
    works = Once(store=Failing(begin=10_000))
    assert (await works.process(message())).settled == ["nack"]
    assert (works.handled, counts(works.ledger)) == ([], {"delivered": 1, "returned": 1})


@pytest.mark.parametrize("end", ["hold", "stop"])
async def test_a_message_that_is_done_is_acknowledged_although_that_cannot_be_kept(end: str) -> None:
    # Given a handler that has succeeded, and a store that takes no key
    works = Once(store=Failing(finish=10_000))
    delivery = works.delivered(message())
    running = works.begin(delivery)
    await some_turns()
    assert delivery.settled == []
    # When it may be held no longer, then it is acknowledged: given back, it would be handled twice for certain
    if end == "stop":
        works.stopping.set()
    await in_time(works.clock, running)
    assert delivery.settled == ["ack"]
    assert works.warnings == [f"<Message m-1 from 'billing', 3 bytes> is done, and that is not kept: {TROUBLE}"]
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


async def test_a_done_that_cannot_be_kept_while_the_channel_ends_is_the_documented_duplicate() -> None:
    works = Once(store=Failing(finish=1))
    delivery = works.delivered(message())
    running = works.begin(delivery)
    await some_turns()
    delivery.alive = False
    await in_time(works.clock, running)
    assert delivery.settled == []
    assert counts(works.ledger) == {"delivered": 1, "redelivery_expected": 1}


async def test_memory_that_is_full_is_said_once() -> None:
    works = Once(idempotency=an_idempotency(max_keys=2))
    for number in range(5):
        await works.process(message(f"m-{number}"))
    assert works.warnings == [
        "`max_keys` of `idempotency` is reached: keys are forgotten before their `window` is over"
    ]
