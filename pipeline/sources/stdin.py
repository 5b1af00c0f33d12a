"""The lines of standard input until their end; then the source is finished, not failed. Reading may block as long as
somebody thinks at the keyboard, so a thread reads, one piece each time that more is wanted."""

import os
import select
import sys
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Final, NoReturn

from pipeline.config.model import StdinSource
from pipeline.errors import SourceError
from pipeline.sources.base import Counted, Item, ids
from pipeline.sources.records import LONGEST, not_json, too_long, without_end
from pipeline.sources.thread import Steps

PIECE: Final = 64 * 1024
CONTENT_TYPES: Final = {"lines": None, "jsonl": "application/json"}


def descriptor() -> int | None:
    """Where standard input can be read; None when the process was started without one, in which case number 0 may be
    any other file."""
    try:
        return None if sys.__stdin__ is None else sys.__stdin__.fileno()
    except (OSError, ValueError):
        return None


class StandardInput(Counted):
    """What was read and could not be sent is not there in another run: standard input cannot be read twice. A stop
    leaves a read that is waiting behind, so it takes no longer than without one."""

    def __init__(self, settings: StdinSource, descriptor: int | None) -> None:
        super().__init__()
        self._settings = settings
        self._descriptor = descriptor
        self._steps = Steps("source stdin")
        self._rest = bytearray()  # of the line that has no end yet
        self._line = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.end()

    async def __aiter__(self) -> AsyncIterator[Item]:
        message_ids = ids()
        while piece := await self._read():
            for raw in self._whole_lines(piece):
                if self._wanted(raw):
                    yield self._item(raw, next(message_ids))
        raw = self._end_line()  # without a line end of its own
        if raw and self._wanted(raw):
            yield self._item(raw, next(message_ids))

    async def _read(self) -> bytes:
        """The next piece, empty at the end."""
        if self._descriptor is None:
            return b""
        try:
            return await self._steps.run(self._read_piece)
        except OSError as error:
            raise SourceError(f"standard input cannot be read: {error.strerror}") from None

    def _read_piece(self) -> bytes:
        assert self._descriptor is not None
        while True:
            try:
                return os.read(self._descriptor, PIECE)
            except BlockingIOError:
                # Somebody who shares the terminal or the pipe made it non-blocking; for their sake it stays so.
                select.select([self._descriptor], [], [])  # ends with input or its end, or is left behind

    def _whole_lines(self, piece: bytes) -> Iterator[bytes]:
        begun, *others = piece.split(b"\n")
        self._add(begun)
        for begun in others:
            self._rest += b"\n"
            yield self._end_line()
            self._add(begun)

    def _end_line(self) -> bytes:
        raw = without_end(bytes(self._rest))
        self._rest.clear()
        self._line += 1
        return raw.removeprefix(BOM_UTF8) if self._line == 1 else raw

    def _add(self, begun: bytes) -> None:
        self._rest += begun
        if len(self._rest) > LONGEST:
            self._line += 1
            self._fail(too_long())

    def _wanted(self, raw: bytes) -> bool:
        """Whether this line is an item: each one, but for blank lines among JSON."""
        if self._settings.format == "lines":
            return True
        if raw.strip() and (why := not_json(raw)):
            self._fail(why)
        return bool(raw.strip())

    def _item(self, raw: bytes, message_id: str) -> Item:
        return Item(
            raw,
            headers=self._settings.headers,
            message_id=message_id,
            content_type=CONTENT_TYPES[self._settings.format],
        )

    def _fail(self, why: str) -> NoReturn:
        raise SourceError(f"standard input, line {self._line}: {why}. Nothing from this line on was sent")

    def note(self) -> str | None:
        if self._descriptor is None:
            return "standard input is closed, so there is nothing to read"
        if os.isatty(self._descriptor):
            return "reading lines from the terminal; Ctrl-D ends"
        return None
