"""A broker that takes no more: a full queue, an alarm of the disk while confirms and copies are outstanding, a message
that is too large. Nothing is lost, nothing is sent twice, and whoever can go on goes on."""

from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.command import Commands
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import wait_until

STEPS = """
import asyncio
from pathlib import Path

async def numbers():
    for number in range(60):
        yield str(number)

async def slowly():
    for number in range(60):
        await asyncio.sleep(0.02)
        yield str(number)

def sizes():
    yield b"first"
    yield bytes(300_000)
    yield b"never read"

async def work(body: str) -> None:
    await asyncio.sleep(0.005)
    with open(Path(__file__).with_name("handled"), "a") as handled:
        handled.write(body + "\\n")

async def choosy(body: str) -> None:
    if int(body) % 3 == 0:
        raise ValueError("a multiple of three")
    await work(body)

def swell(body: bytes) -> bytes:
    return body * 300_000 if body == b"x" else body
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


def handled(folder: Path) -> list[int]:
    file = folder / "handled"
    return sorted(int(line) for line in file.read_text().split()) if file.exists() else []


async def test_a_full_queue_holds_its_source_back(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    command = run_piperun(
        """
        broker: "${AMQP_URL}"
        queues:
          tasks: {max_length: 5, overflow: reject-publish}
        producers:
          numbers: {source: "steps:numbers", publish: {queue: tasks}, max_in_flight: 10}
        consumers:
          worker: {queue: tasks, handler: "steps:work", prefetch: 1}
        runtime: {until: idle}
        """,
        env={"AMQP_URL": broker.url},
    )
    assert command.wait(40) == 0
    # Every number is confirmed and handled once, and the producer has waited between its tries
    assert handled(steps) == list(range(60))
    command.wait_for_line("numbers: not confirmed yet: .*sent again in .*under the same message id")
    assert command.lines[-1].endswith(": 60 sent and confirmed, 60 delivered, 60 done")


async def test_an_alarm_of_the_disk_with_confirms_and_copies_outstanding(
    rabbitmq: PrivateRabbitMQ, rabbitmq_vhost_url: str, run_piperun: Commands, steps: Path
) -> None:
    command = run_piperun(
        """
        broker: "${AMQP_URL}"
        queues: {tasks: {}}
        producers:
          numbers: {source: "steps:slowly", publish: {queue: tasks}, max_in_flight: 10}
        consumers:
          worker: {queue: tasks, handler: "steps:choosy", concurrency: 4}
        runtime: {until: idle}
        """,
        env={"AMQP_URL": rabbitmq_vhost_url},
    )
    wait_until(lambda: len(handled(steps)) >= 10, 20, told="some handled messages")
    # Given producers in the middle, and failures whose copies have to be published
    try:
        rabbitmq.eval("rabbit_disk_monitor:set_disk_free_limit(1000000000000000), rabbit_alarm:get_alarms()")
        command.wait_for_line("has blocked publishing")
    finally:
        rabbitmq.eval("rabbit_disk_monitor:set_disk_free_limit(50000000), rabbit_alarm:get_alarms()")
    command.wait_for_line("takes messages again")
    # Then nothing was sent twice, neither by the producer nor to the dead-letter queue
    assert command.wait(40) == 0
    assert handled(steps) == [number for number in range(60) if number % 3]
    assert command.lines[-1].endswith(": 60 sent and confirmed, 60 delivered, 40 done, 20 dead-lettered")
    vhost = rabbitmq_vhost_url.rpartition("/")[2]
    assert rabbitmq.list_queues(vhost) == {"tasks": 0, "tasks.dlq": 20}


async def test_a_message_that_is_too_large_for_the_broker_is_named_and_costs_nothing_else(
    rabbitmq: PrivateRabbitMQ, rabbitmq_vhost_url: str, run_piperun: Commands, steps: Path
) -> None:
    if rabbitmq.version >= (4, 0):
        pytest.skip("RabbitMQ 4 reads this limit once, at its start")
    file = """
        broker: "${AMQP_URL}"
        queues: {tasks: {}, results: {}, others: {}}
        producers:
          lines: {source: {type: stdin}, publish: {queue: tasks}}
          sizes: {source: "steps:sizes", publish: {queue: others}, max_in_flight: 1}
        consumers:
          worker: {queue: tasks, handler: "steps:swell", publish: {queue: results}}
        runtime: {until: idle}
        """
    too_large = "message size 300000 is larger than configured max size 100000"
    vhost = rabbitmq_vhost_url.rpartition("/")[2]
    rabbitmq.eval("application:set_env(rabbit, max_message_size, 100000)")  # for channels opened from now on
    try:
        # Given a handler that returns too much for one of its messages, then that message has failed, and no other
        of_handler = run_piperun(
            file, "--only", "lines,worker", env={"AMQP_URL": rabbitmq_vhost_url}, stdin="x\ny\nz\n"
        )
        assert of_handler.wait(40) == 0
        of_handler.wait_for_line(f"worker: message .* failed .*{too_large}.*it is copied to dead-letter queue")
        assert of_handler.lines[-1].endswith(": 3 sent and confirmed, 3 delivered, 2 done, 1 dead-lettered")
        # Given a source with such an item, then its producer has failed there
        of_source = run_piperun(file, "--only", "sizes", env={"AMQP_URL": rabbitmq_vhost_url})
        assert of_source.wait(40) == 1
        of_source.wait_for_line(f"producer.sizes: .*{too_large}")
        assert ": 1 sent and confirmed, 1 NOT sent" in of_source.lines[-1]
    finally:
        rabbitmq.eval("application:set_env(rabbit, max_message_size, 134217728)")
    assert rabbitmq.list_queues(vhost) == {"tasks": 0, "tasks.dlq": 1, "results": 2, "others": 1}
    assert "lost the connection" not in of_handler.output + of_source.output
