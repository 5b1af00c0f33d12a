"""What workers have in hand, in memory that outlives them: an identity for each message, and a place for each slot."""

import tempfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.message import Message
from pipeline.runtime.in_hand import LONGEST, Hands, InHand, identity, shown
from pipeline.runtime.plan import plan
from tests.models import a_consumer, a_pipeline, a_queue

A, B = range(2)  # files


QUEUES = (a_queue("billing"),)
# The same file twice but for its numbers: in the first one "charge" has three slots, and one beside it takes no part.
PLANS = [
    plan(
        a_pipeline(
            queues=QUEUES,
            consumers=(a_consumer("charge", concurrency=3), a_consumer("watch", ack="none", concurrency=5)),
        )
    ),
    plan(a_pipeline(queues=QUEUES, consumers=(a_consumer("charge", concurrency=2),))),
]


def hands(shared: InHand, *, row: int = 0, file: int = A) -> Hands:
    """Of the consumer "charge"."""
    return shared.row(row).hands(PLANS[file].consumers[0])


def a_message(message_id: str | None = "m-1", body: bytes = b"hello", **changes: Any) -> Message:
    return Message(body, message_id=message_id, **changes)


# Identity


@pytest.mark.parametrize(
    ("message", "same"),
    [
        (a_message(), a_message(body=b"other", headers={"x-piperun-attempt": 2}, redelivered=True)),
        (a_message(None), a_message("")),
        (a_message(None), a_message(None, redelivered=True, attempt=3)),
        (a_message(None, headers={"a": 1, "b": 2}), a_message(None, headers={"b": 2, "a": 1})),
        (a_message(None), a_message(None, headers={"x-delivery-count": 4, "x-death": [{"count": 1}]})),
        (a_message(None), a_message(None, headers={"x-acquired-count": 4, "x-first-death-queue": "q"})),
        (a_message("m" * 200), a_message("m" * 200, body=b"other")),
    ],
)
def test_one_message_is_the_same_whenever_it_comes(message: Message, same: Message) -> None:
    assert identity(message) == identity(same)


@pytest.mark.parametrize(
    ("message", "other"),
    [
        (a_message("m-1"), a_message("m-10")),
        (a_message("m" * 200), a_message("m" * 199 + "n")),
        (a_message(None), a_message(None, body=b"other")),
        (a_message(None), a_message(None, headers={"a": 1})),
        (a_message(None, headers={"a": 1}), a_message(None, headers={"a": "1"})),
        (a_message(None), a_message(None, type="order")),
        (a_message(None), a_message(None, correlation_id="c-1")),
        (a_message(None), a_message(None, timestamp=1)),
        (a_message(None, body=b"x" * 200_000), a_message(None, body=b"x" * 200_001)),
        (a_message(None, body=b"x" * 200_000 + b"y"), a_message(None, body=b"x" * 200_000 + b"z")),
    ],
)
def test_two_messages_are_two(message: Message, other: Message) -> None:
    assert identity(message) != identity(other)


@given(message_id=st.none() | st.text(max_size=255), body=st.binary(max_size=50))
def test_every_identity_fits_its_place_and_is_read_back(message_id: str | None, body: bytes) -> None:
    message = a_message(message_id, body)
    held = identity(message)
    assert 0 < len(held) <= LONGEST
    shared = InHand(PLANS, rows=1)
    hands(shared).take(2, message)
    assert list(shared.found(0)) == [(0, held)]


def test_an_id_is_shown_and_a_hash_is_not() -> None:
    assert shown(identity(a_message("grüße"))) == "grüße"
    assert shown(identity(a_message(None))) is None
    assert shown(identity(a_message("m" * 200))) is None


# Layout


def test_a_new_row_holds_nothing() -> None:
    shared = InHand(PLANS, rows=2)
    assert [list(shared.found(row)) for row in range(2)] == [[], []]


def test_every_slot_of_every_consumer_has_a_place_of_its_own() -> None:
    # Given that every slot of every worker has a message in hand
    shared = InHand(PLANS, rows=2)
    for row in range(2):
        for file, count in ((A, 3), (B, 2)):
            for slot in range(count):
                hands(shared, row=row, file=file).take(slot, a_message(f"{row}-{'ab'[file]}-{slot}"))
    # When one of them is let go
    hands(shared, row=1).let_go(1)
    # Then all others are still there, with their consumer's number, which counts the one that acknowledges nothing
    first = [(0, b"0-a-0"), (0, b"0-a-1"), (0, b"0-a-2"), (2, b"0-b-0"), (2, b"0-b-1")]
    assert list(shared.found(0)) == first
    assert list(shared.found(1)) == [(0, b"1-a-0"), (0, b"1-a-2"), (2, b"1-b-0"), (2, b"1-b-1")]
    # And a row that is emptied takes nothing of another one with it
    shared.empty(1)
    assert (list(shared.found(0)), list(shared.found(1))) == (first, [])


def test_the_same_message_in_two_hands_counts_once_for_each_consumer() -> None:
    shared = InHand(PLANS, rows=1)
    for slot, file in ((0, A), (1, A), (0, B)):
        hands(shared, file=file).take(slot, a_message())
    assert list(shared.found(0)) == [(0, b"m-1"), (2, b"m-1")]


def test_a_message_that_is_handled_alone_stands_for_all() -> None:
    # Given a message that is handled alone, beside one that did not end in time
    shared = InHand(PLANS, rows=2)
    own, ours = shared.row(0), hands(shared, file=B)
    ours.take(0, a_message("slow"))
    ours.take(1, a_message("alone"))
    own.mark_alone(ours.slot_in_row(1))
    # Then a death counts for that message only, as long as it is so
    assert list(shared.found(0)) == [(2, b"alone")]
    own.unmark_alone()
    assert list(shared.found(0)) == [(2, b"slow"), (2, b"alone")]
    # And the mark does not outlive the worker
    own.mark_alone(ours.slot_in_row(1))
    shared.empty(0)
    ours.take(0, a_message("next"))
    assert list(shared.found(0)) == [(2, b"next")]


def test_a_worker_sees_what_another_one_of_its_consumer_holds() -> None:
    shared = InHand(PLANS, rows=3)
    hands(shared, row=0).take(2, a_message("m-1"))
    assert not hands(shared, row=0).held_elsewhere(b"m-1")  # it is here
    assert hands(shared, row=1).held_elsewhere(b"m-1")
    assert hands(shared, row=2).held_elsewhere(b"m-1")
    assert not hands(shared, row=1, file=B).held_elsewhere(b"m-1")  # another consumer
    assert not hands(shared, row=1).held_elsewhere(b"m-")
    assert not hands(shared, row=1).held_elsewhere(b"m-10")
    hands(shared, row=0).let_go(2)
    assert not hands(shared, row=1).held_elsewhere(b"m-1")


@given(inner=st.binary(min_size=1, max_size=30), front=st.binary(max_size=40))
def test_an_id_inside_of_another_is_not_found(inner: bytes, front: bytes) -> None:
    # Given an id that contains another one with its length before it, as somebody might send to be taken for it
    shared = InHand(PLANS, rows=2)
    outer = front + bytes([len(inner)]) + inner
    hands(shared, row=0).take(0, a_message(outer.decode("latin-1")))
    held = identity(a_message(inner.decode("latin-1")))
    assert not hands(shared, row=1).held_elsewhere(held)


def test_workers_share_it_through_the_file_that_begins_with_the_table() -> None:
    with tempfile.TemporaryFile() as memory:
        memory.truncate(InHand.end(PLANS, rows=2))
        supervisor = InHand.shared(PLANS, rows=2, fileno=memory.fileno())
        worker = InHand.shared(PLANS, rows=2, fileno=memory.fileno())
        hands(worker, row=1, file=B).take(1, a_message())
        ((number, held),) = supervisor.found(1)
        assert supervisor.suspects.count(number, held, now=0.0, status=-9) == 1
        assert hands(worker, row=0, file=B).deaths(b"m-1") == 1
        hands(worker, row=0, file=B).clear(b"m-1")
        assert supervisor.suspects.count(number, held, now=0.0, status=-9) == 1


def test_nothing_is_held_where_there_is_no_consumer() -> None:
    shared = InHand([plan(a_pipeline())], rows=2)
    assert list(shared.found(1)) == []
    shared.empty(1)
