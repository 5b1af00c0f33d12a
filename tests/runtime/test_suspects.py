"""Deaths are counted per message, by the supervisor, and cleared by whoever has handled the message to its end."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.suspects import SUSPECT, Suspects, cause

ROOM = 8


def suspects(count: int = ROOM) -> Suspects:
    return Suspects(mmap.mmap(-1, count * SUSPECT), start=0, count=count)


def test_a_message_nobody_died_with_is_no_suspect() -> None:
    assert suspects().deaths(0, b"m-1") == 0
    suspects().clear(0, b"m-1")


def test_each_death_counts_for_its_message_and_its_consumer_alone() -> None:
    known = suspects()
    assert [known.count(1, b"m-1", now=float(n), status=-6) for n in range(3)] == [1, 2, 3]
    assert known.count(2, b"m-1", now=3.0, status=-9) == 1
    assert known.count(1, b"m-10", now=3.0, status=1) == 1
    assert [known.deaths(1, b"m-1"), known.deaths(2, b"m-1"), known.deaths(1, b"m-10")] == [3, 1, 1]
    assert [known.last_status(1, b"m-1"), known.last_status(2, b"m-1"), known.last_status(1, b"m-10")] == [-6, -9, 1]
    assert [known.deaths(1, b"m-"), known.deaths(0, b"m-1"), known.last_status(0, b"m-1")] == [0, 0, 0]


def test_a_success_clears_the_count_and_it_begins_anew() -> None:
    known = suspects()
    known.count(1, b"m-1", now=0.0, status=-6)
    known.count(1, b"m-2", now=0.0, status=-6)
    known.clear(1, b"m-1")
    assert [known.deaths(1, b"m-1"), known.deaths(1, b"m-2")] == [0, 1]
    assert known.count(1, b"m-1", now=1.0, status=-6) == 1


@pytest.mark.parametrize(("after", "deaths"), [(3600.0, 2), (3601.0, 1)])
def test_a_death_is_forgotten_after_an_hour(after: float, deaths: int) -> None:
    known = suspects()
    known.count(1, b"m-1", now=100.0, status=-6)
    assert known.count(1, b"m-1", now=100.0 + after, status=-6) == deaths


def test_those_that_were_cleared_make_room_first() -> None:
    known = suspects()
    for number in range(ROOM):
        known.count(1, b"m-%d" % number, now=0.0, status=-6)
    known.clear(1, b"m-3")
    known.count(1, b"new", now=0.0, status=-6)
    assert [known.deaths(1, b"m-%d" % number) for number in range(ROOM)] == [1, 1, 1, 0, 1, 1, 1, 1]
    assert known.deaths(1, b"new") == 1


def test_the_message_with_the_most_deaths_keeps_its_place() -> None:
    # Given a message that has died twice, among many that were in hand once
    known = suspects()
    for _ in range(2):
        known.count(1, b"kills", now=0.0, status=-6)
    # When more come than there is room for
    for number in range(5 * ROOM):
        known.count(1, b"m-%d" % number, now=1.0, status=-6)
    # Then it is still known
    assert known.deaths(1, b"kills") == 2
    assert sum(known.deaths(1, b"m-%d" % number) for number in range(5 * ROOM)) <= ROOM - 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["count", "clear"]), st.integers(0, 2), st.sampled_from([b"a", b"aa", b"\x01a", b"b"]))
)


@given(STEPS)
def test_it_counts_as_a_dictionary_would(steps: list[tuple[str, int, bytes]]) -> None:
    known, expected = suspects(16), dict[tuple[int, bytes], int]()
    for what, consumer, held in steps:
        if what == "count":
            expected[consumer, held] = expected.get((consumer, held), 0) + 1
            assert known.count(consumer, held, now=0.0, status=0) == expected[consumer, held]
        else:
            expected[consumer, held] = 0
            known.clear(consumer, held)
        assert {key: known.deaths(*key) for key in expected} == expected


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 10_000)), max_size=60))
def test_however_many_there_are_what_is_found_was_counted(deaths: list[tuple[int, float]]) -> None:
    known, counted = suspects(4), dict[int, int]()
    for number, now in deaths:
        counted[number] = counted.get(number, 0) + 1
        assert 1 <= known.count(0, b"%d" % number, now=now, status=0) <= counted[number]
        assert known.deaths(0, b"%d" % number) >= 1
    assert sum(bool(known.deaths(0, b"%d" % number)) for number in counted) <= 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (-6, "killed by SIGABRT"),
        (-9, "killed by SIGKILL (out of memory?)"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_exit_status_in_words(status: int, words: str) -> None:
    assert cause(status) == words
