"""Stopping the real command: what was begun is finished or given back and named, within `shutdown_timeout`; a second
signal forces. Nothing that was confirmed is missing afterwards."""

import signal
from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("both_lines")

FILE = """
broker: ${AMQP_URL}
queues:
  tasks: {}
consumers:
  worker: {queue: tasks, handler: steps:HANDLER, prefetch: 10}
runtime: {shutdown_timeout: TIMEOUT}
"""
STEPS = """
import asyncio, time

async def short(body: str) -> None:
    print(f"begins {body}", flush=True)
    await asyncio.sleep(0.5)
    print(f"has finished {body}", flush=True)

async def endless(body: str) -> None:
    print(f"begins {body}", flush=True)
    await asyncio.Event().wait()

async def stubborn(body: str) -> None:
    print(f"begins {body}", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

def blocking(body: str) -> None:
    print(f"begins {body}", flush=True)
    time.sleep(600)
"""


async def started(
    broker: BrokerUnderTest, run_piperun: Commands, folder: Path, handler: str, timeout: str, *, messages: int = 5
) -> Command:
    """A consumer with work in hand: one message begun, the others waiting in the process."""
    (folder / "steps.py").write_text(STEPS)
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    for number in range(messages):
        await broker.publish("tasks", f"task {number}".encode())
    text = FILE.replace("HANDLER", handler).replace("TIMEOUT", timeout)
    command = run_piperun(text, env={"AMQP_URL": broker.url})
    command.wait_for_line("begins task 0")
    return command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_what_was_begun_is_finished_and_the_rest_goes_back(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path, number: signal.Signals
) -> None:
    command = await started(broker, run_piperun, tmp_path, "short", "10s")
    command.send_signal(number)
    assert command.wait() == 0
    finished = [line for line in command.lines if line.startswith("has finished")]
    assert "stopping, " + number.name in command.output
    left = wait_until(lambda: broker.queue_depths()["tasks"], told="the messages that went back")
    assert left == 5 - len(finished)
    assert finished[0] == "has finished task 0"
    assert command.lines[-1].endswith(f"5 delivered, {len(finished)} done, {left} returned")


@pytest.mark.parametrize("handler", ["endless", "stubborn", "blocking"])
async def test_a_handler_that_does_not_end_is_cut_off_and_named(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path, handler: str
) -> None:
    command = await started(broker, run_piperun, tmp_path, handler, "2s")
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 5
    named = command.wait_for_line("the handler of message .* did not end in time")
    assert "the message goes back to its queue" in named
    assert "5 returned" in command.lines[-1]
    assert [message.body for message in await broker.get_all("tasks")] == [f"task {n}".encode() for n in range(5)]


@pytest.mark.parametrize("handler", ["endless", "stubborn", "blocking"])
async def test_a_second_signal_forces(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path, handler: str
) -> None:
    command = await started(broker, run_piperun, tmp_path, handler, "60s")
    command.send_signal(signal.SIGINT)
    command.wait_for_line("stopping, SIGINT received")
    command.send_signal(signal.SIGINT)
    assert command.wait(2) == 130
    assert command.lines[-1].startswith("forced by a second signal")
    left = wait_until(lambda: len_or_none(broker, 5), told="all five messages back in the queue")
    assert left == 5


def len_or_none(broker: BrokerUnderTest, wanted: int) -> int | None:
    found = broker.queue_depths()["tasks"]
    return found if found == wanted else None


async def test_a_signal_is_heard_while_connecting(run_piperun: Commands) -> None:
    """Nothing listens there, and the file says to wait."""
    command = run_piperun(
        "broker: amqp://127.0.0.1:1\nqueues: {tasks: {}}\nproducers:\n  p: {source: {type: interval}, "
        "publish: {queue: tasks}}\nruntime: {startup: wait}\n"
    )
    command.wait_for_line("connection refused.*next attempt in")
    command.send_signal(signal.SIGTERM)
    assert command.wait(5) == 0


async def test_the_workers_of_a_supervisor_are_stopped_in_order(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    for number in range(6):
        await broker.publish("tasks", f"task {number}".encode())
    text = FILE.replace("HANDLER", "short").replace("TIMEOUT", "10s, workers: 2").replace("prefetch: 10", "prefetch: 1")
    command = run_piperun(text, env={"AMQP_URL": broker.url})
    command.wait_for_line("begins task 0")
    command.wait_for_line("begins task 1")
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    finished = sum(line.startswith("has finished") for line in command.lines)
    assert finished >= 2
    assert wait_until(lambda: broker.queue_depths()["tasks"] == 6 - finished, told="the rest in the queue")
    assert f"{finished} done" in command.lines[-1]


async def test_an_endless_handler_in_a_worker_is_cut_off(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    command = await started(broker, run_piperun, tmp_path, "stubborn", "2s, workers: 1")
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 5
    assert "5 returned" in command.lines[-1]
    assert await broker_holds(broker, 5)


async def broker_holds(broker: BrokerUnderTest, count: int) -> bool:
    return wait_until(lambda: broker.queue_depths()["tasks"] == count, told=f"{count} messages in the queue")
