"""Keys in a file, shared by all processes of one machine that open it. A claim has a lease, which a thread of its
process renews, so that the claim of a dead process runs out. What is in the file stands in `file.py`."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.clock import Clock
from pipeline.errors import StoreError
from pipeline.idempotency.desk import Desk
from pipeline.idempotency.file import KeyFile
from pipeline.idempotency.owner import Owner
from pipeline.idempotency.store import Claim, Found

_RENEWALS: Final = 3  # within the time of a lease, so that one may come late
# Two processes that make the file at the same time get in each other's way, and SQLite does not wait by itself then.
_TRIES: Final = 30
_BETWEEN_TRIES: Final = 0.1  # seconds


class SqliteStore:
    def __init__(self, path: Path, *, scope: str, window: float, lease: float, clock: Clock) -> None:
        self._file = KeyFile(path, scope=scope, window=window, lease=lease, clock=clock)
        self._desk = Desk(f"keys of {scope}", clock=clock, every=lease / _RENEWALS, meanwhile=self._file.look_after)
        self._clock = clock
        self._owner = Owner()

    async def open(self) -> None:
        for _ in range(_TRIES):
            try:
                await self._desk.run(self._file.open)
                return
            except StoreError as error:
                if not error.busy:
                    raise
                await self._clock.sleep(_BETWEEN_TRIES)
        await self._desk.run(self._file.open)

    async def begin(self, key: str) -> Claim | Found:
        claim = Claim(key=key, owner=self._owner.of_next_claim())
        try:
            return await self._desk.run(partial(self._file.begin, claim))
        except asyncio.CancelledError:
            self.release(claim)  # the thread does this after that
            raise

    async def finish(self, claim: Claim) -> None:
        await self._desk.run(partial(self._file.finish, claim))

    def release(self, claim: Claim) -> None:
        self._desk.tell(partial(self._file.release, claim))

    async def close(self) -> None:
        await self._desk.run(self._file.close)
        self._desk.end()
