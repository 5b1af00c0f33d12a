"""What becomes of a message: every outcome with every `ack`, with a dead-letter queue and without."""

from collections.abc import Callable
from itertools import product

import pytest

from pipeline.config.model import Ack
from pipeline.failure.verdict import Acknowledge, DeadLetter, Drop, Failure, GiveBack, decide, failure_of
from pipeline.outcome import DONE, GIVEN_BACK, Failed, Outcome, Rejected, RetryAsked, TimedOut, Undecodable, seconds

ACKS: tuple[Ack, ...] = ("on_success", "manual", "none")
FAILURES: list[tuple[RetryAsked | Rejected | Undecodable | Failed | TimedOut, Failure]] = [
    (Rejected("too old"), Failure(reason="fatal", error_type="Reject", error="too old")),
    (RetryAsked(5.0, "busy"), Failure(reason="no_retry", error_type="Retry", error="busy")),
    (Undecodable("no JSON"), Failure(reason="decode", error_type="Undecodable", error="no JSON")),
    (TimedOut(2.5), Failure(reason="timeout", error_type="TimeoutError", error="no end within 2.5 s")),
    (Failed(KeyError("id")), Failure(reason="max_attempts", error_type="KeyError", error="'id'")),
]


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.parametrize("dead_letter", [True, False])
@pytest.mark.parametrize(("outcome", "verdict"), [(DONE, Acknowledge()), (GIVEN_BACK, GiveBack())])
def test_success_and_giving_back_are_the_same_everywhere(
    outcome: Outcome, verdict: object, ack: Ack, dead_letter: bool
) -> None:
    assert decide(outcome, ack=ack, dead_letter=dead_letter) == verdict


@pytest.mark.parametrize(("outcome", "failure"), FAILURES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(("ack", "dead_letter"), list(product(ACKS, [True, False])))
def test_a_failure_is_copied_where_there_is_a_queue_for_it_and_a_message_to_copy(
    outcome: Outcome, failure: Failure, ack: Ack, dead_letter: bool
) -> None:
    kept = ack != "none" and dead_letter
    assert decide(outcome, ack=ack, dead_letter=dead_letter) == (DeadLetter(failure) if kept else Drop(failure))


@pytest.mark.parametrize(("outcome", "failure"), FAILURES, ids=lambda value: type(value).__name__)
def test_each_failure_has_a_reason_and_what_to_search_for(
    outcome: RetryAsked | Rejected | Undecodable | Failed | TimedOut, failure: Failure
) -> None:
    assert failure_of(outcome) == failure


def raised_by(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def test_an_exception_is_told_with_the_places_of_the_users_code() -> None:
    class OutOfStock(Exception):
        pass

    def look_up() -> None:
        raise OutOfStock("no more tea")

    failure = failure_of(Failed(raised_by(lambda: look_up())))
    assert failure.error_type.endswith("OutOfStock")
    assert failure.error == "no more tea"
    *_, last = failure.frames
    assert last.startswith(f"{__file__}:")
    assert last.endswith(" in look_up")


def test_the_places_of_piperun_itself_are_left_out() -> None:
    # `seconds` is ours: an exception that it raises shows only by whom it was called.
    failure = failure_of(Failed(raised_by(lambda: seconds("soon"))))
    assert [frame.rsplit(" in ", 1)[1] for frame in failure.frames] == ["raised_by", "<lambda>"]


def test_an_endless_recursion_is_told_in_a_few_places() -> None:
    def endless() -> object:
        return endless()

    failure = failure_of(Failed(raised_by(endless)))
    assert failure.error_type == "RecursionError"
    assert 0 < len(failure.frames) <= 10
    assert failure.frames[-1].endswith(" in endless")


def test_an_exception_that_cannot_print_itself_is_still_a_failure() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text today")

    assert failure_of(Failed(Unprintable())).error == "(its text cannot be shown)"


def test_failures_of_one_kind_have_one_digest() -> None:
    one, same = (failure_of(Rejected("too old")).digest for _ in range(2))
    others = [
        failure_of(each).digest for each in (Rejected("too new"), Undecodable("too old"), Failed(Exception("\ud800")))
    ]
    assert one == same
    assert len({one, *others}) == 4
    assert all(len(digest) == 16 for digest in (one, *others))
