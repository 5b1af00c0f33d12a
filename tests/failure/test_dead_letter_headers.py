"""The copy for the dead-letter queue: identity kept property by property, the story of the failure within bounds, and
nothing on it that would act again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.failure.headers import PREFIX, dead_letter_copy, without_user_headers
from pipeline.failure.verdict import Failure
from pipeline.message import Headers, Message

FAILURE = Failure(reason="fatal", error_type="Reject", error="too old")
NOW = 1_700_000_000_000
KEPT = ["content_type", "content_encoding", "priority", "correlation_id", "reply_to", "message_id", "timestamp"]
KEPT += ["type", "app_id", "body"]

short = st.text(max_size=60)
# Hypothesis tries the constants of the code it tests: names of the broker's own are looked at by themselves.
names = short.filter(lambda name: not name.startswith((PREFIX, "x-", "CC", "BCC")))
maybe = st.none() | short
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=20) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
messages = st.builds(
    Message,
    st.binary(max_size=50),
    headers=st.dictionaries(names, values, max_size=5),
    content_type=maybe,
    content_encoding=maybe,
    delivery_mode=st.sampled_from([None, "persistent", "transient"]),
    priority=st.none() | st.integers(0, 255),
    correlation_id=maybe,
    reply_to=maybe,
    expiration=st.none() | st.integers(0, 10**9),
    message_id=maybe,
    timestamp=st.none() | st.integers(0, 2**40),
    type=maybe,
    user_id=st.sampled_from([None, "app", "somebody"]),
    app_id=maybe,
    exchange=maybe,
    routing_key=maybe,
    queue=short,
    redelivered=st.booleans(),
    attempt=st.integers(1, 5),
)


def copied(message: Message, failure: Failure = FAILURE, **changes: Any) -> Message:
    around: dict[str, Any] = {
        "consumer": "charge",
        "run_id": "c0ffee00",
        "milliseconds": NOW,
        "username": "app",
        "mask": lambda text: text,
    }
    return dead_letter_copy(message, failure, **{**around, **changes})


def ours(message: Message) -> Headers:
    return {name: value for name, value in message.headers.items() if name.startswith(PREFIX)}


@given(messages)
def test_identity_is_kept_property_by_property(message: Message) -> None:
    copy = copied(message)
    assert {name: getattr(copy, name) for name in KEPT} == {name: getattr(message, name) for name in KEPT}


@given(messages)
def test_the_users_headers_are_kept_value_for_value(message: Message) -> None:
    before = dict(message.headers)
    copy = copied(message)
    assert {name: value for name, value in copy.headers.items() if name not in ours(copy)} == before
    assert message.headers == before  # and the message itself stays as it came


@given(messages)
def test_nothing_that_would_end_it_or_be_refused_is_on_the_copy(message: Message) -> None:
    copy = copied(message)
    assert copy.expiration is None
    assert copy.delivery_mode == "persistent"
    assert copy.user_id == ("app" if message.user_id == "app" else None)
    assert copy.headers.get("x-piperun-orig-expiration") == message.expiration
    assert copy.headers.get("x-piperun-orig-user-id") == (message.user_id if message.user_id == "somebody" else None)


def test_the_story_of_the_failure() -> None:
    message = Message(b"", exchange="orders", routing_key="order.paid", queue="billing", attempt=3)
    assert ours(copied(message)) == {
        "x-piperun-attempt": 3,
        "x-piperun-reason": "fatal",
        "x-piperun-error-type": "Reject",
        "x-piperun-error": "too old",
        "x-piperun-error-digest": FAILURE.digest,
        "x-piperun-first-failure": NOW,
        "x-piperun-last-failure": NOW,
        "x-piperun-queue": "billing",
        "x-piperun-exchange": "orders",
        "x-piperun-routing-key": "order.paid",
        "x-piperun-consumer": "charge",
        "x-piperun-run-id": "c0ffee00",
    }


@pytest.mark.parametrize(
    "name",
    ["CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"]
    + [f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")]
    + ["x-piperun-reason", "x-piperun-replays", "x-piperun-of-somebody"],
)
def test_what_belongs_to_the_broker_or_to_an_earlier_copy_is_left_out(name: str) -> None:
    copy = copied(Message(b"", headers={name: "as it came", "region": "eu"}))
    assert "as it came" not in copy.headers.values()
    assert copy.headers["region"] == "eu"


@pytest.mark.parametrize(
    ("recorded", "first"),
    [
        (NOW - 5_000, NOW - 5_000),
        (NOW, NOW),
        (NOW + 1, NOW),  # in the future
        (0, NOW),
        (-5, NOW),
        (True, NOW),
        ("yesterday", NOW),
        (1.5, NOW),
        (None, NOW),
    ],
)
def test_an_earlier_first_failure_is_believed_only_where_it_can_be_true(recorded: object, first: int) -> None:
    copy = copied(Message(b"", headers={"x-piperun-first-failure": recorded}))
    assert (copy.headers["x-piperun-first-failure"], copy.headers["x-piperun-last-failure"]) == (first, NOW)


@given(
    st.text(max_size=5_000) | st.just("ß€𐍈" * 2_000) | st.just("\ud800"),
    st.text(max_size=2_000),
    st.text(max_size=2_000),
)
def test_all_our_headers_together_take_4_kib_at_most_and_are_writable(error: str, kind: str, name: str) -> None:
    failure = Failure(reason="max_attempts", error_type=kind, error=error)
    message = Message(b"", exchange=name, routing_key=name, queue=name, user_id=name + "!", expiration=5)
    headers = ours(copied(message, failure, consumer=name))
    size = sum(len(key.encode()) + len(str(value).encode()) for key, value in headers.items())
    assert size <= 4096
    assert len(str(headers["x-piperun-error"]).encode()) <= 1024


def test_a_text_that_is_too_long_is_cut_between_characters_and_says_so() -> None:
    copy = copied(Message(b""), Failure(reason="fatal", error_type="Reject", error="€" * 1_000))
    error = str(copy.headers["x-piperun-error"])
    assert error.endswith("€...")
    assert len(error.encode()) <= 1024


def test_secrets_are_masked_before_the_text_is_cut() -> None:
    secret = "s3cret" * 100
    failure = Failure(reason="fatal", error_type="Reject", error="." * 800 + secret)
    copy = copied(Message(b""), failure, mask=lambda text: text.replace(secret, "***"))
    assert copy.headers["x-piperun-error"] == "." * 800 + "***"


@given(st.dictionaries(names, values, max_size=40))
def test_headers_that_cannot_be_written_are_named_instead_of_carried(headers: dict[str, object]) -> None:
    copy = copied(Message(b"hello", headers=headers, message_id="m-1"))
    story = ours(copy)
    bare = without_user_headers(copy)
    assert (bare.body, bare.message_id) == (b"hello", "m-1")
    left_out = str(bare.headers.pop("x-piperun-headers-left-out"))
    assert bare.headers == story
    assert len(left_out.encode()) <= 255
    if len(", ".join(headers).encode()) <= 255:
        assert left_out == ", ".join(headers)
