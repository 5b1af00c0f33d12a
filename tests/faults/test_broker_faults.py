"""The line dies, the broker restarts, a queue goes away under a consumer, a worker is killed: every message that was
confirmed is handled, dead-lettered or still queued afterwards, and a person can read what happened."""

import os
import re
import signal
from pathlib import Path

import pytest

from pipeline.embedded import EmbeddedBroker
from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import Installation
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("both_lines")

# Numbers come from a source of the pipeline itself; what is confirmed and what is handled is written down by number.
FILE = """
broker: {url: "${AMQP_URL}", heartbeat: 1s, reconnect: {initial: 100ms, max: 500ms}}
queues:
  tasks: {}
producers:
  numbers: {source: "steps:numbers", publish: {queue: tasks}, max_in_flight: 10}
consumers:
  worker: {queue: tasks, handler: "steps:work", prefetch: 5, concurrency: 2}
runtime: {until: idle, shutdown_timeout: 10s}
"""
STEPS = """
import asyncio, os
from pathlib import Path

COUNT = 150

async def numbers():
    for number in range(COUNT):
        await asyncio.sleep(0.01)
        yield str(number)

async def work(body: str) -> None:
    await asyncio.sleep(0.005)
    with open(Path(__file__).with_name("handled"), "a") as handled:
        handled.write(body + "\\n")
"""
COUNT = 150


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


def handled(folder: Path) -> list[int]:
    file = folder / "handled"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def in_the_middle(folder: Path, at: int = 20) -> None:
    """Returns when some messages are handled and many are not."""
    wait_until(lambda: len(handled(folder)) >= at, 20, told=f"{at} handled messages")


def ended_with_nothing_lost(command: Command, folder: Path) -> None:
    """Each number was handled, most of them once, and the last line adds up."""
    assert command.wait(60) == 0
    assert set(handled(folder)) == set(range(COUNT))
    numbers = {word: int(number) for number, word in re.findall(r"(\d+) (\w[\w ]*)", command.lines[-1].split(": ")[-1])}
    assert numbers["sent and confirmed"] == COUNT
    ends = [count for word, count in numbers.items() if word not in ("sent and confirmed", "delivered")]
    assert numbers["delivered"] == sum(ends), command.lines[-1]
    assert "DROPPED" not in command.lines[-1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_line_that_is_cut(
    broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, steps: Path, workers: int
) -> None:
    text = FILE.replace("until: idle", f"until: idle, workers: {workers}")
    command = run_piperun(text, env={"AMQP_URL": proxy.url(broker.url)})
    in_the_middle(steps)
    proxy.cut()
    command.wait_for_line("lost the connection .*next attempt in")
    in_the_middle(steps, 60)
    proxy.cut()
    ended_with_nothing_lost(command, steps)


def test_a_line_that_freezes(broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, steps: Path) -> None:
    command = run_piperun(FILE, env={"AMQP_URL": proxy.url(broker.url)})
    in_the_middle(steps)
    proxy.freeze()
    # Two missed heartbeats of a second each, and what the client adds.
    command.wait_for_line("lost the connection .*next attempt in", 15)
    proxy.thaw()
    ended_with_nothing_lost(command, steps)


def test_connections_that_the_broker_closes(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    command = run_piperun(FILE, env={"AMQP_URL": broker.url})
    in_the_middle(steps)
    broker.close_connections()
    command.wait_for_line("lost the connection .*CONNECTION_FORCED")
    ended_with_nothing_lost(command, steps)


async def test_a_queue_that_is_deleted_under_its_consumer(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    """What it held went with it, by somebody's wish; the consumer declares it again and goes on."""
    command = run_piperun(FILE.replace("until: idle", "until: stopped"), env={"AMQP_URL": broker.url})
    command.wait_for_line("numbers: finished")
    async with broker.channel() as channel:
        await channel.queue_delete("tasks")
    command.wait_for_line('stopped consuming from queue "tasks": .*starts again in')
    wait_until(lambda: "tasks" in broker.queue_depths(), told="the queue")
    await broker.publish("tasks", b"1000")
    wait_until(lambda: 1000 in handled(steps), told="the message after the deletion")
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0


async def test_an_alarm_of_the_broker(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    """Producers wait, nothing is sent twice, consumers go on."""
    command = run_piperun(FILE, env={"AMQP_URL": broker.url})
    in_the_middle(steps)
    broker.block()
    command.wait_for_line("has blocked publishing")
    broker.unblock()
    command.wait_for_line("takes messages again")
    ended_with_nothing_lost(command, steps)
    assert sorted(handled(steps)) == list(range(COUNT)), "each exactly once"


async def test_a_queue_that_comes_back_otherwise_hurts_its_own_consumer_only(
    broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, steps: Path
) -> None:
    text = (
        FILE.replace("queues:\n", "queues:\n  other: {}\n")
        .replace("until: idle", "until: stopped")
        .replace("consumers:\n", 'consumers:\n  second: {queue: other, handler: "steps:work"}\n')
    )
    command = run_piperun(text, env={"AMQP_URL": proxy.url(broker.url)})
    command.wait_for_line("numbers: finished")
    # Given a queue that somebody makes anew, otherwise, while we are away
    proxy.refuse()
    proxy.cut()
    command.wait_for_line("lost the connection")
    async with broker.channel() as channel:
        await channel.queue_delete("other")
    await broker.declare("other", arguments={"x-queue-type": "classic", "x-max-length": 3})
    proxy.accept()
    # Then its consumer is in conflict and says why, and the other one works
    command.wait_for_line('queue.other: queue "other" is on the broker with')
    line = command.wait_for_line("consumer.second: in conflict: .*next attempt in")
    assert "x-max-length" in line or "max_length" in line
    await broker.publish("tasks", b"2000")
    wait_until(lambda: 2000 in handled(steps), told="a message of the healthy consumer")
    # And when the difference is gone, it consumes again
    async with broker.channel() as channel:
        await channel.queue_delete("other")
    command.wait_for_line('consumer.second: consuming from queue "other"', 30, after=len(command.lines))
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0


def test_workers_that_are_killed(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    text = FILE.replace("until: idle", "until: idle, workers: 2")
    command = run_piperun(text, env={"AMQP_URL": broker.url})
    in_the_middle(steps)
    pids = [int(found[1]) for line in command.lines if (found := re.search(r"started as process (\d+)", line))]
    os.kill(pids[1], signal.SIGKILL)
    command.wait_for_line("worker.2: process .* died: killed by SIGKILL .*the next one starts in")
    command.wait_for_line("worker.2: started as process", after=len(command.lines) - 1)
    assert command.wait(60) == 0
    assert set(handled(steps)) == set(range(COUNT))


def test_a_worker_that_is_killed_while_it_runs_the_sources(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    """A generator begins again: everything comes, some of it twice."""
    text = FILE.replace("until: idle", "until: idle, workers: 2")
    command = run_piperun(text, env={"AMQP_URL": broker.url})
    in_the_middle(steps)
    pid = next(
        int(found[1]) for line in command.lines if (found := re.search(r"worker\.1: started as process (\d+)", line))
    )
    os.kill(pid, signal.SIGKILL)
    command.wait_for_line("worker.1: process .* died: killed by SIGKILL")
    assert command.wait(60) == 0
    assert set(handled(steps)) == set(range(COUNT))


@pytest.mark.parametrize("how", ["restarted", "killed"])
def test_rabbitmq_that_goes_away_and_comes_back(
    rabbitmq_installation: Installation, run_piperun: Commands, steps: Path, how: str
) -> None:
    with PrivateRabbitMQ.start(rabbitmq_installation) as node:
        command = run_piperun(FILE, env={"AMQP_URL": node.url()})
        in_the_middle(steps)
        if how == "restarted":
            node.restart()
        else:
            node.kill()
            node.boot()
            node.await_startup()
        ended_with_nothing_lost(command, steps)
        assert "lost the connection" in command.output


def test_an_embedded_broker_that_goes_away_and_comes_back(run_piperun: Commands, steps: Path) -> None:
    """Its messages are gone with it; the pipeline is not."""
    with EmbeddedBroker(username="user", password="password") as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        command = run_piperun(FILE.replace("until: idle", "until: stopped"), env={"AMQP_URL": first.url})
        in_the_middle(steps)
    command.wait_for_line("connection refused by .*next attempt in")
    with EmbeddedBroker(username="user", password="password", port=port):
        command.wait_for_line("numbers: finished: ", 30)
        command.send_signal(signal.SIGTERM)
        assert command.wait() == 0
