"""Work for a processor, in a unit that means the same however busy the machine is: rounds of a loop. Where the clock of
CPU time ended it, asking that clock was most of the work."""

import time

_SAMPLE = 100_000  # rounds; some milliseconds
_TRIES = 20


def compute(rounds: int) -> None:
    value = 0
    for number in range(rounds):
        value += number


def rounds_in(seconds: float) -> int:
    """How many take so long on this machine when nothing disturbs them: the fastest of some tries tells."""
    return max(1, round(_SAMPLE * seconds / min(_timed() for _ in range(_TRIES))))


def _timed() -> float:
    began = time.perf_counter()
    compute(_SAMPLE)
    return time.perf_counter() - began
