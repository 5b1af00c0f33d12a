"""The records of a file: lines, JSON lines, CSV rows, each with its place. One record is in memory at a time; nothing
is skipped but blank lines of JSON and CSV. Checkpoints and messages are not known here."""

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO, Final, NoReturn

from pipeline.config.model import FileFormat
from pipeline.errors import SourceError
from pipeline.values import Frozen

LONGEST: Final = 16 * 1024 * 1024  # bytes of one record: the largest body that piperun handles


class Spot(Frozen, frozen=True, order=True):
    """A place between two records: so many bytes and lines stand before it."""

    offset: int
    line: int


START: Final = Spot(0, 0)


class Record(Frozen, frozen=True):
    """`ended` is false where the file stops without a line end: the line may grow."""

    body: object
    begin: Spot
    end: Spot
    ended: bool


class Lines:
    """The lines of an open file, one after the other, gathered into records. `name` is for people."""

    def __init__(self, file: BinaryIO, *, name: str) -> None:
        self._name = name
        self._file = file
        self.go_to(START)

    def go_to(self, spot: Spot) -> None:
        self._file.seek(spot.offset)
        self.begin = self.spot = spot
        self.ended = True

    def next(self) -> bytes:
        """One more line of the record, with its end and without a byte order mark; empty at the end of the file."""
        left = LONGEST - (self.spot.offset - self.begin.offset)
        try:
            raw = self._file.readline(left + 1)
        except OSError as error:
            self.fail(f"cannot be read: {error.strerror}")
        if len(raw) > left:
            self.fail(too_long())
        first = self.spot.offset == 0
        if raw:
            self.spot = Spot(self.spot.offset + len(raw), self.spot.line + 1)
            self.ended = raw.endswith(b"\n")
        return raw.removeprefix(BOM_UTF8) if first else raw

    def record(self, body: object) -> Record:
        return Record(body, self.begin, self.spot, self.ended)

    def begin_record(self) -> None:
        self.begin = self.spot

    def fail(self, why: str) -> NoReturn:
        raise SourceError(f"{self._name}:{self.begin.line + 1}: {why}. Nothing from this line on was sent")


def records(lines: Lines, form: FileFormat) -> Iterator[Record]:
    """Everything from where `lines` stand, in order. Raises `SourceError` that names the line."""
    match form:
        case "lines":
            return _texts(lines)
        case "jsonl":
            return _json_lines(lines)
        case "csv":
            return _rows(lines)


def _texts(lines: Lines) -> Iterator[Record]:
    while raw := lines.next():
        yield lines.record(without_end(raw))
        lines.begin_record()


def _json_lines(lines: Lines) -> Iterator[Record]:
    while raw := lines.next():
        text = without_end(raw)
        if text.strip():
            if why := not_json(text):
                lines.fail(why)
            yield lines.record(text)
        lines.begin_record()


def _rows(lines: Lines) -> Iterator[Record]:
    start = lines.spot
    lines.go_to(START)
    header = _header(lines)
    lines.go_to(max(start, lines.spot))
    for row in _csv(lines):
        if len(row) != len(header):
            lines.fail(f"{len(row)} values, but the header has {len(header)} columns")
        yield lines.record(dict(zip(header, row, strict=True)))


def _header(lines: Lines) -> list[str]:
    row = next(_csv(lines), [])
    twice = sorted({name for name in row if row.count(name) > 1})
    if twice:
        lines.fail(f'the header has "{twice[0]}" twice, so each row would lose a value; give every column its own name')
    return row


def _csv(lines: Lines) -> Iterator[list[str]]:
    """Rows that are not blank. The reader takes exactly the lines of one row before it gives it, so the place
    reached is the row's end, line ends inside quotes included."""
    reader = csv.reader(_decoded(lines), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            lines.fail(f"not CSV: {error}")
        if row is None:
            return
        if row:
            yield row
        lines.begin_record()


def _decoded(lines: Lines) -> Iterator[str]:
    while raw := lines.next():
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            lines.fail(_not_utf8(error))


def without_end(raw: bytes) -> bytes:
    return raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")


def too_long() -> str:
    return f"longer than {LONGEST >> 20} MiB, which is the most that one item may have"


def not_json(text: bytes) -> str | None:
    """Why this is not one JSON value in UTF-8, or None when it is. Says the place, never the content."""
    try:
        json.loads(text.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return _not_utf8(error)
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} (column {error.colno}); `format: lines` sends lines as they are"
    except RecursionError:
        return "not JSON that can be read: nested too deeply"
    except ValueError as error:
        return f"not JSON: {error}"
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number there")


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 ({error.reason}, byte {error.start + 1} of the line)"
