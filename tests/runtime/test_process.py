"""One delivery from its handler to its end: real handlers, with a publisher and deliveries that do what the test says.
In every mode a message is settled once, after what it caused is confirmed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.amqp.publish import Outgoing
from pipeline.errors import (
    ChannelGone,
    ConnectionLost,
    Nacked,
    NotConnected,
    PublishRefused,
    Reject,
    Retry,
    SettlementError,
    Unroutable,
)
from pipeline.events import MessageDone, MessageReceived, Notice, SettleTroubled
from pipeline.handlers.context import Context
from pipeline.message import Message
from pipeline.runtime.settle import LONGEST_HOLD
from tests.models import a_retry
from tests.runtime.stand_ins import (
    NEVER,
    Answer,
    Journal,
    ScriptedPublisher,
    counts,
    in_time,
    some_turns,
)
from tests.runtime.works import Works
from tests.waiting import deadline


def raising(error: BaseException) -> Callable[..., Coroutine[Any, Any, None]]:
    async def charge(message: Message) -> None:
        raise error

    return charge


# `ack: on_success`


async def test_a_message_is_acknowledged_after_its_output_is_confirmed() -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Works(charge)
    await works.process()
    assert works.journal == ["publish to invoices", "confirmed by invoices", "ack"]
    assert works.publisher.ids == ["m-1:charge:1"]
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


async def test_all_values_of_a_generator_are_confirmed_before_the_ack() -> None:
    async def charge(body: bytes) -> AsyncIterator[str]:
        for number in range(3):
            yield f"invoice {number}"

    works = Works(charge, [None, Nacked("full")])
    await works.process()
    assert works.journal.count("confirmed by invoices") == 3
    assert works.journal[-1] == "ack"
    assert sorted(set(map(str, works.publisher.ids))) == [f"m-1:charge:{number}" for number in (1, 2, 3)]


async def test_a_message_that_comes_again_has_outputs_with_the_same_ids() -> None:
    async def charge(body: bytes) -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await some_turns()
        if len(works.publisher.sent) == 2:
            raise ValueError("the first time")

    works = Works(charge)
    await works.process()
    await works.process()
    outputs = [each.message.message_id for each in works.publisher.sent if each.routing_key == "invoices"]
    assert outputs == ["m-1:charge:1", "m-1:charge:2"] * 2
    assert counts(works.ledger) == {"delivered": 2, "done": 1, "dead_lettered": 1}


@pytest.mark.parametrize(
    ("error", "reason", "told"),
    [
        (ValueError("no such order"), "max_attempts", "ValueError: no such order"),
        (Reject("too old"), "fatal", "Reject: too old"),
        (Reject(KeyError("id")), "fatal", "Reject: 'id'"),  # type: ignore[arg-type]  # people do that
        (Retry(after="30s"), "no_retry", "Retry: the handler asked for a retry"),
        (Retry(after="soon"), "max_attempts", 'ValueError: "soon" is not a duration'),
        (SystemExit(3), "max_attempts", "SystemExit: 3"),
        (asyncio.CancelledError("nobody's"), "max_attempts", "CancelledError: nobody's"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_handler_that_fails_has_its_message_dead_lettered(error: BaseException, reason: str, told: str) -> None:
    works = Works(raising(error))
    await works.process()
    assert works.journal == ["publish to billing.dlq", "confirmed by billing.dlq", "ack"]
    assert works.failed.reason == reason
    assert works.failed.error.startswith(told)
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_a_body_that_does_not_fit_never_reaches_the_handler() -> None:
    async def charge(order: dict[str, int]) -> None:
        raise AssertionError("it was called")

    works = Works(charge)
    await works.process(Message(b"{", content_type="application/json", message_id="m-1", queue="billing"))
    assert works.failed.reason == "decode"
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


@pytest.mark.parametrize("ack", ["on_success", "manual"])
@pytest.mark.parametrize("strategy", [None, "broker", "inline"])
async def test_a_body_that_is_too_large_never_reaches_the_handler_and_is_not_retried(
    ack: str, strategy: str | None
) -> None:
    async def charge(message: Message) -> None:
        raise AssertionError("it was called")

    retry = None if strategy is None else a_retry(5.0, strategy=strategy)
    works = Works(charge, longest=10, ack=ack, retry=retry)
    delivery = await works.process(Message(b"x" * 11, message_id="m-1", queue="billing"))
    assert delivery.settled == ["ack"]
    assert [(each.routing_key, each.body) for each in works.publisher.sent] == [("billing.dlq", b"x" * 11)]
    assert works.failed.reason == "decode"
    assert works.failed.error == "Undecodable: too large: its body has 11 bytes, and `max_message_size` is 10 bytes"
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_with_ack_none_a_body_that_is_too_large_is_dropped() -> None:
    async def charge(body: bytes) -> None:
        raise AssertionError("it was called")

    works = Works(charge, longest=10, ack="none")
    await works.process(Message(b"x" * 11, message_id="m-1", queue="billing"))
    assert (works.failed.dropped, works.publisher.sent) == (True, [])
    assert counts(works.ledger) == {"delivered": 1, "dropped": 1}


async def test_a_body_as_long_as_the_limit_is_handled_also_when_its_handler_makes_it_longer() -> None:
    async def charge(message: Message) -> None:
        message.body = b"x" * 11
        raise ValueError(str(message.attempt))

    works = Works(charge, longest=10, retry=a_retry(5.0, strategy="inline"))
    await works.process(Message(b"x" * 10, message_id="m-1", queue="billing"))
    assert (works.failed.reason, works.failed.error[:10]) == ("max_attempts", "ValueError")


async def test_a_handler_that_takes_too_long_is_ended_and_its_message_dead_lettered() -> None:
    async def charge(body: bytes) -> None:
        await asyncio.Event().wait()

    works = Works(charge, timeout=30.0)
    await works.process()
    assert (works.failed.reason, works.failed.error) == ("timeout", "TimeoutError: no end within 30 s")
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


@pytest.mark.parametrize("fault", [Unroutable(exchange="", routing_key="invoices"), PublishRefused("403")])
async def test_a_message_whose_output_was_not_taken_has_failed(fault: Exception) -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Works(charge, [fault])
    await works.process()
    assert works.journal == ["publish to invoices", "publish to billing.dlq", "confirmed by billing.dlq", "ack"]
    assert works.failed.error.startswith(type(fault).__name__)


class Unreadable(Message):
    """Whatever a user's own class may do."""

    @property
    def headers(self) -> Any:
        raise ZeroDivisionError("the user's")

    @headers.setter
    def headers(self, headers: Any) -> None:
        pass


@pytest.mark.parametrize("ack", ["on_success", "manual"])
@pytest.mark.parametrize(("result", "told"), [(object(), "EncodeError"), (Unreadable(), "ZeroDivisionError")])
async def test_a_message_whose_result_cannot_be_sent_has_failed(result: object, told: str, ack: str) -> None:
    async def charge(message: Message) -> object:
        return result

    works = Works(charge, ack=ack)
    await works.process()
    assert works.journal == ["publish to billing.dlq", "confirmed by billing.dlq", "ack"]
    assert works.failed.error.startswith(told)
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_what_was_sent_beside_a_result_that_cannot_be_sent_is_forgotten() -> None:
    async def charge(body: bytes, context: Context) -> object:
        sending = asyncio.ensure_future(context.publish("beside"))
        await some_turns()
        sending.cancel()
        return object()

    works = Works(charge, [Nacked("a queue is full"), None] + [Nacked("a queue is full")] * 100)
    await works.process()
    assert works.clock.waiting == 0
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_a_result_goes_out_beside_what_the_handler_did_not_wait_for() -> None:
    async def charge(body: bytes, context: Context) -> str:
        beside.append(asyncio.ensure_future(context.publish("beside")))
        await some_turns()
        return "the result"

    beside: list[asyncio.Future[None]] = []
    works = Works(charge, [Nacked("a queue is full")])
    await works.process()
    assert sorted(map(str, works.publisher.ids)) == ["m-1:charge:1", "m-1:charge:1", "m-1:charge:2"]
    assert works.journal.count("confirmed by invoices") == 2
    assert works.journal[-1] == "ack"


async def test_a_result_that_waits_for_its_confirm_is_given_up_with_its_message() -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Works(charge, [NEVER])
    delivery = works.delivered()
    processing = works.begin(delivery)
    await some_turns()
    processing.cancel()
    await asyncio.wait({processing})
    assert processing.cancelled()
    assert delivery.settled == ["nack"]
    assert counts(works.ledger) == {"delivered": 1, "returned": 1}


@pytest.mark.parametrize("settles", [True, False])
async def test_a_result_goes_out_whoever_settles(settles: bool) -> None:
    async def charge(message: Message) -> str:
        if settles:
            await message.ack()
        return "an invoice"

    works = Works(charge, ack="manual" if settles else "on_success")
    await works.process()
    await some_turns()
    assert "confirmed by invoices" in works.journal
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


async def test_a_full_queue_for_outputs_holds_the_message_and_no_longer_than_the_broker_allows() -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Works(charge, [Nacked("a queue is full")] * 3_000)
    started = works.clock.now()
    delivery = await works.process()
    assert len(delivery.settled) == 1 and delivery.settled != ["ack"]
    assert works.clock.now() - started <= LONGEST_HOLD + 30
    assert counts(works.ledger) == {"delivered": 1, "returned": 1}
    assert works.seen.of(SettleTroubled)[0].reason == "a queue is full"


async def test_outputs_of_a_message_that_failed_are_not_tried_for_ever() -> None:
    async def charge(body: bytes) -> AsyncIterator[str]:
        yield "an invoice"
        await some_turns()
        raise ValueError("after the first")

    works = Works(charge, [Nacked("a queue is full"), None] + [Nacked("a queue is full")] * 100)
    await works.process()
    sent = len(works.publisher.sent)
    for _ in range(50):
        works.clock.advance(10)
        await some_turns()
    assert len(works.publisher.sent) == sent
    assert works.clock.waiting == 0


async def test_a_channel_that_ends_while_outputs_wait_leaves_the_message_to_the_broker() -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Works(charge, [ConnectionLost("reset")] * 100)
    delivery = works.delivered()
    processing = works.begin(delivery)
    await some_turns()
    delivery.alive = False
    await in_time(works.clock, processing)
    assert delivery.settled == []
    assert counts(works.ledger) == {"delivered": 1, "redelivery_expected": 1}
    assert works.clock.waiting == 0


async def test_the_handler_is_not_disturbed_when_its_channel_ends() -> None:
    ended = asyncio.Event()
    done: list[str] = []

    async def charge(body: bytes) -> None:
        await ended.wait()
        done.append("to the end")

    works = Works(charge)
    delivery = works.delivered()
    processing = works.begin(delivery)
    await some_turns()
    delivery.alive = False
    ended.set()
    await in_time(works.clock, processing)
    assert done == ["to the end"]
    assert counts(works.ledger) == {"delivered": 1, "redelivery_expected": 1}


@pytest.mark.parametrize(
    ("dead_letter", "ack", "settled"), [(False, "on_success", ["ack"]), (False, "manual", ["ack"]), (None, "none", [])]
)
async def test_a_failure_that_is_not_kept_is_said_to_be_dropped(dead_letter: Any, ack: str, settled: list[str]) -> None:
    works = Works(raising(ValueError("no such order")), dead_letter=dead_letter, ack=ack)
    delivery = await works.process()
    assert delivery.settled == settled
    assert works.failed.dropped
    assert counts(works.ledger) == {"delivered": 1, "dropped": 1}


# `ack: none`


async def test_without_acknowledgement_outputs_are_still_tried_when_the_channel_has_ended() -> None:
    async def charge(body: bytes) -> str:
        return "an invoice"

    works = Works(charge, [ConnectionLost("reset")] * 3, ack="none")
    delivery = works.delivered()
    delivery.alive = False
    await in_time(works.clock, works.begin(delivery))
    assert works.journal[-1] == "confirmed by invoices"
    assert delivery.settled == []
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


# `ack: manual`

Settling = Callable[[Message], Coroutine[Any, Any, None]]


@pytest.mark.parametrize(
    ("settle", "journal", "counted"),
    [
        (lambda message: message.ack(), ["ack"], "done"),
        (
            lambda message: message.reject("too old"),
            ["publish to billing.dlq", "confirmed by billing.dlq", "ack"],
            "dead_lettered",
        ),
        (
            lambda message: message.retry(after="5s"),
            ["publish to billing.dlq", "confirmed by billing.dlq", "ack"],
            "dead_lettered",
        ),
    ],
)
async def test_the_handler_settles_by_hand(settle: Settling, journal: Journal, counted: str) -> None:
    async def charge(message: Message) -> None:
        await settle(message)
        works.journal.append("the handler goes on")

    works = Works(charge, ack="manual")
    await works.process()
    assert works.journal == [*journal, "the handler goes on"]
    assert counts(works.ledger) == {"delivered": 1, counted: 1}


async def test_ending_without_settling_is_a_failure() -> None:
    async def charge(message: Message) -> None:
        pass

    works = Works(charge, ack="manual")
    await works.process()
    assert works.failed.error == "SettlementError: the handler ended without message.ack(), reject() or retry()"
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


WAYS: list[Settling] = [lambda m: m.ack(), lambda m: m.reject("no"), lambda m: m.retry()]


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("together", [True, False])
async def test_a_second_settling_raises(first: Settling, second: Settling, together: bool) -> None:
    raised: list[BaseException | None] = []

    async def charge(message: Message) -> None:
        if together:
            raised.extend(await asyncio.gather(first(message), second(message), return_exceptions=True))
        else:
            await first(message)
            with pytest.raises(SettlementError):
                await second(message)

    works = Works(charge, ack="manual")
    delivery = await works.process()
    assert len(delivery.settled) == 1
    assert works.ledger.in_hand == 0
    if together:
        assert [type(each) for each in raised] == [type(None), SettlementError]


async def test_ack_by_hand_waits_for_what_was_published() -> None:
    async def charge(message: Message, context: Context) -> None:
        async def beside() -> None:
            await context.publish("an invoice", queue="archive")

        publishing = asyncio.create_task(beside())
        await asyncio.sleep(0)
        await message.ack()
        await publishing

    works = Works(charge, ack="manual")
    await works.process()
    assert works.journal == ["publish to archive", "confirmed by archive", "ack"]


async def test_an_ack_whose_output_was_not_taken_raises_and_may_be_followed_by_another_way() -> None:
    async def charge(message: Message, context: Context) -> None:
        publishing = asyncio.ensure_future(context.publish("an invoice", queue="archive"))
        await asyncio.sleep(0)
        with pytest.raises(Unroutable):
            await message.ack()
        with pytest.raises(Unroutable):
            await publishing
        await message.reject("its invoice cannot be archived")

    works = Works(charge, [Unroutable(exchange="", routing_key="archive")], ack="manual")
    await works.process()
    assert works.failed.error == "Reject: its invoice cannot be archived"
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_what_a_handler_raises_after_it_has_settled_is_told_and_changes_nothing() -> None:
    async def charge(message: Message) -> None:
        await message.ack()
        raise ValueError("too late")

    works = Works(charge, ack="manual")
    delivery = await works.process()
    assert delivery.settled == ["ack"]
    (notice,) = works.seen.of(Notice)
    assert "too late" in notice.sentence and notice.level == "warning"
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


@pytest.mark.parametrize(
    ("error", "told"),
    [(Reject("too old"), "Reject: too old"), (Retry(after=5), "Retry: "), (KeyError("id"), "KeyError: 'id'")],
    ids=lambda value: type(value).__name__,
)
async def test_however_a_handler_ends_after_it_has_settled_is_told(error: Exception, told: str) -> None:
    async def charge(message: Message) -> None:
        await message.ack()
        raise error

    works = Works(charge, ack="manual")
    await works.process()
    (notice,) = works.seen.of(Notice)
    assert told in notice.sentence


async def test_a_publish_whose_failure_the_handler_has_dealt_with_is_dealt_with() -> None:
    async def charge(body: str, context: Context) -> None:
        with pytest.raises(Unroutable):
            await context.publish("an invoice", queue="archive")
        await context.publish("an invoice", queue="elsewhere")

    works = Works(charge, [Unroutable(exchange="", routing_key="archive")])
    await works.process()
    assert works.journal == ["publish to archive", "publish to elsewhere", "confirmed by elsewhere", "ack"]
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


async def test_the_time_that_outputs_may_wait_begins_with_the_first_of_them() -> None:
    async def charge(body: str) -> str:
        works.clock.advance(2 * LONGEST_HOLD)  # long work, which one lost line shall not undo
        return "an invoice"

    works = Works(charge, [ConnectionLost("reset")])
    await works.process()
    assert counts(works.ledger) == {"delivered": 1, "done": 1}


@pytest.mark.parametrize("way", WAYS[1:])
async def test_a_settling_by_hand_goes_on_when_the_time_limit_ends_the_handler(way: Settling) -> None:
    async def charge(message: Message) -> None:
        await way(message)

    works = Works(charge, ack="manual", timeout=5.0)
    works.publisher.gate = asyncio.Event()
    delivery = works.delivered()
    processing = works.begin(delivery)
    for _ in range(20):
        await some_turns()
        works.clock.advance(1)
    assert not processing.done()
    works.publisher.gate.set()
    await in_time(works.clock, processing)
    assert delivery.settled == ["ack"]
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_a_settling_that_the_handler_itself_stops_waiting_for_goes_on() -> None:
    async def charge(message: Message) -> None:
        waiting = asyncio.ensure_future(message.reject("too old"))
        await some_turns()
        waiting.cancel()

    works = Works(charge, [NEVER], ack="manual")
    works.publisher.answers = []
    works.publisher.gate = asyncio.Event()
    delivery = works.delivered()
    processing = works.begin(delivery)
    await some_turns(60)
    works.publisher.gate.set()
    await in_time(works.clock, processing)
    assert delivery.settled == ["ack"]
    assert counts(works.ledger) == {"delivered": 1, "dead_lettered": 1}


async def test_a_handler_cannot_settle_by_hand_where_the_file_does_not_say_so() -> None:
    async def charge(message: Message) -> None:
        await message.ack()

    works = Works(charge)
    await works.process()
    assert "for consumers with `ack: manual`" in works.failed.error


# Being stopped


async def waits_for_ever(message: Message) -> None:
    await asyncio.Event().wait()


async def waits_for_a_confirm(message: Message) -> str:
    return "an invoice"


@pytest.mark.parametrize(
    ("function", "ack", "settled", "counted"),
    [
        (waits_for_ever, "on_success", ["nack"], "returned"),
        (waits_for_ever, "manual", ["nack"], "returned"),
        (waits_for_ever, "none", [], "dropped"),
        (waits_for_a_confirm, "on_success", ["nack"], "returned"),
        (waits_for_a_confirm, "none", [], "dropped"),
        (raising(ValueError("its copy waits")), "on_success", ["nack"], "returned"),
        (raising(ValueError("its copy waits")), "manual", ["nack"], "returned"),
    ],
)
async def test_a_message_in_hand_is_given_back_once_when_it_is_cancelled(
    function: Callable[..., Any], ack: str, settled: list[str], counted: str
) -> None:
    works = Works(function, [NEVER], ack=ack)
    delivery = works.delivered()
    processing = works.begin(delivery)
    await some_turns(40)
    processing.cancel()
    await asyncio.wait({processing})
    assert processing.cancelled()
    assert delivery.settled == settled
    assert counts(works.ledger) == {"delivered": 1, counted: 1}
    assert works.clock.waiting == 0


@pytest.mark.parametrize("way", WAYS[1:])
async def test_a_settling_by_hand_is_given_back_once_when_it_is_cancelled(way: Settling) -> None:
    async def charge(message: Message) -> None:
        await way(message)

    works = Works(charge, [NEVER], ack="manual")
    delivery = works.delivered()
    processing = works.begin(delivery)
    await some_turns(40)
    processing.cancel()
    await asyncio.wait({processing})
    await some_turns()
    assert delivery.settled == ["nack"]
    assert counts(works.ledger) == {"delivered": 1, "returned": 1}


# Told


@pytest.mark.parametrize("verbose", [True, False])
async def test_each_message_is_told_only_where_somebody_reads_it(verbose: bool) -> None:
    async def charge(body: bytes) -> None:
        works.clock.advance(2)

    works = Works(charge, verbose=verbose)
    await works.process()
    assert [(each.message_id, each.body) for each in works.seen.of(MessageReceived)] == [("m-1", b"hello")] * verbose
    assert [each.seconds for each in works.seen.of(MessageDone)] == [2.0] * verbose


async def test_a_result_that_goes_nowhere_is_warned_about_once() -> None:
    async def charge(body: bytes) -> int:
        return 7

    works = Works(charge, publish=None)
    for _ in range(3):
        await works.process()
    (notice,) = works.seen.of(Notice)
    assert notice.sentence == "the handler returned a int, and the consumer has no `publish`: it goes nowhere"
    assert counts(works.ledger) == {"delivered": 3, "done": 3}


# Whatever happens

ERRORS: list[Callable[[], BaseException | None]] = [
    lambda: None,
    lambda: ValueError("no such order"),
    lambda: Reject("too old"),
    lambda: Retry(after=5),
    lambda: ChannelGone("somebody else's"),
]
FAULTS: list[Callable[[], Answer]] = [
    lambda: None,
    lambda: Nacked("a queue is full"),
    lambda: ConnectionLost("reset by peer"),
    lambda: NotConnected("the channel had just been closed"),
    lambda: PublishRefused("403"),
    lambda: NEVER,
]


@given(
    ack=st.sampled_from(["on_success", "manual", "none"]),
    dead_letter=st.sampled_from([None, False]),
    outputs=st.integers(0, 3),
    error=st.sampled_from(ERRORS),
    ways=st.lists(st.sampled_from(WAYS), max_size=2),
    faults=st.lists(st.sampled_from(FAULTS), max_size=6),
    dies_after=st.none() | st.integers(0, 80),
    up_after=st.none() | st.integers(0, 80),
    returned=st.booleans(),
    at_once=st.booleans(),
)
def test_a_message_is_settled_once_and_counted_once_whatever_happens(
    ack: str,
    dead_letter: Any,
    outputs: int,
    error: Callable[[], BaseException | None],
    ways: list[Settling],
    faults: list[Callable[[], Answer]],
    dies_after: int | None,
    up_after: int | None,
    returned: bool,
    at_once: bool,
) -> None:
    async def charge_one(message: Message) -> str:
        if (raised := error()) is not None:
            raise raised
        return "invoice"

    async def charge(message: Message) -> AsyncIterator[str]:
        for number in range(outputs):
            yield f"invoice {number}"
        if ack == "manual":
            for way in ways:
                await way(message)
        if (raised := error()) is not None:
            raise raised

    async def play() -> None:
        one = returned and ack != "manual"
        answers = [fault() for fault in faults]
        works = Works(charge_one if one else charge, answers, ack=ack, dead_letter=dead_letter, timeout=60.0)
        works.publisher.at_once = at_once
        delivery = works.delivered()
        processing = works.begin(delivery)
        for turn in range(3_000):
            await asyncio.sleep(0)
            if processing.done():
                break
            if turn == dies_after:
                delivery.alive = False
            if turn == up_after:
                processing.cancel()
            if turn > 80:
                works.clock.advance(1.0)
            if turn > 2_000:
                processing.cancel()  # something has no answer: time is up
        await asyncio.wait({processing})
        await some_turns()
        if not processing.cancelled():
            processing.result()
        assert len(delivery.settled) <= (0 if ack == "none" else 1)
        assert works.ledger.in_hand == 0
        assert works.ledger.numbers()["delivered"] == 1
        if counts(works.ledger).get("done") and ack != "none":
            assert works.journal[-1] == "ack"
            assert works.journal.count("confirmed by invoices") == (1 if one else outputs)

    asyncio.run(play())


class DeadlineKeeper(ScriptedPublisher):
    """Sets a deadline before it waits for the first time, as for a connection that is not there yet."""

    async def send(self, outgoing: Outgoing, *, timeout: float | None) -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["reject", "retry"])
async def test_a_deadline_of_a_copy_does_not_reach_the_handler(way: str) -> None:
    async def charge(message: Message) -> None:
        try:
            await (message.reject() if way == "reject" else message.retry())
        except BaseException as error:
            told.append(error)

    told: list[BaseException] = []
    works = Works(charge, ack="manual")
    works.settler._publisher = DeadlineKeeper()
    processing = works.begin(works.delivered())
    async with asyncio.timeout(deadline(5)):
        await asyncio.wait({processing})
    assert [type(each) for each in told] == [TimeoutError]
