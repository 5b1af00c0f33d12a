"""Somebody changes the world under a running pipeline: the password of its login, the file that the next process is
started with. What runs goes on, or says loudly why it waits; what does not fit is refused and touches nothing."""

import os
import signal
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from pipeline.embedded import EmbeddedBroker
from tests.brokers import BrokerUnderTest, EmbeddedUnderTest, RabbitMQUnderTest
from tests.command import Commands
from tests.faults.ledger import Books, Window
from tests.faults.numbers import COUNT, STEPS, handled, in_the_middle, numbers_of, sights
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import wait_until

NUMBERS = """
broker: {url: "${AMQP_URL}", reconnect: {initial: 100ms, max: 500ms}}
queues:
  tasks: {}
producers:
  numbers: {source: "steps:numbers", publish: {queue: tasks}, max_in_flight: 10}
consumers:
  worker: {queue: tasks, handler: "steps:work", prefetch: 5}
runtime: {until: idle}
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


async def test_a_password_that_is_changed_while_it_runs(
    rabbitmq: PrivateRabbitMQ, run_piperun: Commands, tmp_path: Path
) -> None:
    # Given a run in the middle, whose password is changed, which closes nothing by itself
    vhost = rabbitmq.add_vhost()
    user = f"user-of-{vhost}"
    rabbitmq.add_user(user, "f1rst-password")
    rabbitmq.set_permissions(user, vhost)
    (tmp_path / "steps.py").write_text(STEPS)
    command = run_piperun(NUMBERS, env={"AMQP_URL": rabbitmq.url(vhost, user, "f1rst-password")})
    in_the_middle(tmp_path)
    rabbitmq.change_password(user, "s3cond-password")
    # When its connections are lost
    rabbitmq.close_connections(vhost)
    # Then it says what is wrong again and again, with growing pauses, and never with the password
    refused = f'login refused for user "?{user}"? .*next attempt in'
    command.wait_for_line(refused)
    seen = len(command.lines)
    command.wait_for_line(refused, after=seen)
    # And goes on when the login is right again
    rabbitmq.change_password(user, "f1rst-password")
    assert command.wait(60) == 0
    assert "f1rst-password" not in command.output
    found = await sights(rabbitmq.url(vhost), tmp_path)
    books = Books(confirmed=range(COUNT), offered=range(COUNT), sights=found, windows=tuple(Window))
    books.must_add_up(command.lines[-1])
    rabbitmq.delete_vhost(vhost)


PASSING = """
broker: {url: "${AMQP_URL}", version: "3.10", reconnect: {initial: 100ms, max: 500ms}}
queues:
  passing: {durable: false}
  tasks: {}
consumers:
  for_now: {queue: passing, handler: "steps:work"}
  worker: {queue: tasks, handler: "steps:work"}
"""


@pytest.mark.parametrize("after", ["embedded", "rabbitmq"])
async def test_an_upgrade_of_the_broker_under_a_running_pipeline(
    after: str, request: pytest.FixtureRequest, run_piperun: Commands, steps: Path
) -> None:
    """Over a queue that is neither durable nor exclusive, which 3.10 takes, a later one ends the connection where it is
    configured so: as the embedded broker is, and RabbitMQ is not when it is just installed."""
    refuses = after == "embedded"
    with EmbeddedBroker(rabbitmq_version="4.3") as embedded:
        new: BrokerUnderTest = EmbeddedUnderTest(embedded)
        if after == "rabbitmq":
            node: PrivateRabbitMQ = request.getfixturevalue("rabbitmq")
            new = RabbitMQUnderTest(node, node.add_vhost())
        login = urlsplit(new.url)
        # Given a pipeline on a broker that takes both of its queues
        old = EmbeddedBroker(
            rabbitmq_version="3.10",
            username=unquote(login.username or ""),
            password=unquote(login.password or ""),
            vhosts=[unquote(login.path[1:]) or "/"],
        )
        with old, Proxy.before(old.url) as proxy:
            command = run_piperun(PASSING, env={"AMQP_URL": proxy.url(new.url)})
            command.wait_for_line("ready with 2 consumers")
            # When a newer one takes its place
            proxy.lead_to(new.url)
            proxy.cut()
            command.wait_for_line("lost the connection")
            # Then the queue that it does not take hurts its own consumer, and nobody else
            if refuses:
                command.wait_for_line('for_now.*: queue "passing" cannot be declared, the broker ends the connection')
            wait_until(lambda: "tasks" in new.queue_depths(), told="the other queue")
            await new.publish("tasks", b"1")
            wait_until(lambda: 1 in numbers_of(handled(steps)), told="a message of the other queue")
            command.send_signal(signal.SIGTERM)
            assert command.wait() == 0
        assert ("passing" in new.queue_depths()) is not refuses


OLD = """
broker: ${AMQP_URL}
queues:
  tasks: {}
  news: {}
consumers:
  worker: {queue: tasks, handler: "steps:old", prefetch: 1}
  reader: {queue: news, handler: "steps:old"}
"""
NEW = """
broker: ${AMQP_URL}
queues:
  tasks: {}
consumers:
  worker: {queue: tasks, handler: "steps:new", prefetch: 2, concurrency: 2, timeout: 30s}
"""
# Each holds what it has until the other one has something, too.
OLD_AND_NEW = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent

async def handle(name, other, body):
    print(name, "has", body, flush=True)
    (HERE / name).touch()
    while not (HERE / other).exists():
        await asyncio.sleep(0.02)
    print(name, "handled", body, flush=True)

async def old(body: str) -> None:
    await handle("old", "new", body)

async def new(body: str) -> None:
    await handle("new", "old", body)
"""


async def test_an_old_and_a_new_file_that_run_together(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    """As during a rolling restart: a new prefetch, time limit and handler, and a consumer that is no longer there."""
    (tmp_path / "steps.py").write_text(OLD_AND_NEW)
    old = run_piperun(OLD, env={"AMQP_URL": broker.url})
    old.wait_for_line("ready with 2 consumers")
    # When a new file is started that wants the queue otherwise
    refused = run_piperun(NEW.replace("tasks: {}", "tasks: {max_length: 5}\n  more: {}"), env={"AMQP_URL": broker.url})
    # Then it is refused before it touches anything
    assert refused.wait() == 4
    assert "more" not in broker.queue_depths()
    # When a new one is started that fits
    new = run_piperun(NEW, env={"AMQP_URL": broker.url})
    new.wait_for_line("ready with 1 consumer")
    for number in range(6):
        await broker.publish("tasks", f"task {number}".encode())
    # Then both handle, and each message is handled once
    every = [f"task {number}" for number in range(6)]
    wait_until(lambda: len(handled_by(old.output) + handled_by(new.output)) >= 6, told="six handled messages")
    assert sorted(handled_by(old.output) + handled_by(new.output)) == every
    assert handled_by(old.output) and handled_by(new.output)
    # And the queue of the consumer that was taken out keeps what arrives after the old one has gone
    old.send_signal(signal.SIGTERM)
    assert old.wait() == 0
    await broker.publish("news", b"for nobody yet")
    await broker.publish("tasks", b"the last task")
    new.wait_for_line("new handled the last task")
    assert broker.queue_depths()["news"] == 1
    new.send_signal(signal.SIGTERM)
    assert new.wait() == 0


def handled_by(output: str) -> list[str]:
    return [line.partition(" handled ")[2] for line in output.splitlines() if " handled task " in line]


BOUND = """
broker: ${AMQP_URL}
exchanges:
  orders: {type: topic}
queues:
  tasks: {bindings: [{exchange: orders, routing_key: "order.#"}]}
  others: {}
producers:
  numbers: {source: "steps:numbers", publish: {exchange: orders, routing_key: order.created}, max_in_flight: 10}
consumers:
  worker: {queue: tasks, handler: "steps:work", prefetch: 5}
runtime: {until: idle}
"""


async def test_a_binding_that_is_taken_away_while_it_runs(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    """What nobody would get is not sent into the void: the producer fails, and says with which exchange and key."""
    command = run_piperun(BOUND, env={"AMQP_URL": broker.url})
    in_the_middle(steps)
    async with broker.channel() as channel:
        queue = await channel.get_queue("tasks")
        await queue.unbind("orders", "order.#")
    command.wait_for_line('numbers: exchange "orders" has no queue for routing key "order.created"')
    assert command.wait(30) == 1
    # What the broker had confirmed until then is there, once
    last = command.lines[-1]
    confirmed = int(last.partition(" sent and confirmed")[0].rpartition(" ")[2])
    found = await sights(broker.url, steps)
    assert len(found) == len(numbers_of(found)) == confirmed < COUNT


IN_CONFLICT = """
broker: ${AMQP_URL}
queues:
  tasks: {}
  others: {}
consumers:
  first: {queue: tasks, handler: "steps:work"}
  second: {queue: others, handler: "steps:work"}
runtime: {workers: 1}
"""


async def test_a_queue_that_comes_back_otherwise_while_a_worker_is_down(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    # Given a worker that is killed, and a queue that is made anew before the next one starts
    command = run_piperun(IN_CONFLICT, env={"AMQP_URL": broker.url})
    command.wait_for_line("worker.1 pipeline: .*ready with")
    pid = int(command.wait_for_line(r"started as process \d+").rpartition(" ")[2])
    async with broker.channel() as channel:
        os.kill(pid, signal.SIGKILL)
        await channel.queue_delete("others")
        await channel.declare_queue("others", durable=True, arguments={"x-max-length": 3})
    # Then the next one is no first start: its consumer is in conflict, and the other one works
    command.wait_for_line("worker.1 consumer.second: in conflict: .*next attempt in")
    await broker.publish("tasks", b"1")
    wait_until(lambda: 1 in numbers_of(handled(steps)), told="a message of the healthy consumer")
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0
