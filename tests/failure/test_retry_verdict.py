"""What becomes of a message whose consumer has a `retry`: every kind of failure, at every attempt."""

from typing import Any

import pytest

from pipeline.failure.verdict import Acknowledge, DeadLetter, Drop, Failure, GiveBack, HandleAgain, Policy, decide
from pipeline.outcome import DONE, GIVEN_BACK, Failed, Outcome, Rejected, RetryAsked, TimedOut, Undecodable


class Transient(Exception):
    pass


class Busy(Transient):
    pass


def a_policy(*delays: float, **changes: Any) -> Policy:
    return Policy(**{"delays": delays or (5.0, 60.0), "strategy": "broker", **changes})


def verdict(outcome: Outcome, policy: Policy, attempt: int = 1) -> Any:
    return decide(outcome, ack="on_success", dead_letter=True, policy=policy, attempt=attempt)


@pytest.mark.parametrize(
    ("outcome", "after", "reason"),
    [
        (Failed(ValueError("boom")), [5.0, 60.0], "max_attempts"),
        (TimedOut(30.0), [5.0, 60.0], "timeout"),
        (RetryAsked(None, "busy"), [5.0, 60.0], "max_attempts"),
        (RetryAsked(30.0, "busy"), [60.0, 60.0], "max_attempts"),
        (RetryAsked(0.0, "busy"), [5.0, 5.0], "max_attempts"),
    ],
)
def test_a_failure_is_handled_again_until_the_attempts_are_used_up(
    outcome: Outcome, after: list[float], reason: str
) -> None:
    first, second, third = (verdict(outcome, a_policy(), attempt) for attempt in (1, 2, 3))
    assert [first.after, second.after] == after
    assert isinstance(first, HandleAgain) and isinstance(second, HandleAgain) and isinstance(third, DeadLetter)
    assert third.failure.reason == reason


@pytest.mark.parametrize(("outcome", "reason"), [(Rejected("too old"), "fatal"), (Undecodable("no JSON"), "decode")])
def test_what_can_never_succeed_is_dead_lettered_at_once(outcome: Outcome, reason: str) -> None:
    told = verdict(outcome, a_policy())
    assert (type(told), told.failure.reason) == (DeadLetter, reason)


@pytest.mark.parametrize(("outcome", "expected"), [(DONE, Acknowledge()), (GIVEN_BACK, GiveBack())])
def test_success_and_giving_back_stay_what_they_are(outcome: Outcome, expected: object) -> None:
    assert verdict(outcome, a_policy()) == expected


@pytest.mark.parametrize(
    ("only", "excluded", "error", "again"),
    [
        ((), (), ValueError(), True),
        ((Transient,), (), Transient(), True),
        ((Transient,), (), Busy(), True),
        ((Transient,), (), ValueError(), False),
        ((Transient, TimeoutError), (), TimeoutError(), True),
        ((), (Busy,), Busy(), False),
        ((), (Busy,), Transient(), True),
        ((Transient,), (Busy,), Busy(), False),
        ((Transient,), (Busy,), Transient(), True),
        ((Exception,), (), SystemExit(), False),
        ((), (), SystemExit(), True),
    ],
)
def test_only_and_except_choose_by_the_class(only: Any, excluded: Any, error: BaseException, again: bool) -> None:
    told = verdict(Failed(error), a_policy(only=only, excluded=excluded))
    assert isinstance(told, HandleAgain if again else DeadLetter)
    assert again or told.failure.reason == "fatal"


@pytest.mark.parametrize(
    ("only", "excluded", "again"),
    [((TimeoutError,), (), True), ((OSError,), (), True), ((ValueError,), (), False), ((), (TimeoutError,), False)],
)
def test_a_timeout_counts_as_a_timeout_error(only: Any, excluded: Any, again: bool) -> None:
    told = verdict(TimedOut(30.0), a_policy(only=only, excluded=excluded))
    assert isinstance(told, HandleAgain if again else DeadLetter)
    assert again or told.failure.reason == "timeout"


def test_who_asks_for_another_attempt_gets_it_whatever_the_classes_are() -> None:
    assert isinstance(verdict(RetryAsked(None, "busy"), a_policy(only=(ValueError,))), HandleAgain)


def test_how_long_a_message_waits_in_its_own_queue_is_the_brokers_to_say() -> None:
    assert verdict(RetryAsked(60.0, "busy"), a_policy(strategy="native")).after == 5.0


@pytest.mark.parametrize("attempt", [3, 4, 99])
def test_more_attempts_than_there_can_be_end_at_the_next_failure(attempt: int) -> None:
    assert isinstance(verdict(Failed(ValueError()), a_policy(), attempt), DeadLetter)


def test_without_a_dead_letter_queue_the_last_failure_is_dropped() -> None:
    def told(attempt: int) -> object:
        outcome = Rejected("too old") if attempt == 0 else Failed(ValueError())
        return decide(outcome, ack="on_success", dead_letter=False, policy=a_policy(5.0), attempt=max(attempt, 1))

    assert [type(told(attempt)) for attempt in (0, 1, 2)] == [Drop, HandleAgain, Drop]


def test_without_retry_the_wish_for_one_ends_with_its_reason() -> None:
    told = decide(RetryAsked(5.0, "busy"), ack="on_success", dead_letter=True)
    assert told == DeadLetter(Failure(reason="no_retry", error_type="Retry", error="busy"))
