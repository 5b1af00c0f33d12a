"""The benchmark of the start still runs. How fast anything is, nobody asserts."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.start_up import commands
from benchmarks.start_up.commands import COMMANDS, Command, measure
from tests.waiting import deadline

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_has_a_time_and_a_cost(command: Command) -> None:
    found = measure(command)
    assert found.seconds > 0
    assert found.cpu_seconds > 0


def test_a_command_that_fails_gives_no_figure() -> None:
    with pytest.raises(RuntimeError, match="ended with status 2"):
        measure(Command(name="wrong", words=("-m", "pipeline", "run", "--nonsense")))


def test_a_run_without_a_message_gives_no_figure() -> None:
    with pytest.raises(RuntimeError, match="the handler was not called"):
        measure(Command(name="validate", words=("-m", "pipeline", "validate"), first_message=True))


def test_the_handler_is_the_one_that_the_file_names() -> None:
    assert "handler: hello:on_message" in commands._HELLO.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["--help"], ["--rounds", "2", "--command", "python, nothing"]])
def test_the_command_prints_lines_that_fit_a_terminal(words: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.start_up", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=deadline(60), check=False)
    assert run.returncode == 0, run.stderr
    assert "python, nothing" in run.stdout
    assert all(len(line) <= 80 for line in run.stdout.splitlines()), run.stdout
