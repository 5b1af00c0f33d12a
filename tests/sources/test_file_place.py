"""Where the next run begins: whatever the order of confirms, never behind an item without one."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.place import Floor
from pipeline.sources.records import START, Record, Spot


def record(number: int, *, ended: bool = True) -> Record:
    """Ten bytes and one line each."""
    return Record(b"", Spot(number * 10, number), Spot(number * 10 + 10, number + 1), ended)


@given(st.lists(st.tuples(st.sampled_from(["read", "sent"]), st.integers(0, 30)), max_size=80))
def test_the_floor_never_passes_an_item_without_a_confirm(steps: list[tuple[str, int]]) -> None:
    floor = Floor(START)
    read = 0
    waiting: set[int] = set()
    for step, number in steps:
        if step == "read":
            floor.read(record(read))
            waiting.add(read)
            read += 1
        else:  # any number: read, sent before, or never read
            floor.sent(number * 10)
            waiting.discard(number)
        expected = min(waiting, default=read)
        assert floor.lowest == Spot(expected * 10, expected)


@given(st.permutations(range(6)))
def test_when_all_is_confirmed_the_floor_is_at_the_end(order: list[int]) -> None:
    floor = Floor(START)
    for number in range(6):
        floor.read(record(number))
    seen = []
    for number in order:
        floor.sent(number * 10)
        seen.append(floor.lowest)
    assert seen == sorted(seen)
    assert seen[-1] == Spot(60, 6)


def test_blank_lines_at_the_end_are_behind_the_floor_only_without_waiting_items() -> None:
    floor = Floor(START)
    floor.read(record(0))
    floor.skipped_to(Spot(12, 3))
    assert floor.lowest == START
    floor.sent(0)
    assert floor.lowest == Spot(12, 3)


def test_a_line_that_may_grow_is_remembered_once_it_is_sent() -> None:
    floor = Floor(START)
    floor.read(record(0, ended=False))
    assert floor.growing is None
    floor.sent(0)
    assert floor.growing == START
    floor.read(record(1))
    floor.sent(10)
    assert floor.growing is None
