"""Health and metrics of whole runs, asked over HTTP as a probe and a scraper ask: true before, during and after every
fault, with the reason in words; and the numbers are those of the last line."""

import asyncio
import http.client
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.ledger import CONSUMER_TERMS
from tests.brokers import BrokerUnderTest, ForeignUnderTest
from tests.command import Command, Commands
from tests.proxy import Proxy
from tests.waiting import deadline, wait_until

STEPS = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent

async def numbers():
    number = 0
    while not (HERE / "enough").exists():
        number += 1
        yield {"number": number}
        await asyncio.sleep(0.02)

async def count(body: dict) -> None:
    if body["number"] % 5 == 0:
        raise ValueError("a fifth of them")
    await asyncio.sleep(0.005)
"""

FILE = """
broker: {url: "${AMQP_URL}", reconnect: {initial: 100ms, max: 500ms}}
queues:
  tasks: {}
  given: {declare: check}
producers:
  web: {source: "steps:numbers", publish: {queue: tasks}}
consumers:
  count: {queue: tasks, handler: "steps:count", concurrency: 4}
  watch: {queue: given, handler: "pipeline.handlers:log"}
runtime: {http: 127.0.0.1:0, startup: wait}
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


class Probe:
    """Asks a run as strangers do."""

    def __init__(self, command: Command) -> None:
        self.command = command
        line = command.wait_for_line("health and metrics are at", 30)
        self.port = int(line.rpartition(":")[2].rstrip("/"))

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=deadline(10))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def until_ready(self) -> None:
        wait_until(lambda: self.get("/readyz") == (200, "ready\n"), 40, told=f"ready, {self.get('/readyz')}")
        assert self.numbers()["piperun_ready",] == 1

    def until_not_ready(self, *reasons: str) -> str:
        """All of the reasons stand in one answer; returns the answer."""

        def answer() -> str | None:
            status, text = self.get("/readyz")
            found = status == 503 and all(re.search(reason, text) for reason in reasons)
            return text if found else None

        return wait_until(answer, 20, told=f"not ready, for {reasons}: {self.get('/readyz')}") or ""

    def numbers(self) -> dict[tuple[str, ...], int]:
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {(each.name, *each.labels.values()): int(each.value) for family in families for each in family.samples}

    def consumed(self, consumer: str) -> dict[str, int]:
        """The terms of the sum, which comes out whenever it is asked for."""
        numbers = self.numbers()
        terms = {term: numbers[f"piperun_consumer_{term}_total", "pipeline", consumer] for term in CONSUMER_TERMS}
        terms["in_hand"] = numbers["piperun_consumer_in_hand", "pipeline", consumer]
        assert 2 * terms["delivered"] == sum(terms.values()), terms
        assert numbers["piperun_producer_read", "pipeline", "web"] == sum(
            numbers[f"piperun_producer_{each}", "pipeline", "web"]
            for each in ("confirmed_total", "failed_total", "pending")
        )
        return terms

    def at_rest(self) -> dict[str, int]:
        """The numbers when everything that was sent has been handled."""

        def rested() -> dict[str, int] | None:
            terms, numbers = self.consumed("count"), self.numbers()
            ends = terms["done"] + terms["dead_lettered"]
            sent = numbers["piperun_producer_confirmed_total", "pipeline", "web"]
            waits = numbers["piperun_producer_pending", "pipeline", "web"]
            return terms if terms["in_hand"] == 0 and waits == 0 and ends >= sent else None

        self.command.wait_for_line("producer.web: finished", 20)
        return wait_until(rested, 20, told="the end of all messages") or {}


def last_line_says(command: Command, terms: dict[str, int]) -> None:
    last = next(line for line in reversed(command.lines) if "ended after" in line)
    words = {"dead_lettered": "dead-lettered", "redelivery_expected": "to be delivered again"}
    for term, number in terms.items():
        if number:
            assert re.search(rf"\b{number} {words.get(term, term)}\b", last), (term, number, last)


def test_readiness_follows_each_fault_and_the_numbers_are_those_of_the_last_line(
    broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, steps: Path
) -> None:
    # Given a broker that cannot be reached yet
    classic = {"x-queue-type": "classic"}
    asyncio.run(broker.declare("given", arguments=classic))
    proxy.refuse()
    command = run_piperun(FILE, env={"AMQP_URL": proxy.url(broker.url)})
    probe = Probe(command)
    # Then the run is alive, and not ready before it consumes
    probe.until_not_ready("^the run is starting\n", "pipeline: the publish connection is down: .+refused")
    assert probe.get("/healthz") == (200, "ok\n")
    assert probe.numbers()["piperun_ready",] == 0
    assert "Not ready" in probe.get("/")[1]
    proxy.accept()
    probe.until_ready()
    # When the line is cut, then both connections are named, until they are back
    proxy.refuse()
    proxy.cut()
    probe.until_not_ready(
        "the publish connection is down: ", "the consume connection is down: ", '"watch" is not regist'
    )
    assert probe.get("/healthz") == (200, "ok\n")
    proxy.accept()
    probe.until_ready()
    assert probe.numbers()["piperun_connection_reconnects_total", "pipeline", "publish"] >= 1
    # When an alarm blocks what publishes
    if not isinstance(broker, ForeignUnderTest):
        broker.block()
        probe.until_not_ready("^pipeline: the publish connection is blocked by the broker")
        broker.unblock()
        probe.until_ready()
    # When a queue that is not ours to declare is deleted, then its consumer is named, and only that
    asyncio.run(delete(broker, "given"))
    text = probe.until_not_ready('consumer "watch" (is in conflict|does not consume from queue "given"): .')
    assert len(text.splitlines()) == 1
    assert probe.numbers()["piperun_consumer_registered", "pipeline", "watch"] == 0
    assert probe.numbers()["piperun_consumer_registered", "pipeline", "count"] == 1
    asyncio.run(broker.declare("given", arguments=classic))
    probe.until_ready()
    # When all is handled, then the last line says what the metrics say
    (steps / "enough").touch()
    terms = probe.at_rest()
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    assert terms["done"] and terms["dead_lettered"]
    last_line_says(command, terms)


async def delete(broker: BrokerUnderTest, queue: str) -> None:
    async with broker.channel() as channel:
        await channel.queue_delete(queue)


def test_a_supervisor_adds_up_over_its_workers_and_sees_the_death_of_one(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    # Given two workers that are ready
    asyncio.run(broker.declare("given", arguments={"x-queue-type": "classic"}))
    command = run_piperun(FILE, "--workers", "2", env={"AMQP_URL": broker.url})
    probe = Probe(command)
    probe.until_ready()
    numbers = probe.numbers()
    assert [numbers[f"piperun_processes_{each}",] for each in ("wanted", "running")] == [2, 2]
    assert numbers["piperun_consumer_registered", "pipeline", "count"] == 2
    assert numbers["piperun_connection_up", "pipeline", "publish"] == 2
    wait_until(lambda: probe.consumed("count")["done"] > 10, told="work")
    # When the second one is killed
    pid = int(command.wait_for_line(r"worker\.2: started as process").rpartition(" ")[2])
    os.kill(pid, signal.SIGKILL)
    # Then that is seen, until the next one is ready, too
    probe.until_not_ready(r"^worker 2 (has died \(killed by SIGKILL|is starting)")
    probe.until_ready()
    assert probe.numbers()["piperun_worker_restarts_total",] == 1
    # And nothing is missing in the sum of what both, and the dead one, have counted
    (steps / "enough").touch()
    terms = probe.at_rest()
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    last_line_says(command, terms)


def test_a_port_that_is_taken_ends_the_command_before_anything_is_consumed(run_piperun: Commands, steps: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = f"127.0.0.1:{somebody.getsockname()[1]}"
        command = run_piperun(FILE, "--http", taken, env={"AMQP_URL": "embedded"})
        assert command.wait() == 2
    assert command.lines == [
        f"error: cannot serve health and metrics at {taken}: address already in use; choose another address in "
        "`runtime.http`, or with --http"
    ]
