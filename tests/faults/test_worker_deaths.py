"""A worker dies with a message in hand: its channel is closed, its connection is closed, its line is cut, its process
is killed. It has not acknowledged, so another worker gets the message, marked as redelivered."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection

from tests.brokers import BrokerUnderTest
from tests.command import Commands
from tests.faults.ledger import Books, Sight
from tests.faults.numbers import handled, sights
from tests.proxy import Proxy
from tests.waiting import deadline, wait_until

FILE = """
broker: ${AMQP_URL}
queues:
  tasks: {}
consumers:
  worker: {queue: tasks, handler: steps:work}
runtime: {until: idle}
"""
HANDLER = """
async def work(body: str, message) -> None:
    print(f"{body}, redelivered: {message.redelivered}", flush=True)
"""

Death = Callable[[AbstractConnection, aio_pika.abc.AbstractChannel, Proxy], Awaitable[None]]


async def close_channel(_: AbstractConnection, channel: aio_pika.abc.AbstractChannel, __: Proxy) -> None:
    await channel.close()


async def close_connection(connection: AbstractConnection, _: aio_pika.abc.AbstractChannel, __: Proxy) -> None:
    await connection.close()


async def cut_the_line(_: AbstractConnection, __: aio_pika.abc.AbstractChannel, proxy: Proxy) -> None:
    proxy.cut()


@pytest.mark.usefixtures("both_lines")
@pytest.mark.parametrize("death", [close_channel, close_connection, cut_the_line], ids=lambda death: death.__name__)
async def test_an_unacknowledged_message_goes_to_another_worker(
    broker: BrokerUnderTest, proxy: Proxy, run_piperun: Commands, tmp_path: Path, death: Death
) -> None:
    # Given a worker that has a message in hand and has not acknowledged it
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    await broker.publish("tasks", b"the work")
    connection = await aio_pika.connect(proxy.url(broker.url), timeout=deadline(10))
    channel = await connection.channel()
    queue = await channel.get_queue("tasks")
    taken = await queue.get(timeout=deadline(10))
    assert taken is not None and not taken.redelivered
    # When it dies
    await death(connection, channel, proxy)
    # Then another worker gets the message, and knows that it was delivered before
    (tmp_path / "steps.py").write_text(HANDLER)
    other = run_piperun(FILE, env={"AMQP_URL": broker.url})
    other.wait_for_line("the work, redelivered: True")
    assert other.wait() == 0
    await connection.close()


@pytest.mark.usefixtures("both_lines")
async def test_a_message_that_was_acknowledged_does_not_come_again(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    await broker.publish("tasks", b"the work")
    (tmp_path / "steps.py").write_text(HANDLER)
    assert run_piperun(FILE, env={"AMQP_URL": broker.url}).wait() == 0
    again = run_piperun(FILE, env={"AMQP_URL": broker.url})
    assert again.wait() == 0
    assert "redelivered" not in again.output


# The first to get number 3 says who it is, and holds it for ever.
HOLDER = """
import asyncio, os
from pathlib import Path

HERE = Path(__file__).parent

async def work(body: str, message) -> None:
    if body == "3" and not message.redelivered:
        (HERE / "unfinished").write_text(str(os.getpid()))
        (HERE / "unfinished").rename(HERE / "holder")
        await asyncio.Event().wait()
    with open(HERE / "handled", "a") as handled:
        handled.write(f"{body} {message.redelivered:d}\\n")
"""


async def test_a_worker_that_is_killed_in_the_middle_of_a_handler(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    # Given two workers with one message in hand each, of which one does not come to an end
    (tmp_path / "steps.py").write_text(HOLDER)
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    for number in range(20):
        await broker.publish("tasks", str(number).encode())
    text = FILE.replace("handler: steps:work", "handler: steps:work, prefetch: 1").replace("idle}", "idle, workers: 2}")
    command = run_piperun(text, env={"AMQP_URL": broker.url})
    wait_until((tmp_path / "holder").exists, told="number 3 in hand")
    wait_until(lambda: len(handled(tmp_path)) == 19, told="everything else, handled meanwhile")
    # When that one is killed
    os.kill(int((tmp_path / "holder").read_text()), signal.SIGKILL)
    # Then its message goes to another, marked as redelivered, and the rest was handled once and not disturbed
    command.wait_for_line("died: killed by SIGKILL.*; 1 message in hand will be delivered again")
    assert command.wait(60) == 0
    found = await sights(broker.url, tmp_path)
    Books(confirmed=range(20), offered=range(20), sights=found).must_add_up(command.lines[-1])
    assert [sight for sight in found if sight.redelivered] == [Sight(number=3, where="handled", redelivered=True)]
