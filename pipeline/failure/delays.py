"""How long a message waits before it is handled again: from the attempt that failed, or from what its handler wished.
Pure numbers; messages and queues are not known here."""

from collections.abc import Sequence


def delay(delays: Sequence[float], attempt: int, *, after: float | None = None) -> float | None:
    """Seconds until the next attempt; None when this one was the last. `attempt` counts from 1. A wish for `after` gets
    the shortest of the delays that is at least as long, or the longest: only for these there are queues."""
    if attempt > len(delays):
        return None
    if after is None:
        return delays[attempt - 1]
    return min((each for each in delays if each >= after), default=max(delays))
