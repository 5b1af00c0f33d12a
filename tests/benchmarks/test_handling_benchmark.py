"""The benchmark of handling still runs every kind of handler to its end. How fast anything is, nobody asserts."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.handling.measure import measure, measure_floor
from benchmarks.handling.shapes import SHAPES, Shape
from tests.waiting import deadline

ROOT = Path(__file__).parents[2]
MESSAGES = 250  # several times the prefetch


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_message_is_handled_and_acknowledged(shape: Shape) -> None:
    assert measure(shape, MESSAGES) > 0  # it ends with the last ack, or with an error


def test_the_floor_acknowledges_every_message() -> None:
    assert measure_floor(SHAPES[0], MESSAGES) > 0


@pytest.mark.parametrize("words", ["--help", "--rounds 1", "--profile"])
def test_the_command_prints_its_table(words: str) -> None:
    command = [sys.executable, "-m", "benchmarks.handling", "--shape", "bytes", "--messages", "200", *words.split()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=deadline(60), check=False)
    assert run.returncode == 0, run.stderr
    assert "async def (body: bytes)" in run.stdout
