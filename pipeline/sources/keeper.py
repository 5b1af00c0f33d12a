"""When a checkpoint is saved: in the background while it moves, at most once in a second, and at the end. So a confirm
costs no write, and a run that is killed repeats what was confirmed in its last second."""

import asyncio
import logging
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self

from pipeline.clock import Clock
from pipeline.errors import SourceError
from pipeline.sources import checkpoint
from pipeline.sources.base import shown
from pipeline.sources.place import Place, moved
from pipeline.sources.records import Spot

SAVE_EVERY: Final = 1.0  # seconds


class Keeper:
    """`file` is the open file that the place is in. It stays open until the keeper has ended."""

    def __init__(self, path: Path, place: Place, *, file: int, clock: Clock, producer: str) -> None:
        self._path = path
        self._place = place
        self._file = file
        self._clock = clock
        self._producer = producer
        self._reached = Spot(place.offset, place.line)
        self._growing = Spot(*place.growing) if place.growing else None
        self._moved = asyncio.Event()
        self._lock = Lock()
        self._ended = False
        self._trouble: SourceError | None = None

    async def __aenter__(self) -> Self:
        """Save for the first time: it shows whether that is possible, and keeps the identity from which ids are made
        even if the file changes before the first confirm. Raises `SourceError`."""
        checkpoint.save(self._path, self._place)
        self._task = asyncio.create_task(self._save_now_and_then(), name=f"checkpoint {shown(self._path)}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save for the last time, at once and on this thread: a stop may cancel any wait. Raises `SourceError` unless
        another exception is on its way."""
        self._task.cancel()
        try:
            self._save(self._reached, self._growing, last=True)
        except SourceError as trouble:
            if error is None:
                raise
            logging.getLogger("piperun").warning("producer.%s: %s", self._producer, trouble)
        await asyncio.wait([self._task])  # it is cancelled and waits for nothing else

    def move(self, reached: Spot, growing: Spot | None) -> None:
        """From now on this place is to be kept."""
        self._reached = reached
        self._growing = growing
        self._moved.set()

    def check(self) -> None:
        """Raises `SourceError` when saving has failed: going on would repeat more and more."""
        if self._trouble is not None:
            raise self._trouble

    async def _save_now_and_then(self) -> None:
        while self._trouble is None:
            await self._moved.wait()  # ends with the next confirm, or with the keeper
            self._moved.clear()
            try:
                await asyncio.to_thread(self._save, self._reached, self._growing)
            except SourceError as error:
                self._trouble = error
            await self._clock.sleep(SAVE_EVERY)

    def _save(self, reached: Spot, growing: Spot | None, *, last: bool = False) -> None:
        with self._lock:
            if self._ended:  # a saving that the end has left behind comes too late: others may hold the checkpoint
                return
            self._ended = last
            checkpoint.save(self._path, moved(self._place, self._file, reached, growing))
