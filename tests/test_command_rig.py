"""The helper that runs `piperun` as a process, tried on a small program in its place."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import command
from tests.command import Commands
from tests.waiting import wait_until

STAND_IN = f"""#!{sys.executable}
import functools, os, signal, subprocess, sys
print = functools.partial(print, flush=True)
print("called with", *sys.argv[1:])
print(open(sys.argv[2]).read() if len(sys.argv) > 2 else "no file", file=sys.stderr)
print("home is", os.environ["HOME"], "and the secret", os.environ.get("SECRET", "unknown"), os.environ.get("GIVEN"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
child = subprocess.Popen(["sleep", "60"])
print("child", child.pid)
print("read", sys.stdin.read())
signal.pause()
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    program = tmp_path / "piperun"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setattr(command, "PROGRAM", program)
    monkeypatch.setenv("SECRET", "hunter2")
    commands = Commands(tmp_path)
    yield commands
    commands.close()


def test_a_command_runs_on_a_file_in_a_folder_of_its_own_with_a_clean_environment(commands: Commands) -> None:
    run = commands("queues: {}", "--quiet", env={"GIVEN": "yes"}, stdin="some input")
    run.wait_for_line("^read some input$")
    assert "called with run pipeline.yaml --quiet\n" in run.output
    assert "queues: {}\n" in run.output
    assert f"home is {commands.folder} and the secret unknown yes\n" in run.output


def test_a_verb_can_be_called_without_a_file(commands: Commands) -> None:
    assert commands(verb="schema").wait_for_line("no file")


def test_a_signal_ends_it_and_its_status_is_told(commands: Commands) -> None:
    run = commands("x")
    run.wait_for_line("^read")
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 7
    with pytest.raises(AssertionError, match=r"it ended without a line like 'never'(.|\n)*called with"):
        run.wait_for_line("never")


def test_waiting_in_vain_shows_the_output(commands: Commands) -> None:
    run = commands("x")
    run.wait_for_line("^read")
    with pytest.raises(AssertionError, match=r"without a line like 'never'(.|\n)*called with"):
        run.wait_for_line("never", 0.1)
    with pytest.raises(AssertionError, match=r"still running(.|\n)*called with"):
        run.wait(0.1)


def test_lines_before_a_given_one_do_not_count(commands: Commands) -> None:
    run = commands("x")
    run.wait_for_line("^read")
    with pytest.raises(AssertionError):
        run.wait_for_line("called with", 0.1, after=len(run.lines))


def test_closing_ends_what_the_command_has_started_and_tells_what_it_said(commands: Commands) -> None:
    child = int(commands("x").wait_for_line("^child").split()[1])
    assert "$ piperun run pipeline.yaml\ncalled with" in commands.close()
    wait_until(lambda: _gone(child), told="the end of the child")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
