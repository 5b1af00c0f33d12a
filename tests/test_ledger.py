"""The numbers add up, in any order of counting, in a list and in memory that is shared."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import CONSUMER_TERMS, DUPLICATES, WIDTH, Cells, ConsumerLedger, ProducerLedger, total

ENDS = [term for term in CONSUMER_TERMS if term != "delivered"]


def in_a_list() -> Cells:
    return [0] * WIDTH


def in_shared_memory() -> Cells:
    return memoryview(bytearray(8 * WIDTH)).cast("q")


@given(st.lists(st.sampled_from(CONSUMER_TERMS), max_size=60), st.sampled_from([in_a_list, in_shared_memory]))
def test_delivered_is_the_sum_of_all_ends_and_what_is_in_hand(counted: list[str], cells: Callable[[], Cells]) -> None:
    ledger = ConsumerLedger(cells())
    for term in counted:
        ledger.delivered(1) if term == "delivered" else getattr(ledger, term)()
    numbers = ledger.numbers()
    assert list(numbers) == [*CONSUMER_TERMS, "in_hand", DUPLICATES]
    assert {term: numbers[term] for term in CONSUMER_TERMS} == {term: counted.count(term) for term in CONSUMER_TERMS}
    assert numbers["delivered"] == sum(numbers[term] for term in ENDS) + ledger.in_hand


def test_a_duplicate_that_was_skipped_is_counted_and_the_sum_stays() -> None:
    ledger = ConsumerLedger(in_shared_memory())
    ledger.delivered(2)
    ledger.done()
    ledger.duplicate()
    ledger.done()
    numbers = ledger.numbers()
    assert (numbers["delivered"], numbers["done"], numbers["in_hand"], numbers[DUPLICATES]) == (2, 2, 0, 1)


@given(st.lists(st.sampled_from(["read", "confirmed", "failed"]), max_size=60))
def test_read_is_the_sum_of_confirmed_failed_and_pending(counted: list[str]) -> None:
    ledger = ProducerLedger(in_a_list())
    for term in counted:
        getattr(ledger, term)()
    numbers = ledger.numbers()
    assert numbers == {term: counted.count(term) for term in ("read", "confirmed", "failed")} | {
        "pending": ledger.pending
    }
    assert numbers["read"] == numbers["confirmed"] + numbers["failed"] + numbers["pending"]


def test_what_was_pending_when_its_process_died_is_taken_back() -> None:
    ledger = ProducerLedger(in_shared_memory())
    for _ in range(5):
        ledger.read()
    ledger.confirmed()
    ledger.failed()
    ledger.take_back()
    assert ledger.numbers() == {"read": 2, "confirmed": 1, "failed": 1, "pending": 0}


def test_a_source_that_has_ended_stays_ended_for_the_next_worker() -> None:
    cells = in_shared_memory()
    first = ProducerLedger(cells)
    assert not first.finished
    first.read()
    first.confirmed()
    first.finish()
    assert ProducerLedger(cells).finished
    assert ProducerLedger(cells).numbers() == {"read": 1, "confirmed": 1, "failed": 0, "pending": 0}


@pytest.mark.parametrize(
    ("ledgers", "sums"),
    [
        ([], {}),
        ([{"read": 1, "failed": 0}], {"read": 1, "failed": 0}),
        ([{"read": 1}, {"read": 2}, {"failed": 3}], {"read": 3, "failed": 3}),
    ],
)
def test_ledgers_are_added_up_term_by_term(ledgers: list[dict[str, int]], sums: dict[str, int]) -> None:
    assert total([*ledgers]) == sums


class CountingOn(list[int]):
    """Cells in which another process takes two messages in hand, and ends one, between any two looks."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        for counted, more in ((0, 2), (1, 1)):
            self[counted] = super().__getitem__(counted) + more
        return found


def test_the_sum_comes_out_while_another_process_counts_on() -> None:
    numbers = ConsumerLedger(CountingOn([3, *[0] * (WIDTH - 1)])).numbers()
    assert numbers["delivered"] == sum(numbers[term] for term in [*ENDS, "in_hand"])
    assert numbers["in_hand"] >= 0
    sent = ProducerLedger(CountingOn([3, 0, 0, 0])).numbers()
    assert sent["read"] == sent["confirmed"] + sent["failed"] + sent["pending"]
    assert sent["pending"] >= 0
