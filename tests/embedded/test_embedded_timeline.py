"""The timeline by itself: what is due is done in order and at its time, and what was cancelled is not kept."""

from pipeline.embedded.ground.timeline import FEW, MOST_AT_ONCE, Timeline


def test_what_is_due_is_done_in_order_each_at_its_own_time() -> None:
    timeline = Timeline()
    timeline.advance(100.0, 1_000.0)
    done: list[tuple[str, float, float]] = []

    def note(what: str) -> None:
        done.append((what, timeline.now, timeline.time))

    timeline.after(3, lambda: note("third"))
    timeline.after(1, lambda: note("first"))
    timeline.after(1, lambda: note("second, asked for later"))
    timeline.advance(102.0, 1_002.0)
    assert done == [("first", 101.0, 1_001.0), ("second, asked for later", 101.0, 1_001.0)]
    assert (timeline.now, timeline.time, timeline.next_due) == (102.0, 1_002.0, 103.0)


def test_a_chain_of_delays_that_is_leapt_over_ends_where_it_would_have_ended() -> None:
    timeline = Timeline()
    ends: list[float] = []

    def go_on() -> None:
        timeline.after(10, lambda: ends.append(timeline.now))

    timeline.after(5, go_on)
    timeline.advance(60.0, 60.0)
    assert ends == [15.0]


def test_what_makes_itself_due_again_at_once_lets_others_have_their_turn() -> None:
    timeline = Timeline()
    rung = 0

    def again() -> None:
        nonlocal rung
        rung += 1
        timeline.after(0, again)

    timeline.after(0, again)
    timeline.advance(1.0, 1.0)
    assert rung == MOST_AT_ONCE


def test_a_cancelled_timer_does_not_ring_and_is_not_waited_for() -> None:
    timeline = Timeline()
    timer = timeline.after(1, lambda: None)
    timer.cancel()
    timer.cancel()
    assert not timer.pending
    assert timeline.next_due is None


def test_it_is_told_when_something_is_due_earlier_than_before() -> None:
    timeline = Timeline()
    told: list[float | None] = []
    timeline.changed = lambda: told.append(timeline.next_due)
    timeline.after(5, lambda: None)
    timeline.after(9, lambda: None)
    timeline.after(2, lambda: None)
    assert told == [5.0, 2.0]


def test_cancelled_timers_of_a_far_future_are_not_kept() -> None:
    timeline = Timeline()
    rung: list[int] = []
    for number in range(10 * FEW):
        timeline.after(1_000_000 - number, lambda: rung.append(0)).cancel()
    timeline.after(1, lambda: rung.append(1))
    assert len(timeline._timers) <= FEW + 1
    timeline.advance(2_000_000.0, 0.0)
    assert rung == [1]
