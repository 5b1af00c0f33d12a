"""The books of the fault tests themselves: what they let pass, and each thing that they must not."""

from collections.abc import Sequence

import pytest

from tests.faults.ledger import Books, Sight, Where, Window, discrepancies_of, terms


def sight(number: int, where: Where = "handled", *, redelivered: bool = False) -> Sight:
    return Sight(number=number, where=where, redelivered=redelivered)


def books(*sights: Sight, confirmed: Sequence[int] = (), windows: Sequence[Window] = ()) -> Books:
    return Books(confirmed=confirmed, offered=range(10), sights=sights, windows=windows)


def test_what_is_confirmed_may_be_in_any_of_three_places() -> None:
    books(sight(0), sight(1, "dead-lettered"), sight(2, "queued"), confirmed=[0, 1, 2]).must_add_up()


def test_what_is_not_confirmed_may_have_arrived_or_not() -> None:
    books(sight(0), sight(5), confirmed=[0]).must_add_up()


def test_a_message_that_is_lost_is_named() -> None:
    with pytest.raises(AssertionError, match="3, 4: confirmed, and found nowhere"):
        books(sight(0), confirmed=[0, 3, 4]).must_add_up()


def test_many_lost_messages_are_a_few_and_a_count() -> None:
    lost = Books(confirmed=range(100), offered=range(100), sights=[]).discrepancies()
    assert lost == ["0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 88 more: confirmed, and found nowhere"]


def test_a_message_that_nobody_sent_is_named() -> None:
    assert books(sight(77)).discrepancies() == ["77: found, and sent by nobody"]


AGAIN = sight(1, redelivered=True)
DUPLICATES = {
    "two messages": ([sight(1), sight(1)], {Window.SENT_AGAIN, Window.COPIED}),
    "two messages, one still queued": ([sight(1), sight(1, "queued")], {Window.SENT_AGAIN, Window.COPIED}),
    "one message, handled twice": ([sight(1), AGAIN], {Window.NOT_ACKED}),
    "one message, given back before it was handled twice": ([AGAIN, AGAIN], {Window.NOT_ACKED}),
    "one message, handled and back in the queue": (
        [sight(1), sight(1, "queued", redelivered=True)],
        {Window.NOT_ACKED},
    ),
    "copied, and back in the queue": (
        [sight(1, "dead-lettered"), sight(1, "queued", redelivered=True)],
        {Window.COPIED, Window.SENT_AGAIN},
    ),
    "copied twice": ([sight(1, "dead-lettered")] * 2, {Window.COPIED, Window.SENT_AGAIN}),
}


@pytest.mark.parametrize(("sights", "explained_by"), DUPLICATES.values(), ids=DUPLICATES.keys())
def test_a_duplicate_needs_the_window_that_explains_it(sights: list[Sight], explained_by: set[Window]) -> None:
    for window in Window:
        wrong = books(*sights, windows=[window]).discrepancies()
        assert (not wrong) == (window in explained_by), wrong
    assert books(*sights).discrepancies()[0].startswith("1: more than once, which would need: ")


LINE = "10:00:00 pipeline: ended after 1.2 s: 3 sent and confirmed, 4 delivered, 2 done, 1 dead-lettered, 1 returned"


def test_the_last_line_of_a_run_is_read_by_its_words() -> None:
    assert terms(LINE) == {"sent and confirmed": 3, "delivered": 4, "done": 2, "dead-lettered": 1, "returned": 1}
    assert terms("10:00:00 pipeline: ended after 300 ms: 0 delivered, 0 done") == {"delivered": 0, "done": 0}


def test_a_last_line_that_agrees() -> None:
    sights = [sight(0), sight(1), sight(2, "dead-lettered"), sight(3, "queued", redelivered=True)]
    books(*sights, confirmed=[0, 1, 2]).must_add_up(LINE)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (LINE.replace("4 delivered", "5 delivered"), "5 delivered, and 4 ends"),
        (LINE.replace("1 returned", "1 DROPPED"), "1 DROPPED"),
        (LINE.replace("3 sent", "5 sent"), "5 sent and confirmed, and 4 numbers were found"),
        (LINE.replace("2 done, 1 dead", "3 done, 0 dead"), "3 done, and 2 were handled"),
        (LINE.replace("2 done, 1 dead", "1 done, 2 dead"), "2 dead-lettered, and 1 are in the dead-letter queue"),
    ],
)
def test_a_last_line_that_says_more_than_was_found(line: str, wrong: str) -> None:
    sights = [sight(0), sight(1), sight(2, "dead-lettered"), sight(3, "queued", redelivered=True)]
    assert discrepancies_of(line, sights) == [wrong]
