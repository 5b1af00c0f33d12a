"""One item each so many seconds, by the clock handed in. The rhythm is fixed when the first item is asked for; what
the items are for is not known here."""

from collections.abc import AsyncIterator
from math import floor

from pipeline.clock import Clock
from pipeline.config.model import IntervalSource
from pipeline.sources.base import Counted, Item, ids


class Interval(Counted):
    """The first item comes at once. A tick that could not be served in time is served late, and those that passed
    meanwhile are left out, so that a long block is not followed by a burst and the rhythm stays."""

    def __init__(self, settings: IntervalSource, *, clock: Clock) -> None:
        super().__init__()
        self._settings = settings
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[Item]:
        settings = self._settings
        content_type = None if isinstance(settings.body, str) else "application/json"
        begun = self._clock.now()
        tick = 0
        for number, message_id in enumerate(ids()):
            if number == settings.count:
                return
            if number > 0:
                tick = next_tick(tick, self._clock.now() - begun, settings.every)
                await self._clock.sleep(begun + tick * settings.every - self._clock.now())
            yield Item(settings.body, headers=settings.headers, message_id=message_id, content_type=content_type)

    def progress(self) -> tuple[int, int | None, str]:
        return self.confirmed, self._settings.count, "items"


def next_tick(tick: int, elapsed: float, every: float) -> int:
    """The tick to serve after `tick`: the one that follows, or the latest of those that have passed already. Ticks are
    counted from the beginning, so that small delays do not add up."""
    passed = floor(elapsed / every) if every else tick
    return max(tick + 1, passed)
