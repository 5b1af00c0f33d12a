"""What goes back to a work queue: the same message, its attempts forgotten, and nothing on it that would act again."""

from hypothesis import given, settings

from pipeline.failure.headers import PREFIX, dead_letter_copy
from pipeline.failure.replayed import replayed
from pipeline.failure.story import story
from pipeline.failure.verdict import Failure
from pipeline.message import Message
from tests.failure.test_dead_letter_headers import KEPT, messages
from tests.failure.test_story import EXPIRED, OURS, REJECTED


def sent_back(message: Message, username: str = "guest") -> Message:
    return replayed(message, story(message.headers), username=username)


def failed(message: Message) -> Message:
    failure = Failure(reason="max_attempts", error_type="KeyError", error="'customer'")
    return dead_letter_copy(
        message, failure, consumer="charge", run_id="c0ffee00", milliseconds=9, username="guest", mask=str
    )


@settings(max_examples=50)
@given(messages)
def test_identity_is_kept_through_a_failure_and_a_replay(message: Message) -> None:
    back = sent_back(failed(message))
    kept = [name for name in KEPT if name != "message_id" or message.message_id]
    assert [getattr(back, name) for name in kept] == [getattr(message, name) for name in kept]
    assert back.message_id
    assert {name: value for name, value in back.headers.items() if not name.startswith(PREFIX)} == message.headers
    assert (back.delivery_mode, back.expiration) == ("persistent", None)


def test_attempts_are_counted_anew_and_replays_one_on() -> None:
    once = sent_back(Message(b"", headers=OURS))
    assert "x-piperun-attempt" not in once.headers
    assert once.headers["x-piperun-replays"] == 1
    # What failed again tells so, and is counted on
    again = failed(once)
    assert again.headers["x-piperun-replays"] == 1
    assert (again.headers["x-piperun-exchange"], again.headers["x-piperun-routing-key"]) == ("orders", "order.paid")
    assert sent_back(again).headers["x-piperun-replays"] == 2


def test_a_count_that_was_forged_begins_anew() -> None:
    message = Message(b"", headers={"x-piperun-replays": "many"})
    assert sent_back(message).headers["x-piperun-replays"] == 1
    assert "x-piperun-replays" not in failed(message).headers


def test_the_history_of_the_broker_stays_behind_and_where_it_came_from_goes_along() -> None:
    headers = {"x-death": [REJECTED, EXPIRED], "x-first-death-queue": "inbox", "x-delivery-count": 2, "CC": ["audit"]}
    back = sent_back(Message(b"", headers={**headers, "region": "eu"}))
    assert back.headers == {
        "region": "eu",
        "x-piperun-replays": 1,
        "x-piperun-queue": "billing",
        "x-piperun-exchange": "orders",
        "x-piperun-routing-key": "billing",
    }


def test_properties_that_the_broker_would_act_on_become_headers() -> None:
    message = Message(b"", user_id="somebody", expiration=60_000)
    back = sent_back(message)
    assert (back.user_id, back.expiration) == (None, None)
    assert back.headers["x-piperun-orig-user-id"] == "somebody"
    assert back.headers["x-piperun-orig-expiration"] == 60_000
    assert sent_back(message, username="somebody").user_id == "somebody"
