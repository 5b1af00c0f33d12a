"""How long this turn of the event loop has been used for handling. Handlers that never wait for anything would keep the
loop for as long as there are deliveries, while acknowledgements, which are written at the end of a turn, heartbeats and
all other consumers starve. Who takes part, and with what, is not known here. Hot: asked once per message."""

import asyncio

from pipeline.clock import Clock

LONGEST = 0.001  # seconds; some hundred messages of a handler that does nothing, and little beside one that works


class Turn:
    """One for all slots of all consumers that share a loop: each with a measure of its own, a hundred slots would use a
    hundred times as much. Whoever has handled a message and finds the turn used up lets the others go first; so in each
    turn everybody who has work handles at least one message."""

    __slots__ = ("_began", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None

    def begin(self) -> None:
        """Before a message is handled. The first of a turn starts the measure, and the next turn ends it."""
        if self._began is None:
            self._began = self._clock.now()
            asyncio.get_running_loop().call_soon(self._over)

    @property
    def used_up(self) -> bool:
        """Whether it is time to let the loop turn. False when it has turned since `begin`."""
        return self._began is not None and self._clock.now() - self._began >= LONGEST

    def _over(self) -> None:
        self._began = None
