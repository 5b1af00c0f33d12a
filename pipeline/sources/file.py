"""The items of a file, from its beginning or from where the checkpoint says. Knows that the checkpoint moves with the
confirms and never past an item without one. How records look and how a file is known again stand beside this."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from pipeline.clock import Clock
from pipeline.config.model import FileSource
from pipeline.errors import SourceError
from pipeline.sources import checkpoint, place
from pipeline.sources.base import Item, shown
from pipeline.sources.keeper import Keeper
from pipeline.sources.records import START, Lines, Record, records

CONTENT_TYPES: Final = {"lines": None, "jsonl": "application/json", "csv": "application/json"}


class File:
    """A line is an item, without its line end; blank ones count in `lines` only. A row of `csv` is a JSON object of
    texts, by the names in the first row. Ends where the file ends at that moment."""

    def __init__(self, settings: FileSource, *, producer: str, clock: Clock, keep_checkpoint: bool) -> None:
        self._settings = settings
        self._producer = producer
        self._clock = clock
        self._checkpoint = settings.checkpoint if keep_checkpoint else None
        self._name = shown(settings.path)
        self._note: str | None = None
        self._floor = place.Floor(START)
        self._keeper: Keeper | None = None
        self._bytes: int | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self._path, self._file = _open(self._settings.path)
            opened.callback(self._file.close)
            self._bytes = os.fstat(self._file.fileno()).st_size
            if self._checkpoint is None:
                begun = place.start(self._file.fileno(), self._path)
            else:
                opened.enter_context(checkpoint.held(self._checkpoint))
                begun = self._go_on(self._checkpoint)
                self._keeper = await opened.enter_async_context(self._keeper_from(self._checkpoint, begun))
            self._identity = begun.identity
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep()
        await self._opened.__aexit__(kind, error, trace)

    def _go_on(self, kept_in: Path) -> place.Place:
        file = self._file.fileno()
        kept = checkpoint.load(kept_in)
        if kept is None:
            return place.start(file, self._path)
        if why := place.changed(kept, file, self._path):
            self._note = f"{self._name} is read from its beginning: {why}"
            return place.start(file, self._path, kept)
        self._floor = place.go_on(kept, file)
        self._note = self._where(kept_in)
        return kept

    def _keeper_from(self, kept_in: Path, begun: place.Place) -> Keeper:
        return Keeper(kept_in, begun, file=self._file.fileno(), clock=self._clock, producer=self._producer)

    def _where(self, kept_in: Path) -> str | None:
        spot = self._floor.lowest
        if spot == START:
            return None
        if spot.offset == self._bytes:
            return f"nothing new in {self._name}: all of it was sent before; remove {shown(kept_in)} to send it again"
        return f"continues at line {spot.line + 1} of {self._name} (byte {spot.offset}, checkpoint {shown(kept_in)})"

    async def __aiter__(self) -> AsyncIterator[Item]:
        lines = Lines(self._file, name=self._name)
        lines.go_to(self._floor.lowest)
        for record in records(lines, self._settings.format):
            self._floor.read(record)
            yield self._item(record)
            if self._keeper:
                self._keeper.check()
        self._floor.skipped_to(lines.spot)

    def _item(self, record: Record) -> Item:
        return Item(
            record.body,
            headers=self._settings.headers,
            message_id=f"{self._identity}:{record.begin.offset}",
            content_type=CONTENT_TYPES[self._settings.format],
            mark=record.begin.offset,
        )

    async def sent(self, item: Item) -> None:
        assert isinstance(item.mark, int)
        self._floor.sent(item.mark)
        self._keep()

    async def failed(self, item: Item, why: str) -> None:
        """Nothing moves: the checkpoint stays at or before this item, and the next run reads it again."""

    def _keep(self) -> None:
        if self._keeper:
            self._keeper.move(self._floor.lowest, self._floor.growing)

    def progress(self) -> tuple[int, int | None, str] | None:
        if self._bytes is None:
            return None
        done = self._floor.lowest.offset
        return done, max(done, self._bytes), "bytes"  # what is written to it meanwhile is read too

    def note(self) -> str | None:
        return self._note


def _open(path: Path) -> tuple[Path, BinaryIO]:
    """The file that this path leads to. Raises `SourceError`."""
    name = shown(path)
    try:
        found = path.resolve(strict=True)
        # Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
        descriptor = os.open(found, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SourceError(f"{name} does not exist; `path:` is relative to the folder of the pipeline's file") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        raise SourceError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(f"{name} is not a regular file; `type: stdin` reads from pipes")
    return found, os.fdopen(descriptor, "rb")
