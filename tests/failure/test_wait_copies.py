"""The copy that waits: the same message with the story of its failure; and how far that story is believed when it
comes back, or when somebody else has written it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.failure.headers import recall, wait_copy
from pipeline.failure.verdict import Failure, Policy
from pipeline.message import Message
from tests.failure.test_dead_letter_headers import KEPT, NOW, messages, names, ours, values

FAILURE = Failure(reason="max_attempts", error_type="ValueError", error="boom")
POLICY = Policy(delays=(5.0, 60.0, 600.0), strategy="broker")
NATIVE = Policy(delays=(5.0, 10.0), strategy="native")


def waiting(message: Message, **changes: Any) -> Message:
    around: dict[str, Any] = {"consumer": "charge", "run_id": "c0ffee00", "milliseconds": NOW, "username": "app"}
    return wait_copy(message, FAILURE, **{**around, "mask": str, **changes})


def back(copy: Message, queue: str = "billing") -> Message:
    """As the broker delivers it from the wait queue: through the default exchange, by name, with its own history."""
    return Message(
        copy.body,
        headers={**copy.headers, "x-death": [{"queue": "billing.retry.5000ms", "count": 1}]},
        exchange="",
        routing_key=queue,
        queue=queue,
        **{name: getattr(copy, name) for name in KEPT if name != "body"},
    )


@settings(max_examples=25)
@given(messages)
def test_identity_is_kept_through_all_attempts(message: Message) -> None:
    message.queue, message.attempt = "billing", 1
    message.exchange, message.routing_key = "orders", "order.paid"
    before = dict(message.headers)
    for attempt in (2, 3, 4):
        copy = back(waiting(message))
        assert recall(copy, POLICY) is None
        assert copy.attempt == attempt
        assert (copy.exchange, copy.routing_key) == ("orders", "order.paid")
        assert {name: getattr(copy, name) for name in KEPT} == {name: getattr(message, name) for name in KEPT}
        assert {name: each for name, each in copy.headers.items() if name in before} == before
        assert copy.headers.get("x-piperun-orig-expiration") == message.headers.get(
            "x-piperun-orig-expiration", message.expiration
        )
        assert "x-death" not in waiting(copy).headers
        message = copy


def test_the_story_of_a_message_that_waits_has_no_reason_yet() -> None:
    message = Message(b"", exchange="orders", routing_key="order.paid", queue="billing", attempt=2)
    assert ours(waiting(message)) == {
        "x-piperun-attempt": 2,
        "x-piperun-error-type": "ValueError",
        "x-piperun-error": "boom",
        "x-piperun-error-digest": FAILURE.digest,
        "x-piperun-first-failure": NOW,
        "x-piperun-last-failure": NOW,
        "x-piperun-queue": "billing",
        "x-piperun-exchange": "orders",
        "x-piperun-routing-key": "order.paid",
        "x-piperun-consumer": "charge",
        "x-piperun-run-id": "c0ffee00",
    }


def arrived(**headers: object) -> Message:
    return Message(
        b"",
        headers={f"x-piperun-{name.replace('_', '-')}": value for name, value in headers.items()},
        exchange="there",
        routing_key="that",
        queue="billing",
    )


@pytest.mark.parametrize(
    ("failed", "attempt", "believed"),
    [
        (0, 1, True),
        (1, 2, True),
        (4, 5, True),
        (5, 1, False),
        (-1, 1, False),
        (2**63 - 1, 1, False),
        (True, 1, False),
        ("2", 1, False),
        (2.0, 1, False),
        (b"2", 1, False),
        ([2], 1, False),
        ({"a": 2}, 1, False),
    ],
)
def test_a_count_is_believed_only_where_it_can_be_true(failed: object, attempt: int, believed: bool) -> None:
    message = arrived(attempt=failed, queue="billing", exchange="orders", routing_key="order.paid")
    said = recall(message, POLICY)
    assert (said is None) == believed
    assert message.attempt == attempt
    first = ("orders", "order.paid") if attempt > 1 else ("there", "that")
    assert (message.exchange, message.routing_key) == first


def test_what_is_not_believed_is_told_bounded() -> None:
    assert recall(arrived(attempt="9" * 5_000, queue="billing"), POLICY) == f"x-piperun-attempt: {'9' * 252}..."


def test_the_story_of_another_queue_is_not_the_story_of_this_one() -> None:
    message = arrived(attempt=2, queue="orders", exchange="orders", routing_key="order.paid")
    assert recall(message, POLICY) is None
    assert (message.attempt, message.exchange, message.routing_key) == (1, "there", "that")


def test_a_message_without_a_story_is_at_its_first_attempt() -> None:
    message = arrived()
    assert recall(message, POLICY) is None
    assert (message.attempt, message.exchange) == (1, "there")


@pytest.mark.parametrize("where", [{"exchange": 5, "routing_key": "a"}, {"exchange": "a"}, {}])
def test_an_origin_that_is_no_text_is_not_believed(where: dict[str, Any]) -> None:
    message = arrived(attempt=1, queue="billing", **where)
    assert recall(message, POLICY) is None
    assert (message.attempt, message.exchange, message.routing_key) == (2, "there", "that")


@settings(max_examples=25)
@given(st.dictionaries(names | st.sampled_from(["x-piperun-attempt", "x-piperun-queue", "x-delivery-count"]), values))
@pytest.mark.parametrize("policy", [POLICY, NATIVE], ids=lambda policy: policy.strategy)
def test_no_header_does_more_than_use_up_attempts(policy: Policy, headers: dict[str, Any]) -> None:
    message = Message(b"hello", headers=headers, queue="billing", redelivered=True)
    recall(message, policy)
    assert type(message.attempt) is int and 1 <= message.attempt <= policy.attempts + 1
    copy = waiting(message)
    size = sum(len(name.encode()) + len(str(value).encode()) for name, value in ours(copy).items())
    assert size <= 4096


@pytest.mark.parametrize(
    ("expiration", "user_id", "kept"),
    [
        (60_000, "somebody", {"x-piperun-orig-expiration": 60_000, "x-piperun-orig-user-id": "somebody"}),
        ("soon", 5, {}),
        (-1, None, {}),
        (True, b"x", {}),
        (2**63, ["x"], {}),
    ],
)
def test_properties_that_the_first_copy_could_not_keep_stay_in_its_headers(
    expiration: object, user_id: object, kept: dict[str, object]
) -> None:
    message = arrived(attempt=1, queue="billing", orig_expiration=expiration, orig_user_id=user_id)
    recall(message, POLICY)
    found = {name: value for name, value in waiting(message).headers.items() if "-orig-" in name}
    assert found == kept


def test_they_are_not_taken_from_a_message_that_has_not_failed_yet() -> None:
    message = arrived(orig_expiration=60_000, orig_user_id="somebody")
    recall(message, POLICY)
    assert not any("-orig-" in name for name in waiting(message).headers)


# The broker's own count


@pytest.mark.parametrize(
    ("redelivered", "count", "attempt", "believed"),
    [
        (True, 1, 2, True),
        (True, 3, 4, True),
        (True, None, 1, True),
        (False, 2, 1, True),  # at the first delivery the header is a publisher's
        (True, 4, 1, False),
        (True, -1, 1, False),
        (True, "1", 1, False),
    ],
)
def test_with_the_native_strategy_the_broker_counts(
    redelivered: bool, count: object, attempt: int, believed: bool
) -> None:
    headers = {} if count is None else {"x-delivery-count": count}
    message = Message(b"", headers=headers, queue="billing", redelivered=redelivered)
    assert (recall(message, NATIVE) is None) == believed
    assert message.attempt == attempt
