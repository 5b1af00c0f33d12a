"""The count of instructions still carries every message to its end, and reads what valgrind says. How many there are,
nobody asserts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.instructions.__main__ import HOW_TO_GET_IT, instructions
from benchmarks.instructions.line import carry
from benchmarks.instructions.ways import WAYS, Way
from tests.waiting import deadline

ROOT = Path(__file__).parents[2]
VALGRIND_SAYS = "==7== \n==7== I   refs:      1,042,793,123\n"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_every_message_comes_to_its_end(way: Way) -> None:
    few, many = [await carry(way, rounds * way.at_once) for rounds in (1, 3)]  # it ends with the last ack
    published = len(way.shape.body) * way.at_once if way.shape.consumer else 0
    assert few > published
    assert many > 3 * published


def test_what_was_counted_is_read() -> None:
    assert instructions(VALGRIND_SAYS) == 1_042_793_123
    with pytest.raises(RuntimeError, match="has not counted: command not found"):
        instructions("command not found")


def test_without_valgrind_it_says_how_to_get_it(tmp_path: Path) -> None:
    run = command("--way", "consume", path=str(tmp_path))
    assert (run.returncode, run.stderr.strip()) == (1, HOW_TO_GET_IT)


def test_the_help_names_the_ways() -> None:
    run = command("--help", path=os.environ["PATH"])
    assert run.returncode == 0, run.stderr
    assert all(f"  {way.name} " in run.stdout for way in WAYS)
    assert all(len(line) <= 80 for line in run.stdout.splitlines()), run.stdout


def test_where_they_are_is_told_by_function() -> None:
    run = command("--where", "consume", path="")
    assert run.returncode == 0, run.stderr
    rows = [line.split() for line in run.stdout.splitlines()[1:]]
    (ack,) = (row for row in rows if "FastDelivery.ack" in row)
    assert ack[1:] == ["1.00", "FastDelivery.ack", "pipeline/amqp/fast/deliveries.py"]
    # And each is in the sum
    *numbers, total = [float(row[0]) for row in rows]
    assert sum(numbers) == pytest.approx(total, abs=0.1 * len(rows))


def command(*words: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.instructions", *words],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=deadline(60),
        check=False,
    )
