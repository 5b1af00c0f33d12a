"""Standard input as a source: pipes, files, terminals and nothing at all, always in a process of its own where the
real number 0 is meant."""

import asyncio
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

from pipeline.config.model import StdinSource
from pipeline.errors import SourceError
from pipeline.sources import records, stdin
from pipeline.sources.base import Item
from pipeline.sources.stdin import StandardInput
from tests.waiting import deadline

Format = Literal["lines", "jsonl"]

PROGRAM = """
import asyncio
from pipeline.config.model import StdinSource
from pipeline.sources.stdin import StandardInput, descriptor

async def main() -> None:
    async with StandardInput(StdinSource(format="lines", headers={}), descriptor()) as source:
        print("note:", source.note(), flush=True)
        async for item in source:
            print(item.body, flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def piped(form: Format = "lines") -> AsyncIterator[tuple[StandardInput, int]]:
    """A source that reads a pipe, and the other end of that pipe."""
    reader, writer = os.pipe()
    settings = StdinSource(format=form, headers={"h": 1})
    try:
        async with asyncio.timeout(deadline(10)), StandardInput(settings, reader) as source:
            yield source, writer
    finally:
        for end in (reader, writer):
            with suppress(OSError):  # closed by the test
                os.close(end)


async def items_of(content: bytes, form: Format = "lines") -> list[Item]:
    async with piped(form) as (source, writer):
        os.write(writer, content)
        os.close(writer)
        return [item async for item in source]


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        ("lines", b"", []),
        ("lines", b"a\nb\n", [b"a", b"b"]),
        ("lines", b"a\r\n\nb", [b"a", b"", b"b"]),
        ("lines", b"\xef\xbb\xbfa\n", [b"a"]),
        ("lines", b"\xff\n", [b"\xff"]),
        ("jsonl", b'{"a": 1}\n\n[2]', [b'{"a": 1}', b"[2]"]),
    ],
)
async def test_lines_until_the_end(form: Format, content: bytes, expected: list[bytes]) -> None:
    items = await items_of(content, form)
    assert [item.body for item in items] == expected
    assert len({item.message_id for item in items}) == len(expected)
    assert {item.content_type for item in items} <= {None if form == "lines" else "application/json"}
    assert all(item.headers == {"h": 1} for item in items)


async def test_a_line_is_an_item_before_the_next_one_is_there() -> None:
    async with piped() as (source, writer):
        items = aiter(source)
        os.write(writer, b"first\nsec")
        assert (await anext(items)).body == b"first"
        os.write(writer, b"ond\n")
        second = await anext(items)
        assert second.body == b"second"
        await source.sent(second)
        assert source.progress() == (1, None, "items")


async def test_many_pieces_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin, "PIECE", 3)
    items = await items_of(b"one\ntwo three four\n\nfive")
    assert [item.body for item in items] == [b"one", b"two three four", b"", b"five"]


async def test_bad_json_is_named_by_its_line() -> None:
    with pytest.raises(SourceError) as caught:
        await items_of(b"1\n\nbad\n", "jsonl")
    assert str(caught.value) == (
        "standard input, line 3: not JSON: Expecting value (column 1); `format: lines` sends lines as they are. "
        "Nothing from this line on was sent"
    )


async def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin, "LONGEST", 100)
    with pytest.raises(SourceError, match=f"^standard input, line 2: {records.too_long()}"):
        await items_of(b"1\n" + b"x" * 101)


async def test_a_read_that_waits_does_not_hold_up_a_stop() -> None:
    async with piped() as (source, _):
        waiting = asyncio.ensure_future(anext(aiter(source)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_pipe_that_somebody_made_non_blocking_is_read_and_stays_so() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    async with StandardInput(StdinSource(format="lines", headers={}), reader) as source:
        waiting = asyncio.ensure_future(anext(aiter(source)))
        await asyncio.sleep(0)
        os.write(writer, b"x\n")
        assert (await waiting).body == b"x"
        os.close(writer)
    assert not os.get_blocking(reader)


async def test_a_closed_input_is_finished_and_says_so() -> None:
    async with StandardInput(StdinSource(format="lines", headers={}), None) as source:
        assert source.note() == "standard input is closed, so there is nothing to read"
        assert [item async for item in source] == []


# The real number 0: the program reads it to its end and must then end by itself


def said(stdin: int, *, close: bool = False) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=deadline(30),
        preexec_fn=(lambda: os.close(0)) if close else None,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\nb\n")
    with (tmp_path / "in").open() as file:
        assert said(file.fileno()) == ["note: None", "b'a'", "b'b'"]


def test_dev_null_is_finished_at_once() -> None:
    assert said(subprocess.DEVNULL) == ["note: None"]


def test_an_input_that_was_closed_before_the_start_is_finished_at_once() -> None:
    assert said(subprocess.DEVNULL, close=True) == ["note: standard input is closed, so there is nothing to read"]


def test_a_terminal_is_read_until_ctrl_d_and_left_as_it_was() -> None:
    # Given a program on a terminal
    keyboard, screen = pty.openpty()
    flags, modes = fcntl.fcntl(screen, fcntl.F_GETFL), termios.tcgetattr(screen)
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=screen, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "note: reading lines from the terminal; Ctrl-D ends\n"
        # When somebody types a line, it is an item at once
        os.write(keyboard, b"hello\n")
        assert program.stdout.readline() == "b'hello'\n"
        # Then the terminal is as it was for whoever shares it, and Ctrl-D ends the program
        assert (fcntl.fcntl(screen, fcntl.F_GETFL), termios.tcgetattr(screen)) == (flags, modes)
        os.write(keyboard, b"\x04")
        assert program.wait(timeout=deadline(30)) == 0
    os.close(keyboard)
    os.close(screen)


def test_a_program_that_is_interrupted_while_it_reads_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "note: None\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=deadline(30)) == -signal.SIGINT
