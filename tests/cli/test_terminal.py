"""The installed command as a person meets it: on a terminal of its own, with streams that are closed or cut off, and
with a log that a program reads. What the lines say is tested where they are made."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import PROGRAM, _clean
from tests.waiting import deadline

PIPELINE = """\
queues: {hello: }
producers:
  sender:
    source: {type: interval, every: 1ms, count: 2, body: hi}
    publish: {queue: hello}
consumers:
  receiver: {queue: hello, handler: steps:handle}
runtime: {until: idle, shutdown_timeout: 2s}
"""
FOREVER = PIPELINE.replace("count: 2, ", "").replace("until: idle, ", "")


# Without a terminal of its own a process hears neither Ctrl-C nor a hang-up.
_ON_ITS_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """One run of the command on a terminal of 24 lines and 80 columns."""

    def __init__(self, folder: Path, arguments: list[str], **env: str) -> None:
        self.text = ""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._ours = ours
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_ITS_TERMINAL, str(PROGRAM), *arguments],
            cwd=folder,
            env=_clean(folder, {"TERM": "xterm-256color", **env}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def wait_for(self, pattern: str, seconds: float = 15) -> None:
        end = time.monotonic() + deadline(seconds)
        while not re.search(pattern, self.text):
            assert self._read(end - time.monotonic()), f"no {pattern!r} in:\n{self.text}"

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def hang_up(self) -> None:
        os.close(self._ours)
        self._ours = -1

    def status(self, seconds: float = 20) -> int:
        """Its exit status, with everything read that it has said."""
        end = time.monotonic() + deadline(seconds)
        while self._ours >= 0 and self._read(end - time.monotonic()):
            pass
        return self._process.wait(max(0.1, end - time.monotonic()))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._ours >= 0:
            self.hang_up()

    def _read(self, seconds: float) -> bool:
        """Whether there was more to read."""
        if seconds <= 0 or not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            found = os.read(self._ours, 65536)
        except OSError:  # how a terminal says that nobody is at its other end any more
            return False
        self.text += found.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        return bool(found)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    started: list[Terminal] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "forever.yaml").write_text(FOREVER)
    (tmp_path / "steps.py").write_text("async def handle(body):\n    print('got', body, flush=True)\n")
    return tmp_path


def run(
    folder: Path, redirection: str, *arguments: str, file: str = "pipeline.yaml"
) -> subprocess.CompletedProcess[str]:
    """The command in a shell, with what the shell is to do with its streams."""
    words = " ".join([f"'{PROGRAM}'", *arguments, file, redirection])
    return subprocess.run(
        ["/bin/bash", "-c", words],
        cwd=folder,
        env=_clean(folder, {}),
        capture_output=True,
        text=True,
        timeout=deadline(30),
        check=False,
    )


# On a terminal


def test_ctrl_c_stops_in_order(folder: Path, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(folder, ["forever.yaml"]))
    terminal.wait_for("got hi")
    terminal.press(b"\x03")
    assert terminal.status() == 0
    assert "stopping, SIGINT received" in terminal.text
    assert re.search(r"ended after .* sent and confirmed, .* done\n$", terminal.text)


def test_ctrl_c_twice_forces(folder: Path, terminals: list[Terminal]) -> None:
    (folder / "steps.py").write_text("import asyncio\nasync def handle(body):\n    await asyncio.sleep(600)\n")
    terminals.append(terminal := Terminal(folder, ["forever.yaml"]))
    terminal.wait_for("ready with")
    terminal.press(b"\x03")
    terminal.wait_for("stopping, SIGINT received")
    terminal.press(b"\x03")
    assert terminal.status() == 130
    assert "forced by a second signal" in terminal.text
    assert "Traceback" not in terminal.text


def test_a_terminal_that_is_closed_stops_in_order(folder: Path, terminals: list[Terminal]) -> None:
    (folder / "steps.py").write_text(
        "import pathlib\nasync def handle(body):\n    pathlib.Path('got').write_text('it')\n"
    )
    terminals.append(terminal := Terminal(folder, ["forever.yaml"]))
    terminal.wait_for("ready with")
    terminal.hang_up()
    assert terminal.status() == 0


def test_the_caret_stands_under_the_word_where_the_line_is_wider_than_the_terminal(
    folder: Path, terminals: list[Terminal]
) -> None:
    (folder / "wide.yaml").write_text("queues:\n  日本語: {name: " + "n" * 80 + ", durabel: true}\n")
    terminals.append(terminal := Terminal(folder, ["validate", "wide.yaml"], NO_COLOR="1"))
    assert terminal.status() == 2
    lines = [line for line in terminal.text.splitlines() if " | " in line]
    caret = next(line for line in lines if "^" in line)
    assert lines[0][caret.index("^") : caret.rindex("^") + 1] == "durabel"
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_colours_are_for_terminals_that_want_them(
    folder: Path, terminals: list[Terminal], env: dict[str, str], coloured: bool
) -> None:
    (folder / "wrong.yaml").write_text("queue: {}\n")
    terminals.append(terminal := Terminal(folder, ["validate", "wrong.yaml"], **env))
    assert terminal.status() == 2
    assert ("\x1b[1;31merror" in terminal.text) == coloured


# Streams that are closed or cut off


@pytest.mark.parametrize("redirection", ["2>&-", ">&-", "<&-", ">&- 2>&- <&-"])
def test_a_run_with_closed_streams_is_a_run_like_any_other(folder: Path, redirection: str) -> None:
    (folder / "steps.py").write_text("async def handle(body):\n    open('got', 'a').write(body)\n")
    done = run(folder, redirection)
    assert (done.returncode, (folder / "got").read_text()) == (0, "hihi")
    assert "Traceback" not in done.stdout + done.stderr


def test_workers_of_a_run_with_closed_streams_have_streams(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("until: idle", "until: idle, workers: 2"))
    (folder / "steps.py").write_text(
        "import sys\nasync def handle(body):\n    print('x', file=sys.stderr, flush=True)\n"
    )
    assert run(folder, ">&- 2>&- <&-").returncode == 0


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&- <&-"])
def test_a_wrong_file_with_closed_streams_is_a_wrong_file(folder: Path, redirection: str) -> None:
    (folder / "wrong.yaml").write_text("queue: {}\n")
    done = run(folder, redirection, "validate", file="wrong.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("arguments", [(), ("validate",), ("--help",)], ids=str)
def test_a_reader_that_goes_away_is_no_traceback(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run(folder, "2>&1 | head -1", *arguments)
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1


# For machines


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_a_run_is_json_from_the_first_to_the_last(folder: Path) -> None:
    # Given a warning about the file, and a module that warns and logs while it is imported
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("{hello: }", "{hello: , Hello: }"))
    noisy = "import logging, warnings\nlogging.warning('noisy')\nwarnings.warn('worn out')\n"
    (folder / "steps.py").write_text(noisy + "async def handle(body): ...\n")
    # When it runs, then every line is an object
    done = run(folder, "", "--log-format json")
    found = objects(done.stderr)
    assert done.returncode == 0
    assert {"case-only-difference", None} == {line.get("word") for line in found}
    assert {"noisy", "py.warnings", "Summary"} <= {
        str(line.get(key)) for line in found for key in ("message", "subject", "event")
    }


@pytest.mark.parametrize(
    ("file", "status", "event"),
    [
        ("queue: {}\n", 2, "Problem"),
        ("broker: amqp://127.0.0.1:1\n" + PIPELINE, 3, "Error"),
        (PIPELINE.replace("steps:handle", "steps:handel"), 2, "Problem"),
    ],
    ids=["a wrong file", "no broker", "a wrong handler"],
)
def test_what_ends_a_run_is_json_too(folder: Path, file: str, status: int, event: str) -> None:
    (folder / "pipeline.yaml").write_text(file)
    done = run(folder, "", "--log-format json")
    assert done.returncode == status
    assert [line["event"] for line in objects(done.stderr)][-1] == event


# Where and how it is started


def test_names_with_spaces_and_in_any_script_from_another_folder(folder: Path) -> None:
    inside = folder / "мои конфиги"
    inside.mkdir()
    (inside / "при вет.yaml").write_text(PIPELINE.replace("steps:handle", "шаги:обработчик"))
    (inside / "шаги.py").write_text("async def обработчик(body):\n    print('получено', body)\n")
    done = run(folder, "", file="'мои конфиги/при вет.yaml'")
    assert (done.returncode, done.stdout) == (0, "получено hi\nполучено hi\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_answer_can_be_printed_in_any_encoding(folder: Path, encoding: str) -> None:
    (folder / "wrong.yaml").write_text("очереди: {}\n")
    done = subprocess.run(
        [str(PROGRAM), "validate", "wrong.yaml"],
        cwd=folder,
        env=_clean(folder, {"PYTHONIOENCODING": encoding}),
        capture_output=True,
        timeout=deadline(30),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"wrong.yaml:1:1: error[unknown-key]: no section is called ")


def test_an_app_dir_that_is_not_there_is_a_usage_error(folder: Path) -> None:
    done = run(folder, "--app-dir nowhere")
    assert done.returncode == 2
    assert "'nowhere' does not exist" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "number", "completed"),
    [
        ("piperun a.yaml --log", "2", "--log-format --log-level --log-bodies"),
        ("piperun a.yaml --log-format ", "3", "text json"),
        ("piperun run --log", "2", "--log-format --log-level --log-bodies"),
        ("piperun va", "1", "validate"),
    ],
)
def test_a_shell_completes_the_short_form_too(folder: Path, words: str, number: str, completed: str) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": number, "_PIPERUN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [str(PROGRAM)], cwd=folder, env=_clean(folder, asked), capture_output=True, text=True, timeout=deadline(30)
    )
    assert done.stdout.split() == completed.split()
