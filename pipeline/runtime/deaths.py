"""What the death of a worker means for the messages it had in hand: each has one more. The supervisor's side; what a
worker does about it stands in `watched.py`."""

from collections.abc import Sequence

from pipeline.clock import Clock
from pipeline.config.model import Consumer
from pipeline.events import DeathsCounted
from pipeline.runtime.in_hand import InHand, shown

_NAMED = 5  # of so many messages the log says which they are


class Deaths:
    """Counts them. `consumers` in the order of the plans."""

    def __init__(self, in_hand: InHand, consumers: Sequence[Consumer], clock: Clock) -> None:
        self._in_hand = in_hand
        self._consumers = consumers
        self._clock = clock

    def count(self, row: int, status: int) -> list[DeathsCounted]:
        """For all that the worker of this row had in hand when it ended, which is nothing where it ended in order."""
        same: dict[tuple[int, int], list[str | None]] = {}
        for number, held in self._in_hand.found(row):
            deaths = self._in_hand.suspects.count(number, held, now=self._clock.now(), status=status)
            same.setdefault((number, deaths), []).append(shown(held))
        self._in_hand.empty(row)  # not before all are counted: workers that get one of them wait for this
        return [self._told(row, number, deaths, ids) for (number, deaths), ids in same.items()]

    def _told(self, row: int, number: int, deaths: int, ids: Sequence[str | None]) -> DeathsCounted:
        consumer = self._consumers[number]
        return DeathsCounted(
            worker=row + 1,
            consumer=consumer.name,
            messages=len(ids),
            message_ids=tuple(ids[:_NAMED]),
            deaths=deaths,
            crash_limit=consumer.crash_limit,
        )
