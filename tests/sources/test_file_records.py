"""The records of a file, each with its place: reading on from any of these places gives exactly the rest."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.model import FileFormat
from pipeline.errors import SourceError
from pipeline.sources import records as module
from pipeline.sources.records import START, Lines, Record, Spot, not_json, records

AS_THEY_ARE = "`format: lines` sends lines as they are"


def read(content: bytes, form: FileFormat, start: Spot = START) -> list[Record]:
    lines = Lines(io.BytesIO(content), name="data/in")
    lines.go_to(start)
    return list(records(lines, form))


def bodies(content: bytes, form: FileFormat) -> list[object]:
    return [record.body for record in read(content, form)]


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        ("lines", b"", []),
        ("lines", b"a\nb\n", [b"a", b"b"]),
        ("lines", b"a\nb", [b"a", b"b"]),
        ("lines", b"a\n\nb\n", [b"a", b"", b"b"]),
        ("lines", b"a\r\n b \r\n", [b"a", b" b "]),
        ("lines", b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
        ("lines", b"\xff\x00\n", [b"\xff\x00"]),
        ("lines", b"\xef\xbb\xbf", []),
        ("jsonl", b'{"a": 1}\n\n  \n[2]\r\n"x"', [b'{"a": 1}', b"[2]", b'"x"']),
        ("jsonl", b'\xef\xbb\xbf{"a":  1 }\n', [b'{"a":  1 }']),
        ("csv", b"", []),
        ("csv", b"id,name\n", []),
        ("csv", b"id,name\n1,Ann\n2,Bob", [{"id": "1", "name": "Ann"}, {"id": "2", "name": "Bob"}]),
        ("csv", b"\xef\xbb\xbfid\r\n1\r\n", [{"id": "1"}]),
        ("csv", b"\n\nid,note\n\n1,\n\n", [{"id": "1", "note": ""}]),
        ("csv", b'id,note\n1,"two\nlines, and ""quotes"""\n2,x\n', [
            {"id": "1", "note": 'two\nlines, and "quotes"'},
            {"id": "2", "note": "x"},
        ]),
        ("csv", "id,name\n1,Zoë\n".encode(), [{"id": "1", "name": "Zoë"}]),
    ],
)  # fmt: skip
def test_what_the_records_of_a_file_are(form: FileFormat, content: bytes, expected: list[object]) -> None:
    assert bodies(content, form) == expected


@pytest.mark.parametrize(
    ("form", "content", "sentence"),
    [
        ("jsonl", b'{}\n{"a": }\n', f"data/in:2: not JSON: Expecting value (column 7); {AS_THEY_ARE}"),
        ("jsonl", b"\n\n{} {}\n", f"data/in:3: not JSON: Extra data (column 4); {AS_THEY_ARE}"),
        ("jsonl", b"NaN\n", "data/in:1: not JSON: NaN is no number there"),
        ("jsonl", b'"\xff"\n', "data/in:1: not UTF-8 (invalid start byte, byte 2 of the line)"),
        ("jsonl", b"[" * 100_000 + b"\n", "data/in:1: not JSON that can be read: nested too deeply"),
        ("csv", b"a,b\n1,2\n1,2,3\n", "data/in:3: 3 values, but the header has 2 columns"),
        ("csv", b"a,b\n1\n", "data/in:2: 1 values, but the header has 2 columns"),
        ("csv", b"a,b,a\n1,2,3\n", 'data/in:1: the header has "a" twice, so each row would lose a value; '
                                    "give every column its own name"),
        ("csv", b'a\n1\n"x\n\n', "data/in:3: not CSV: unexpected end of data"),
        ("csv", b'a\n1\n"x"y\n', "data/in:3: not CSV: ',' expected after '\"'"),
        ("csv", b"a\n1\n\xe4\n", "data/in:3: not UTF-8 (invalid continuation byte, byte 1 of the line)"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_ends_the_reading(form: FileFormat, content: bytes, sentence: str) -> None:
    with pytest.raises(SourceError) as caught:
        bodies(content, form)
    assert str(caught.value) == f"{sentence}. Nothing from this line on was sent"


def test_what_stands_before_a_bad_line_is_given_first() -> None:
    lines = records(Lines(io.BytesIO(b"1\n2\nthree\n4\n"), name="x"), "jsonl")
    assert [next(lines).body, next(lines).body] == [b"1", b"2"]
    with pytest.raises(SourceError, match=r"x:3: not JSON"):
        next(lines)


@pytest.mark.parametrize("form", ["lines", "jsonl", "csv"])
def test_a_line_without_end_is_refused_and_not_read_whole(form: FileFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1024)
    with pytest.raises(SourceError, match=r"data/in:2: longer than"):
        bodies(b"1\n" + b"1" * 1024 + b"\n", form)


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1024)
    with pytest.raises(SourceError, match=r"data/in:3: longer than"):
        bodies(b'a\n1\n"2\n' + b"line\n" * 1000, "csv")


def test_the_longest_line_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1024)
    assert bodies(b"x" * 1023 + b"\n", "lines") == [b"x" * 1023]


texts = st.text(alphabet=st.sampled_from('ab,"\n ä'), max_size=6)


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(st.tuples(texts, texts), max_size=6))
    quoted = [",".join('"' + value.replace('"', '""') + '"' for value in row) for row in rows]
    blank = [draw(st.sampled_from(["", "\n", "\r\n"])) for _ in quoted]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return ("x,y" + end + "".join(row + end + more for row, more in zip(quoted, blank, strict=True))).encode()


@given(csv_files())
def test_reading_csv_on_from_any_place_gives_the_rest(content: bytes) -> None:
    whole = read(content, "csv")
    for number, record in enumerate(whole):
        assert read(content, "csv", record.begin) == whole[number:]
        assert read(content, "csv", record.end) == whole[number + 1 :]


@given(st.lists(st.binary(max_size=8)))
def test_reading_lines_on_from_any_place_gives_the_rest(parts: list[bytes]) -> None:
    content = b"\n".join(parts)
    whole = read(content, "lines")
    for number, record in enumerate(whole):
        assert read(content, "lines", record.end) == whole[number + 1 :]
    assert sum(record.end.offset - record.begin.offset for record in whole) in (len(content), 0)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_all_that_json_writes_is_json(value: object) -> None:
    assert not_json(json.dumps(value).encode()) is None
