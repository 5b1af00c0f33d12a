"""What an exception from a handler means, and how durations are read. Nothing raises here."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Reject, Retry
from pipeline.outcome import Failed, Outcome, Rejected, RetryAsked, outcome_of, seconds, text_of


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text today")


class OwnReject(Reject):
    """One that does not call up."""

    def __init__(self, order: int) -> None:
        self.order = order


class OwnRetry(Retry):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Reject("out of stock"), Rejected("out of stock")),
        (Reject(), Rejected("rejected")),
        (Reject(ValueError("no such order")), Rejected("no such order")),  # type: ignore[arg-type]
        (Reject(Unprintable()), Rejected("(its text cannot be shown)")),  # type: ignore[arg-type]
        (OwnReject(7), Rejected("7")),
        (Retry(), RetryAsked(None, "the handler asked for a retry")),
        (Retry(after="30s"), RetryAsked(30.0, "the handler asked for a retry")),
        (Retry(after=2.5, reason="busy"), RetryAsked(2.5, "busy")),
        (Retry(after=timedelta(minutes=1)), RetryAsked(60.0, "the handler asked for a retry")),  # type: ignore[arg-type]
        (OwnRetry(), RetryAsked(None, "")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_exception_means(error: BaseException, outcome: Outcome) -> None:
    assert outcome_of(error) == outcome


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), Unprintable(), GeneratorExit()])
def test_any_other_exception_is_a_failure(error: BaseException) -> None:
    outcome = outcome_of(error)
    assert isinstance(outcome, Failed)
    assert outcome.error is error


@pytest.mark.parametrize("after", ["soon", "-5s", -1, math.nan, [], True, object(), "5", timedelta(seconds=-1)])
def test_a_retry_after_no_duration_is_a_failure_with_a_sentence(after: object) -> None:
    outcome = outcome_of(Retry(after=after))  # type: ignore[arg-type]
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ValueError)
    assert "is not a duration" in str(outcome.error)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (None, None),
        ("500ms", 0.5),
        ("30s", 30.0),
        (" 1.5 m ", 90.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        (0, 0.0),
        (3, 3.0),
        (2.5, 2.5),
        (timedelta(hours=1), 3600.0),
    ],
)
def test_durations_carry_a_unit_or_are_seconds(duration: object, expected: float | None) -> None:
    assert seconds(duration) == expected


@pytest.mark.parametrize(
    ("duration", "sentence"),
    [
        ("soon", '"soon" is not a duration; write for example "30s", "5m" or a number of seconds'),
        (True, 'a bool is not a duration; write for example "30s", "5m" or a number of seconds'),
        (-2, "-2 is not a duration: it cannot be negative"),
        (math.nan, "nan is not a duration: it cannot be negative"),
    ],
)
def test_what_is_no_duration_is_told_with_a_way_out(duration: object, sentence: str) -> None:
    with pytest.raises(ValueError) as raised:
        seconds(duration)
    assert str(raised.value) == sentence


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.binary()))
def test_every_value_is_a_finite_number_of_seconds_or_none(after: object) -> None:
    outcome = outcome_of(Retry(after=after))  # type: ignore[arg-type]
    match outcome:
        case RetryAsked(found, _):
            assert found is None or (0 <= found < math.inf)
        case Failed(error):
            assert "is not a duration" in str(error)
        case _:
            pytest.fail(f"{outcome}")


def test_the_text_of_an_exception_is_always_a_text() -> None:
    assert text_of(ValueError("no such order")) == "no such order"
    assert text_of(Unprintable()) == "(its text cannot be shown)"
