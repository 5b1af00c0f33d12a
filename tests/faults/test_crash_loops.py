"""Messages that kill the process which handles them, under `runtime.workers`: each ends in the dead-letter queue after
`crash_limit` deaths, and everything beside it is handled."""

import re
from collections import Counter
from functools import partial

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands
from tests.waiting import deadline, eventually

FILE = """
broker: ${AMQP_URL}
queues: {tasks: {}}
consumers: {worker: {queue: tasks, handler: steps:work, concurrency: 4, prefetch: 8}}
runtime: {workers: 2, until: idle}
"""
TWICE = FILE.replace("concurrency: 4", "concurrency: 4, crash_limit: 2")
QUORUM = """
broker: ${AMQP_URL}
queues:
  tasks: {type: quorum, delivery_limit: 1, dead_letter: tasks.failed}
  tasks.failed: {}
consumers: {worker: {queue: tasks, handler: steps:work, prefetch: 1}}
runtime: {until: idle}
"""
STEPS = """
import asyncio, os, signal

async def work(body: str) -> None:
    print("begins", body, flush=True)
    await asyncio.sleep(0.02)
    match body.partition(" ")[0]:
        case "aborts":
            os.abort()
        case "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leaves":
            os._exit(0)
    print("has finished", body, flush=True)
"""


def numbers(command: Command) -> dict[str, int]:
    """Of the last line, which must add up."""
    last = next(line for line in reversed(command.lines) if "ended after" in line)
    found = {word: int(number) for number, word in re.findall(r"(\d+) ([a-zA-Z][a-zA-Z -]*)", last.split(": ")[-1])}
    ends = sum(count for word, count in found.items() if word not in ("delivered",) and "gone" not in word)
    assert found["delivered"] == ends, last
    return found


async def publish(broker: BrokerUnderTest, bodies: list[str], *, ids: bool = True) -> None:
    async with broker.channel() as channel:
        for number, body in enumerate(bodies):
            message = aio_pika.Message(body.encode(), message_id=f"m-{number}" if ids else None)
            await channel.default_exchange.publish(message, routing_key="tasks", timeout=deadline(10))


def begins(command: Command) -> Counter[str]:
    return Counter(re.findall(r"^begins (.*)$", command.output, re.MULTILINE))


def finished(command: Command) -> Counter[str]:
    return Counter(re.findall(r"has finished (.*)$", command.output, re.MULTILINE))


@pytest.mark.parametrize(
    ("broker", "file", "limit", "poison"),
    [
        ("embedded", FILE, 3, ["aborts"]),
        ("rabbitmq", FILE, 3, ["aborts"]),
        ("rabbitmq", TWICE, 2, ["kills 1", "leaves 2"]),
    ],
    ids=["embedded-one", "rabbitmq-one", "rabbitmq-two"],
    indirect=["broker"],
)
async def test_a_message_that_kills_every_worker_is_dead_lettered_and_its_neighbours_are_handled(
    broker: BrokerUnderTest, run_piperun: Commands, file: str, limit: int, poison: list[str]
) -> None:
    # Given thirty messages, and among them such as kill whoever handles them
    good = [f"good {number}" for number in range(30)]
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    await publish(broker, [*good[:2], *poison, *good[2:]], ids=limit == 3)
    (run_piperun.folder / "steps.py").write_text(STEPS)
    # When two workers handle them, four at a time
    command = run_piperun(file, env={"AMQP_URL": broker.url})
    assert command.wait(60) == 0
    # Then those that kill are handled so many times and no more, and are kept with the reason
    counts = begins(command)
    assert {body: counts[body] for body in poison} == dict.fromkeys(poison, limit)
    dead = await broker.get_all("tasks.dlq")
    assert sorted(message.body.decode() for message in dead) == sorted(poison)
    for message in dead:
        assert message.headers["x-piperun-reason"] == "crash"
        assert f"{limit} workers died with it in hand" in str(message.headers["x-piperun-error"])
    assert command.output.count(f"death {limit} of {limit}") == len(poison)
    # And all others are handled, none of them counted for long
    assert set(finished(command)) == set(good)
    told = numbers(command)
    assert told["done"] >= 30 and told["dead-lettered"] == len(poison)
    assert (await broker.get_all("tasks")) == []


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
async def test_without_workers_a_quorum_queue_bounds_it(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    # Given a quorum queue that gives up at the second return, and a message that kills the only process there is. What
    # is handed out ahead of its turn would be counted, too: hence the prefetch of one
    dead_letter = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "tasks.failed"}
    dead_letter |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    limits = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    await broker.declare("tasks.failed", arguments={"x-queue-type": "classic"})
    await broker.declare("tasks", arguments=limits | dead_letter)
    await publish(broker, ["aborts", "good"])
    (run_piperun.folder / "steps.py").write_text(STEPS)
    # When it is started again and again
    runs = [run_piperun(QUORUM, env={"AMQP_URL": broker.url})]
    while runs[-1].wait() != 0:
        assert len(runs) < 5
        runs.append(run_piperun(QUORUM, env={"AMQP_URL": broker.url}))
    # Then it dies twice, the broker has set the message aside, and its neighbour is handled
    assert sum((begins(run) for run in runs), Counter())["aborts"] == 2
    assert len(runs) == 3 and finished(runs[-1])["good"] == 1
    found: list[AbstractIncomingMessage] = await eventually(
        partial(broker.get_all, "tasks.failed"), told="the dead letter"
    )
    assert [(each.body, each.headers["x-first-death-reason"]) for each in found] == [(b"aborts", "delivery_limit")]
