"""How long to wait before the next try: longer each time, never the same for two processes. Who waits, and for what,
is not known here."""

import random
from collections.abc import Callable


class Backoff:
    """Pauses that double from `initial` to `maximum` seconds, each shortened at random, so that a thousand clients of
    one broker do not come back in the same moment."""

    def __init__(
        self, *, initial: float, maximum: float, spread: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._spread = spread
        self._next = initial

    def pause(self) -> float:
        """The next pause, in seconds."""
        longest = min(self._next, self._maximum)
        self._next = min(longest * 2, self._maximum)
        return self._spread(longest / 2, longest)

    def reset(self) -> None:
        """Begin with the shortest again: what was tried has worked."""
        self._next = self._initial
