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
from tests.faults.ledger import Books, Window, terms
from tests.faults.numbers import COUNT, REFUSED, STEPS, handled, in_the_middle, numbers_of, sights
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
LINE_LOST = tuple(Window)  # a confirm, an ack, or the ack behind a copy may have been on its way


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


async def ended_with_nothing_lost(command: Command, folder: Path, url: str, *windows: Window) -> None:
    """Each number was handled or is dead-lettered, none of them more often than the windows allow, and the last line
    of the run agrees."""
    assert command.wait(60) == 0
    assert terms(command.lines[-1])["sent and confirmed"] == COUNT
    await nothing_is_lost(folder, url, *windows, last_line=command.lines[-1])


async def nothing_is_lost(folder: Path, url: str, *windows: Window, last_line: str | None = None) -> None:
    found = await sights(url, folder)
    Books(confirmed=range(COUNT), offered=range(COUNT), sights=found, windows=windows).must_add_up(last_line)
    assert numbers_of(found) - numbers_of(handled(folder)) == REFUSED


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_line_that_is_cut(
    broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, steps: Path, workers: int
) -> None:
    text = FILE.replace("until: idle", f"until: idle, workers: {workers}")
    command = run_piperun(text, env={"AMQP_URL": proxy.url(broker.url)})
    in_the_middle(steps)
    proxy.cut()
    command.wait_for_line("lost the connection .*next attempt in")
    in_the_middle(steps, 60)
    proxy.cut()
    await ended_with_nothing_lost(command, steps, broker.url, *LINE_LOST)


async def test_a_line_that_freezes(broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, steps: Path) -> None:
    command = run_piperun(FILE, env={"AMQP_URL": proxy.url(broker.url)})
    in_the_middle(steps)
    proxy.freeze()
    # Two missed heartbeats of a second each, and what the client adds.
    command.wait_for_line("lost the connection .*next attempt in", 15)
    proxy.thaw()
    await ended_with_nothing_lost(command, steps, broker.url, *LINE_LOST)


async def test_connections_that_the_broker_closes(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    command = run_piperun(FILE, env={"AMQP_URL": broker.url})
    in_the_middle(steps)
    broker.close_connections()
    command.wait_for_line("lost the connection .*CONNECTION_FORCED")
    await ended_with_nothing_lost(command, steps, broker.url, *LINE_LOST)


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
    wait_until(lambda: 1000 in numbers_of(handled(steps)), told="the message after the deletion")
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
    await ended_with_nothing_lost(command, steps, broker.url)  # each exactly once


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
    wait_until(lambda: 2000 in numbers_of(handled(steps)), told="a message of the healthy consumer")
    # And when the difference is gone, it consumes again
    async with broker.channel() as channel:
        await channel.queue_delete("other")
    command.wait_for_line('consumer.second: consuming from queue "other"', 30, after=len(command.lines))
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0


async def test_workers_that_are_killed(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    text = FILE.replace("until: idle", "until: idle, workers: 2")
    command = run_piperun(text, env={"AMQP_URL": broker.url})
    command.wait_for_line("worker.2 pipeline: .*ready with")  # one that dies while it starts ends the run
    in_the_middle(steps)
    pids = [int(found[1]) for line in command.lines if (found := re.search(r"started as process (\d+)", line))]
    os.kill(pids[1], signal.SIGKILL)
    command.wait_for_line("worker.2: process .* died: killed by SIGKILL .*the next one starts in")
    command.wait_for_line("worker.2: started as process", after=len(command.lines) - 1)
    assert command.wait(60) == 0
    await nothing_is_lost(steps, broker.url, Window.NOT_ACKED, Window.COPIED, last_line=command.lines[-1])


async def test_a_worker_that_is_killed_while_it_runs_the_sources(
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
    await nothing_is_lost(steps, broker.url, *Window)


@pytest.mark.parametrize("how", ["restarted", "killed"])
async def test_rabbitmq_that_goes_away_and_comes_back(
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
        await ended_with_nothing_lost(command, steps, node.url(), *LINE_LOST)
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
