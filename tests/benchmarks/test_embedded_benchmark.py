"""The benchmark of the embedded broker still runs, and what it counts adds up. How fast anything is, nobody asserts."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.embedded_broker import load
from benchmarks.embedded_broker.measure import pass_through
from benchmarks.embedded_broker.process import BrokerProcess
from benchmarks.embedded_broker.shapes import SHAPES, Shape
from tests.waiting import deadline

ROOT = Path(__file__).parents[2]
MESSAGES = 300  # several times the prefetch and the window


def named(name: str) -> Shape:
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    return shape


def test_every_message_of_every_shape_is_accounted_for() -> None:
    """One broker for all of them: each shape declares queues of its own under a prefix."""
    with BrokerProcess() as broker:
        for number, shape in enumerate(SHAPES):
            shape = elsewhere(shape, f"{number:02}.")
            load.declare(shape, broker.url)
            before = broker.read().messages
            measurement = pass_through(shape, broker, MESSAGES, seconds=1)
            copies = MESSAGES * len(shape.queues)
            assert measurement.done.published == (MESSAGES if shape.publishes else 0), shape.name
            assert measurement.done.delivered == (copies if shape.consumes else 0), shape.name
            assert measurement.left - before == (0 if shape.consumes else copies), shape.name
        broker.stop()


def elsewhere(shape: Shape, prefix: str) -> Shape:
    letters = shape.letters
    if not shape.exchange:
        letters = tuple(replace(letter, routing_key=prefix + letter.routing_key) for letter in letters)
    return replace(shape, queues=tuple(prefix + queue for queue in shape.queues), letters=letters)


def test_acks_are_sent_for_all_that_was_delivered() -> None:
    with BrokerProcess() as broker:
        load.declare(named("full-confirmed"), broker.url)
        done = pass_through(named("full-confirmed"), broker, MESSAGES, seconds=1).done
        assert (done.published, done.confirmed, done.delivered, done.acknowledged) == (MESSAGES,) * 4
        assert broker.read().messages == 0


def test_a_run_that_is_not_done_in_time_says_how_far_it_came() -> None:
    """Nobody publishes, so the consumer waits in vain."""
    shape = named("deliver")
    with BrokerProcess() as broker:
        load.declare(shape, broker.url)
        with pytest.raises(TimeoutError, match="0 of 5 delivered"):
            load.run(shape, broker.url, 5, time.monotonic() + 0.1)


def test_a_queue_that_is_missing_is_told_in_the_brokers_words() -> None:
    with BrokerProcess() as broker, pytest.raises(RuntimeError, match=r"Channel\.Close 404 NOT_FOUND - no queue"):
        load.run(named("deliver"), broker.url, 5, time.monotonic() + 5)


@pytest.mark.parametrize("words", ["--help", "--seconds 0.05 --rounds 1", "--seconds 0.05 --profile"])
def test_the_command_prints_lines_that_fit_a_terminal(words: str) -> None:
    command = [sys.executable, "-m", "benchmarks.embedded_broker", "--shape", "full", *words.split()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=deadline(60), check=False)
    assert run.returncode == 0, run.stderr
    assert "full" in run.stdout
    assert all(len(line) <= 80 for line in run.stdout.splitlines()), run.stdout
