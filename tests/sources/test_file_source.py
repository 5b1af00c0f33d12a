"""The file source with its checkpoint: real files, real kills. What is promised: nothing is lost, and what may come
twice comes under the same message id."""

import asyncio
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.clock import FakeClock
from pipeline.config.model import FileFormat, FileSource
from pipeline.errors import SourceError
from pipeline.sources.base import Item
from pipeline.sources.file import File
from tests.waiting import eventually


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a person would stand: messages name paths relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Run:
    """Opens the same file again and again, as one run after the other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "in.jsonl"
        self.checkpoint = folder / "state" / "kept.json"
        self.clock = FakeClock()

    def file(self, form: FileFormat = "jsonl", *, keep_checkpoint: bool = True) -> File:
        settings = FileSource(path=self.path, format=form, headers={"h": 1}, checkpoint=self.checkpoint)
        return File(settings, producer="nightly", clock=self.clock, keep_checkpoint=keep_checkpoint)

    async def all(self, form: FileFormat = "jsonl", *, sent: Callable[[int], bool] = lambda number: True) -> list[Item]:
        """One whole run, in which the items whose number, from 0, passes `sent` are confirmed."""
        async with self.file(form) as file:
            items = [item async for item in file]
            for number, item in enumerate(items):
                if sent(number):
                    await file.sent(item)
                else:
                    await file.failed(item, "nacked")
        return items

    async def note(self) -> str | None:
        async with self.file() as file:
            return file.note()

    def kept(self) -> dict[str, object]:
        values: dict[str, object] = json.loads(self.checkpoint.read_text())
        return values


@pytest.fixture
def run(folder: Path) -> Run:
    return Run(folder)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bytes_of(item: Item) -> bytes:
    assert isinstance(item.body, bytes)
    return item.body


def bodies(items: list[Item]) -> list[object]:
    return [item.body for item in items]


async def test_items_carry_body_headers_type_and_an_id_of_their_own(run: Run) -> None:
    run.path.write_bytes(b'{"a": 1}\n\n{"a":2}\n')
    first, second = await run.all()
    assert (first.body, second.body) == (b'{"a": 1}', b'{"a":2}')
    assert first.headers == {"h": 1}
    assert first.content_type == "application/json"
    assert first.message_id and second.message_id and first.message_id != second.message_id


@pytest.mark.parametrize(
    ("form", "body", "content_type"),
    [("lines", b"1", None), ("jsonl", b"1", "application/json"), ("csv", {"a": "1"}, "application/json")],
)
async def test_what_a_format_gives(run: Run, form: FileFormat, body: object, content_type: str | None) -> None:
    run.path.write_bytes(b"a\n1\n" if form == "csv" else b"1\n")
    [item] = await run.all(form)
    assert (item.body, item.content_type) == (body, content_type)


async def test_a_run_after_a_finished_one_finds_nothing_and_says_so(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n\n")
    assert await run.note() is None
    assert bodies(await run.all()) == [b"1", b"2"]
    assert await run.note() == (
        "nothing new in in.jsonl: all of it was sent before; remove state/kept.json to send it again"
    )
    assert await run.all() == []


async def test_what_was_added_since_is_sent(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n")
    await run.all()
    with run.path.open("ab") as file:
        file.write(b"3\n")
    assert await run.note() == "continues at line 3 of in.jsonl (byte 4, checkpoint state/kept.json)"
    assert bodies(await run.all()) == [b"3"]


async def test_a_run_goes_on_at_the_lowest_item_without_a_confirm(run: Run) -> None:
    # Given four items of which the second was not taken
    run.path.write_bytes(b"10\n20\n30\n40\n")
    first = await run.all(sent=lambda number: number != 1)
    # When the next run reads
    second = await run.all()
    # Then it begins with that one, and repeats what follows under the same ids
    assert bodies(second) == [b"20", b"30", b"40"]
    assert [item.message_id for item in second] == [item.message_id for item in first[1:]]


async def test_the_header_of_csv_is_known_in_the_next_run(run: Run) -> None:
    run.path.write_bytes(b'id,note\n1,"a\nb"\n2,c\n')
    await run.all("csv", sent=lambda number: number == 0)
    assert bodies(await run.all("csv")) == [{"id": "2", "note": "c"}]


async def test_an_item_that_was_read_and_never_answered_comes_again(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n3\n")
    async with run.file() as file:
        items = aiter(file)
        await file.sent(await anext(items))
        await anext(items)  # the run is stopped while this one waits for its confirm
    assert bodies(await run.all()) == [b"2", b"3"]


async def test_a_bad_line_stays_in_front_of_the_next_run(run: Run) -> None:
    run.path.write_bytes(b"1\nbad\n3\n")
    for before in ([b"1"], []):
        seen = []
        with pytest.raises(SourceError, match=r"^in\.jsonl:2: not JSON"):
            async with run.file() as file:
                async for item in file:
                    seen.append(item.body)
                    await file.sent(item)
        assert seen == before


async def test_without_a_checkpoint_nothing_is_written_and_each_run_begins_anew(run: Run, folder: Path) -> None:
    run.path.write_bytes(b"1\n2\n")
    ids = []
    for _ in range(2):
        async with run.file(keep_checkpoint=False) as file:
            items = [item async for item in file]
            for item in items:
                await file.sent(item)
            assert file.note() is None
        ids.append([item.message_id for item in items])
    assert ids[0] == ids[1]
    assert names_in(folder) == ["in.jsonl"]


async def test_progress_is_in_confirmed_bytes(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n\n")
    closed = run.file()
    assert closed.progress() is None
    async with run.file() as file:
        items = [item async for item in file]
        assert file.progress() == (0, 5, "bytes")
        await file.sent(items[1])
        assert file.progress() == (0, 5, "bytes")
        await file.sent(items[0])
        assert file.progress() == (5, 5, "bytes")


# The file may change between runs


async def test_a_replaced_file_is_read_anew_under_other_ids(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n")
    first = await run.all()
    other = run.path.with_name("other")
    other.write_bytes(b"1\n2\n")  # the same content in another file
    other.replace(run.path)
    assert "is read from its beginning: it is another file than in the last run" in str(await run.note())
    second = await run.all()
    assert bodies(second) == [b"1", b"2"]
    assert not {item.message_id for item in first} & {item.message_id for item in second}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1\n", "it is shorter than in the last run"),
        (b"7\n2\n3\n", "it begins otherwise than in the last run"),
        (b"", "it is shorter than in the last run"),
    ],
)
async def test_a_file_that_was_written_anew_in_place_is_read_anew(run: Run, content: bytes, reason: str) -> None:
    run.path.write_bytes(b"1\n2\n")
    first = await run.all()
    run.path.write_bytes(content)
    async with run.file() as file:
        assert file.note() == f"in.jsonl is read from its beginning: {reason}"
        items = [item async for item in file]
    assert bodies(items) == content.split()
    assert not {item.message_id for item in first} & {item.message_id for item in items}


async def test_a_change_far_behind_the_beginning_is_noticed(run: Run) -> None:
    lines = [b"%d\n" % number for number in range(10_000, 12_000)]
    run.path.write_bytes(b"".join(lines))
    first = await run.all()
    run.path.write_bytes(b"".join([*lines[:-1], b"99999\n", b"7\n"]))
    assert await run.note() == "in.jsonl is read from its beginning: what was sent of it in the last run has changed"
    second = await run.all()
    assert len(second) == 2001
    assert not {item.message_id for item in first} & {item.message_id for item in second}


@pytest.mark.parametrize(
    ("content", "added", "expected"),
    [
        (b"a,b", b",c\n1,2,3\n", [{"a": "1", "b": "2", "c": "3"}]),
        (b"a,b\n", b"1,2\n", [{"a": "1", "b": "2"}]),
        (b"", b"a\n1\n", [{"a": "1"}]),
    ],
)
async def test_a_csv_without_rows_may_grow(run: Run, content: bytes, added: bytes, expected: list[object]) -> None:
    run.path.write_bytes(content)
    assert await run.all("csv") == []
    with run.path.open("ab") as file:
        file.write(added)
    assert bodies(await run.all("csv")) == expected


async def test_a_small_file_that_grew_is_the_same_file(run: Run) -> None:
    run.path.write_bytes(b"1\n")
    [first] = await run.all(sent=lambda number: False)
    with run.path.open("ab") as file:
        file.write(b"2\n" * 5000)  # more than the part that is compared
    again = await run.all()
    assert again[0].message_id == first.message_id
    assert len(again) == 5001
    assert await run.all() == []


async def test_another_path_in_the_file_begins_anew(run: Run, folder: Path) -> None:
    run.path.write_bytes(b"1\n")
    await run.all()
    run.path = folder / "second.jsonl"
    run.path.write_bytes(b"1\n")
    assert await run.note() == "second.jsonl is read from its beginning: the checkpoint is for in.jsonl"


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (b"", []),
        (b"\n", []),
        (b"\r\n", []),
        (b"\n3\n", [b"3"]),
        (b"2\n3\n", [b"22", b"3"]),  # the line was still being written: it is another item, and sent whole
    ],
)
async def test_a_last_line_without_an_end_may_grow(run: Run, added: bytes, expected: list[bytes]) -> None:
    run.path.write_bytes(b"1\n2")
    assert bodies(await run.all()) == [b"1", b"2"]
    assert await run.all() == []  # also a run in between keeps this in mind
    with run.path.open("ab") as file:
        file.write(added)
    assert bodies(await run.all()) == expected
    assert await run.all() == []


# What cannot be opened


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "in.jsonl does not exist; `path:` is relative to the folder of the pipeline's file"),
        (Path.mkdir, "in.jsonl is not a regular file; `type: stdin` reads from pipes"),
        (fifo, "in.jsonl is not a regular file; `type: stdin` reads from pipes"),
        (lambda path: path.symlink_to(path), "in.jsonl cannot be read: "),
    ],
)
async def test_a_path_that_cannot_be_read_is_a_sentence(
    run: Run, make: Callable[[Path], object], sentence: str
) -> None:
    make(run.path)
    with pytest.raises(SourceError) as caught:
        async with run.file():
            pass
    assert str(caught.value).startswith(sentence)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_a_sentence(run: Run) -> None:
    run.path.touch(mode=0o000)
    with pytest.raises(SourceError, match=r"in\.jsonl cannot be read: Permission denied"):
        async with run.file():
            pass


async def test_a_symbolic_link_is_followed_to_its_file(run: Run, folder: Path) -> None:
    (folder / "real.jsonl").write_bytes(b"1\n")
    run.path.symlink_to("real.jsonl")
    assert bodies(await run.all()) == [b"1"]
    assert run.kept()["path"] == str((folder / "real.jsonl").resolve())


# The checkpoint's file


async def test_the_checkpoint_is_readable_for_its_owner_only(run: Run) -> None:
    run.path.write_bytes(b"1\n")
    await run.all()
    assert stat.S_IMODE(run.checkpoint.stat().st_mode) == 0o600
    assert names_in(run.checkpoint.parent) == ["kept.json", "kept.json.lock"]


async def test_the_checkpoint_moves_in_the_background_once_in_a_second(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n3\n")
    async with run.file() as file:
        first, second, third = [item async for item in file]
        # The first confirm is kept at once
        await file.sent(first)
        await eventually(lambda: run.kept()["offset"] == 2 and run.clock.waiting == 1, told="the first saving")
        # Further ones wait for the second to pass
        await file.sent(second)
        await file.sent(third)
        assert run.kept()["offset"] == 2
        run.clock.advance(1.0)
        await eventually(lambda: run.kept()["offset"] == 6, told="the second saving")


DAMAGED = [
    ("", "it is damaged (Expecting value"),
    ("{", "it is damaged (Expecting property name"),
    ("[]", "it is damaged ("),
    ('{"version": 1}', "it is damaged ("),
]


@pytest.mark.parametrize(("content", "why"), DAMAGED)
async def test_a_damaged_checkpoint_is_not_guessed_at(run: Run, content: str, why: str) -> None:
    run.path.write_bytes(b"1\n")
    run.checkpoint.parent.mkdir()
    run.checkpoint.write_text(content)
    with pytest.raises(SourceError) as caught:
        async with run.file():
            pass
    assert str(caught.value).startswith(f"the checkpoint state/kept.json cannot be used: {why}")
    assert str(caught.value).endswith(
        "; remove it to read the file from its beginning, which sends again what was sent before"
    )
    assert run.checkpoint.read_text() == content


@pytest.mark.parametrize(
    "wrong",
    [{"version": 2}, {"offset": -1}, {"offset": 10**6}, {"line": "1"}, {"growing": [1]}, {"path": None}, {"more": 1}],
)
async def test_a_checkpoint_with_a_strange_value_is_not_guessed_at(run: Run, wrong: dict[str, object]) -> None:
    run.path.write_bytes(b"1\n")
    await run.all()
    run.checkpoint.write_text(json.dumps({**run.kept(), **wrong}))
    with pytest.raises(SourceError, match="cannot be used: it is damaged"):
        await run.all()


async def test_a_symbolic_link_for_a_checkpoint_is_refused(run: Run, folder: Path) -> None:
    run.path.write_bytes(b"1\n")
    run.checkpoint.parent.mkdir()
    (folder / "elsewhere").write_text("{}")
    run.checkpoint.symlink_to(folder / "elsewhere")
    with pytest.raises(SourceError, match="cannot be used: it is a symbolic link"):
        await run.all()
    assert (folder / "elsewhere").read_text() == "{}"


async def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(run: Run) -> None:
    run.path.write_bytes(b"1\n")
    run.checkpoint.parent.write_text("a file where the folder should be")
    with pytest.raises(SourceError, match=r"the checkpoint state/kept\.json cannot be kept: .*`checkpoint: false`"):
        await run.all()


async def test_a_checkpoint_that_can_no_longer_be_written_ends_the_source(run: Run) -> None:
    run.path.write_bytes(b"1\n2\n3\n")
    with pytest.raises(SourceError, match=r"kept\.json cannot be written"):
        async with run.file() as file:
            items = aiter(file)
            await file.sent(await anext(items))
            await eventually(lambda: run.clock.waiting == 1, told="the first saving")
            run.checkpoint.with_name(".kept.json.tmp").mkdir()
            await file.sent(await anext(items))
            run.clock.advance(1.0)
            await eventually(lambda: run.clock.waiting == 1, told="the saving that fails")
            await anext(items)


async def test_trouble_at_the_end_of_a_stop_does_not_hide_the_stop(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.path.write_bytes(b"1\n2\n")
    with pytest.raises(asyncio.CancelledError):
        async with run.file():
            run.checkpoint.with_name(".kept.json.tmp").mkdir()
            raise asyncio.CancelledError
    assert "producer.nightly: the checkpoint state/kept.json cannot be written" in caplog.text


async def test_two_runs_cannot_share_a_checkpoint(run: Run) -> None:
    run.path.write_bytes(b"1\n")
    async with run.file():
        with pytest.raises(SourceError, match="is in use by another run"):
            await run.all()
    assert bodies(await run.all()) == [b"1"]


# Killed runs

KILLED = """
import asyncio, sys
from pathlib import Path
from pipeline.clock import SystemClock
from pipeline.config.model import FileSource
from pipeline.sources import keeper
from pipeline.sources.file import File

keeper.SAVE_EVERY = 0.002  # so that a kill meets savings at each of their steps

async def main() -> None:
    settings = FileSource(path=Path(sys.argv[1]), format="lines", headers={}, checkpoint=Path(sys.argv[2]))
    async with File(settings, producer="p", clock=SystemClock(), keep_checkpoint=True) as file:
        waiting = []
        async for item in file:
            waiting.append(item)
            if len(waiting) == 10:  # confirmed in another order than read
                for each in reversed(waiting):
                    print(each.message_id, each.body.decode(), flush=True)
                    await file.sent(each)
                waiting.clear()
                await asyncio.sleep(0)

asyncio.run(main())
"""


def killed_after(lines: int, *arguments: Path) -> list[str]:
    """What a run has confirmed when it is killed with SIGKILL after so many lines of output, or soon after."""
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = list(itertools.islice(process.stdout, lines))
        process.kill()
        seen.extend(process.stdout)
        assert process.wait(timeout=30) == -signal.SIGKILL
    return [line for line in seen if line.endswith("\n")]


async def test_a_run_that_is_killed_leaves_no_gap(run: Run) -> None:
    # Given a long file, and runs of different length that are killed in the middle of it
    run.path.write_text("".join(f"{number}\n" for number in range(100_000)))
    confirmed: dict[str, int] = {}
    for lines in (1, 1_000, 3_000, 5_000):
        for line in killed_after(lines, run.path, run.checkpoint):
            message_id, body = line.split()
            # Then a repeat has the id of the first time
            assert confirmed.setdefault(message_id, int(body)) == int(body)
    # When the next run reads on
    rest = [int(bytes_of(item)) for item in await run.all("lines")]
    # Then everything before its first item was confirmed, and nothing after it is missing
    assert 0 < rest[0] < 100_000
    assert set(range(rest[0])) <= set(confirmed.values())
    assert rest == list(range(rest[0], 100_000))
    assert names_in(run.checkpoint.parent) == ["kept.json", "kept.json.lock"]
