"""Which file, and how far it was sent: what must be known to go on there in another run, and how a file is known again.
The place is that of the lowest item without a confirm, so a run that is killed repeats a little and loses nothing."""

import hashlib
import os
from pathlib import Path
from typing import Final

from pipeline.sources.base import shown
from pipeline.sources.records import Record, Spot
from pipeline.values import Frozen, replace

VERSION: Final = 1
SAMPLE: Final = 4096  # bytes that are compared to know a file again


class Floor:
    """Which items wait for their confirm. The next run must begin at the lowest of them.

    `growing` is where the last item begins, if it is sent and had no line end: should more be written to that line,
    it is another item and is sent whole."""

    def __init__(self, reached: Spot, growing: Spot | None = None) -> None:
        self._waiting: dict[int, Spot] = {}  # by offset, in the order of reading
        self._reached = reached
        self._growing = growing

    def read(self, record: Record) -> None:
        self._waiting[record.begin.offset] = record.begin
        self._reached = record.end
        self._growing = None if record.ended else record.begin

    def skipped_to(self, spot: Spot) -> None:
        """Between the last item and this place is nothing to send."""
        self._reached = spot

    def sent(self, offset: int) -> None:
        self._waiting.pop(offset, None)

    @property
    def lowest(self) -> Spot:
        return next(iter(self._waiting.values()), self._reached)

    @property
    def growing(self) -> Spot | None:
        return None if self._waiting else self._growing


class Place(Frozen, frozen=True, kw_only=True):
    """What a checkpoint holds. `beginning` and `before` are hashes of the file's first bytes and of those just before
    `offset`, since an inode's number is soon given to another file. `growing` is offset and line."""

    version: int
    path: str
    identity: str
    inode: int
    size: int
    beginning_bytes: int
    beginning: str
    before: str
    offset: int
    line: int
    growing: list[int] | None


def start(file: int, path: Path, before: Place | None = None) -> Place:
    """The beginning of this open file. Its identity is the same in every run that begins with the same file, and is
    not that of the file which it replaced."""
    seen = os.fstat(file)
    beginning_bytes = min(SAMPLE, seen.st_size)
    beginning = _digest(os.pread(file, beginning_bytes, 0))
    names = (str(path), str(seen.st_ino), beginning, before.identity if before else "")
    return Place(
        version=VERSION,
        path=str(path),
        identity=_digest("\n".join(names).encode(errors="surrogateescape"))[:20],
        inode=seen.st_ino,
        size=seen.st_size,
        beginning_bytes=beginning_bytes,
        beginning=beginning,
        before=_digest(b""),
        offset=0,
        line=0,
        growing=None,
    )


def moved(place: Place, file: int, spot: Spot, growing: Spot | None) -> Place:
    """A later place in the same file."""
    return replace(
        place,
        size=os.fstat(file).st_size,
        before=_before(file, spot.offset),
        offset=spot.offset,
        line=spot.line,
        growing=[growing.offset, growing.line] if growing else None,
    )


def changed(place: Place, file: int, path: Path) -> str | None:
    """Why this open file is not the one that the place is in, or None."""
    seen = os.fstat(file)
    if place.path != str(path):
        return f"the checkpoint is for {shown(Path(place.path))}"
    if place.inode != seen.st_ino:
        return "it is another file than in the last run"
    if seen.st_size < place.size:
        return "it is shorter than in the last run"
    if _digest(os.pread(file, place.beginning_bytes, 0)) != place.beginning:
        return "it begins otherwise than in the last run"
    if _before(file, place.offset) != place.before:
        return "what was sent of it in the last run has changed"
    return None


def go_on(place: Place, file: int) -> Floor:
    """Where to read on: at the place, or, where the line before it had no end and has grown since, at that line."""
    spot = Spot(place.offset, place.line)
    if place.growing is None:
        return Floor(spot)
    growing = Spot(place.growing[0], place.growing[1])
    added = os.pread(file, 2, place.offset)
    if added.startswith((b"\n", b"\r\n")):  # only the line end was missing
        return Floor(Spot(place.offset + added.index(b"\n") + 1, place.line))
    return Floor(growing) if added else Floor(spot, growing)


def _before(file: int, offset: int) -> str:
    begin = max(0, offset - SAMPLE)
    return _digest(os.pread(file, offset - begin, begin))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
