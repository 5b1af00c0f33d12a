"""How long a message waits before its next attempt."""

import pytest

from pipeline.failure.delays import delay

DELAYS = (5.0, 60.0, 600.0)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 5.0), (2, 60.0), (3, 600.0), (4, None), (5, None), (1_000_000, None)]
)
def test_each_attempt_has_its_delay_and_after_the_last_one_there_is_none(attempt: int, seconds: float | None) -> None:
    assert delay(DELAYS, attempt) == seconds


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (0.0, 5.0),
        (5.0, 5.0),
        (5.001, 60.0),
        (60.0, 60.0),
        (599.0, 600.0),
        (600.0, 600.0),
        (601.0, 600.0),  # none is that long
        (float("inf"), 600.0),
    ],
)
@pytest.mark.parametrize("delays", [DELAYS, DELAYS[::-1], (60.0, 5.0, 600.0)])
def test_a_wish_gets_the_shortest_delay_that_is_long_enough_or_the_longest(
    delays: tuple[float, ...], after: float, seconds: float
) -> None:
    assert delay(delays, 1, after=after) == delay(delays, 3, after=after) == seconds


def test_a_wish_counts_as_an_attempt() -> None:
    assert delay(DELAYS, 4, after=5.0) is None
