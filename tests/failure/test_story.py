"""What a dead letter tells of its failures, whoever wrote its headers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.failure.headers import dead_letter_copy
from pipeline.failure.story import Death, as_text, replays, story
from pipeline.failure.verdict import Failure
from pipeline.message import Message

THEN = datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)
MILLISECONDS = int(THEN.timestamp() * 1000)
REJECTED: dict[str, object] = {
    "queue": "billing",
    "reason": "rejected",
    "count": 2,
    "exchange": "",
    "routing-keys": ["billing"],
    "time": THEN,
}
EXPIRED: dict[str, object] = {**REJECTED, "queue": "inbox", "reason": "expired", "exchange": "orders", "count": 1}
OURS: dict[str, object] = {
    "x-piperun-attempt": 4,
    "x-piperun-reason": "max_attempts",
    "x-piperun-error-type": "KeyError",
    "x-piperun-error": "'customer'",
    "x-piperun-error-digest": "7a006cf5f76015cf",
    "x-piperun-first-failure": 1_700_000_000_000,
    "x-piperun-last-failure": 1_700_000_600_000,
    "x-piperun-queue": "billing",
    "x-piperun-exchange": "orders",
    "x-piperun-routing-key": "order.paid",
    "x-piperun-consumer": "charge",
    "x-piperun-run-id": "c0ffee00",
}


def test_what_piperun_wrote_is_read_back() -> None:
    failure = Failure(reason="fatal", error_type="Reject", error="too old")
    message = Message(b"", exchange="orders", routing_key="order.paid", queue="billing", attempt=3)
    copy = dead_letter_copy(
        message, failure, consumer="charge", run_id="c0ffee00", milliseconds=5, username="guest", mask=str
    )
    told = story(copy.headers)
    assert (told.reason, told.by_broker, told.error_type, told.error) == ("fatal", False, "Reject", "too old")
    assert (told.digest, told.attempts, told.first_failure, told.last_failure) == (failure.digest, 3, 5, 5)
    assert (told.queue, told.exchange, told.routing_key) == ("billing", "orders", "order.paid")
    assert (told.consumer, told.run_id, told.replays, told.deaths) == ("charge", "c0ffee00", 0, ())


def test_what_rabbitmq_dead_lettered_by_itself() -> None:
    told = story({"x-death": [REJECTED, EXPIRED], "x-first-death-reason": "expired"})
    assert (told.reason, told.by_broker, told.own_reason, told.error) == ("rejected", True, "", "")
    assert told.last_failure == MILLISECONDS
    assert told.deaths[0] == Death(
        queue="billing",
        reason="rejected",
        count=2,
        exchange="",
        routing_keys=("billing",),
        milliseconds=MILLISECONDS,
    )
    # It goes back to where it was last; first of all it was published somewhere else
    assert (told.queue, told.exchange, told.routing_key) == ("billing", "orders", "billing")


def test_where_both_have_written_the_broker_came_last() -> None:
    """A copy of ours carries no history of the broker's: what is there has been added since."""
    told = story({**OURS, "x-death": [REJECTED]})
    assert (told.reason, told.by_broker, told.own_reason) == ("rejected", True, "max_attempts")
    assert (told.error_type, told.attempts, told.last_failure) == ("KeyError", 4, MILLISECONDS)
    assert (told.exchange, told.routing_key) == ("orders", "order.paid")


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("x-piperun-attempt", -1, "attempts", None),
        ("x-piperun-attempt", True, "attempts", None),
        ("x-piperun-attempt", "4", "attempts", None),
        ("x-piperun-reason", 5, "reason", ""),
        ("x-piperun-reason", b"\xff", "reason", ""),
        ("x-piperun-last-failure", 2**62, "last_failure", None),
        ("x-piperun-first-failure", 0, "first_failure", None),
        ("x-piperun-exchange", None, "exchange", None),
        ("x-piperun-replays", 3, "replays", 3),
        ("x-piperun-replays", -3, "replays", 0),
        ("x-piperun-replays", 2**40, "replays", 0),
        ("x-piperun-replays", "3", "replays", 0),
        ("x-death", "rejected", "deaths", ()),
        ("x-death", ["rejected", {"queue": 5, "reason": "x"}, {"queue": "q"}], "deaths", ()),
    ],
)
def test_a_header_that_cannot_be_true_counts_as_absent(name: str, value: object, field: str, read: object) -> None:
    assert getattr(story({**OURS, name: value}), field) == read


short = st.text(max_size=5)
leaves = st.none() | st.booleans() | st.integers() | short | st.binary(max_size=5) | st.floats() | st.datetimes()
deaths = st.dictionaries(st.sampled_from([*REJECTED]), leaves | st.lists(leaves, max_size=2), max_size=6)
anything = leaves | st.lists(leaves | deaths, max_size=2)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from([*OURS, "x-death", "x-piperun-replays"]), anything, max_size=6))
def test_no_header_can_break_it(headers: dict[str, Any]) -> None:
    told = story(headers)
    assert told.kind == story(headers).kind
    assert all(isinstance(text, str) for text in told.told().values())


def test_a_forged_history_is_bounded() -> None:
    deaths = [{**REJECTED, "queue": str(number), "routing-keys": ["k"] * 1_000} for number in range(1_000)]
    told = story({"x-death": deaths})
    assert len(told.deaths) == 32
    assert len(told.deaths[0].routing_keys) == 8


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (OURS, {**OURS, "x-piperun-queue": "other", "x-piperun-last-failure": 7}, True),
        (OURS, {**OURS, "x-piperun-error-digest": "0"}, False),
        (OURS, {**OURS, "x-piperun-reason": "timeout"}, False),
        (OURS, {**OURS, "x-death": [REJECTED]}, False),
        ({"x-death": [REJECTED]}, {**OURS, "x-death": [REJECTED, EXPIRED]}, True),
        ({"x-death": [REJECTED]}, {"x-death": [{**REJECTED, "queue": "other"}]}, False),
        ({"x-death": [REJECTED]}, {"x-death": [{**REJECTED, "reason": "expired"}]}, False),
        ({}, {"region": "eu"}, True),
    ],
)
def test_what_is_of_one_kind(one: dict[str, object], other: dict[str, object], alike: bool) -> None:
    assert (story(one).kind == story(other).kind) is alike


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("eu", "eu"),
        (5, "5"),
        (True, "true"),
        (None, ""),
        (b"\xffa", "\\xffa"),
        (bytearray(b"a"), "a"),
        (THEN, "1795654923"),
    ],
)
def test_a_value_is_asked_for_as_it_is_written(value: object, text: str) -> None:
    assert as_text(value) == text


def test_replays_of_a_message_without_headers() -> None:
    assert replays({}) == 0
