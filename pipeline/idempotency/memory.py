"""Keys in the memory of this process: gone with it, and not seen by any other. Its claims need no lease, since whoever
holds one lives as long as the store does."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final

from pipeline.clock import Clock
from pipeline.idempotency.store import Claim, Found


class MemoryStore:
    def __init__(self, *, window: float, max_keys: int, clock: Clock, forgets: Callable[[], None]) -> None:
        self._window: Final = window
        self._max_keys: Final = max_keys
        self._clock = clock
        self._forgets = forgets
        self._in_hand: dict[str, str] = {}  # key to owner
        # Key to the moment at which it is forgotten, the first done first. Not a plain dict: taking the first out of
        # one again and again walks over the places of all that were taken out before.
        self._done: OrderedDict[str, float] = OrderedDict()
        self._owners = count()
        self._told = False

    async def open(self) -> None:
        pass

    async def begin(self, key: str) -> Claim | Found:
        self._forget_old()
        if key in self._done:
            return Found.DONE
        if key in self._in_hand:
            return Found.IN_HAND
        claim = Claim(key=key, owner=str(next(self._owners)))
        self._in_hand[key] = claim.owner
        return claim

    async def finish(self, claim: Claim) -> None:
        self.release(claim)
        self._done[claim.key] = self._clock.now() + self._window
        self._done.move_to_end(claim.key)
        if len(self._done) > self._max_keys:
            self._done.popitem(last=False)
            if not self._told:
                self._told = True
                self._forgets()

    def release(self, claim: Claim) -> None:
        if self._in_hand.get(claim.key) == claim.owner:
            del self._in_hand[claim.key]

    async def close(self) -> None:
        pass

    def _forget_old(self) -> None:
        now = self._clock.now()
        while self._done:
            key, until = next(iter(self._done.items()))
            if until > now:
                return
            del self._done[key]
