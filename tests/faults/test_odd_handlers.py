"""Handlers that do what no handler should: each costs its own message, which is dead-lettered with the reason, and the
run goes on, ends by itself, and adds up."""

from pathlib import Path

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.brokers import BrokerUnderTest
from tests.command import Commands

FILE = """
broker: "${AMQP_URL}"
queues:
  tasks: {}
  threads: {}
consumers:
  coroutine: {queue: tasks, handler: "steps:coroutine", timeout: 1s, concurrency: 2}
  thread: {queue: threads, handler: "steps:thread", timeout: 1s, concurrency: 2}
runtime: {until: idle, shutdown_timeout: 10s}
"""
STEPS = """
import asyncio, sys, threading
from pathlib import Path

class Odd(BaseException):
    pass

def done(body: str) -> None:
    with open(Path(__file__).with_name("handled"), "a") as handled:
        handled.write(body + "\\n")

async def fails() -> None:
    raise ValueError("of an orphan")

async def waits() -> None:
    await asyncio.Event().wait()

async def coroutine(body: str) -> None:
    match body:
        case "exits":
            sys.exit(3)
        case "raises":
            raise Odd("no exception that anybody catches")
        case "interrupts":
            raise KeyboardInterrupt
        case "cancels":
            raise asyncio.CancelledError
        case "cancels itself":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        case "hangs":
            await waits()
        case "swallows":
            while True:
                try:
                    await waits()
                except asyncio.CancelledError:
                    pass
        case "leaves orphans":
            for orphan in (fails(), waits()):
                asyncio.get_running_loop().create_task(orphan)
    done(body)

def thread(body: str) -> None:
    match body:
        case "exits":
            sys.exit(3)
        case "raises":
            raise Odd("no exception that anybody catches")
        case "hangs":
            threading.Event().wait()
    done(body)
"""
COROUTINE = {
    "exits": "max_attempts",
    "raises": "max_attempts",
    "interrupts": "max_attempts",
    "cancels": "max_attempts",
    "cancels itself": "max_attempts",
    "hangs": "timeout",
    "swallows": "timeout",
}
THREAD = {"exits": "max_attempts", "raises": "max_attempts", "hangs": "timeout"}


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)  # it takes its time
async def test_what_no_handler_should_do_costs_its_own_message(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    # Given each oddity between two messages that are nothing special
    for queue, odd in (("tasks", [*COROUTINE, "leaves orphans"]), ("threads", list(THREAD))):
        await broker.declare(queue, arguments={"x-queue-type": "classic"})
        for body in ("before", *odd, "after"):
            await broker.publish(queue, body.encode(), message_id=body)
    command = run_piperun(FILE, env={"AMQP_URL": broker.url})
    # Then all others are handled, and the run comes to its end by itself
    assert command.wait(40) == 0
    assert sorted((tmp_path / "handled").read_text().split("\n")[:-1]) == sorted(
        ["before", "after"] * 2 + ["leaves orphans"]
    )
    assert reasons(await broker.get_all("tasks.dlq")) == COROUTINE
    assert reasons(await broker.get_all("threads.dlq")) == THREAD
    # And what still hangs is told
    assert "the handler does not end although it was cancelled; it is left behind (1 now)" in command.output
    assert (
        "consumer.thread: the thread of message hangs does not end and keeps its slot, 1 of 2 slots now"
        in command.output
    )
    dead = len(COROUTINE) + len(THREAD)
    assert command.lines[-1].endswith(f": {dead + 5} delivered, 5 done, {dead} dead-lettered")
    assert "died" not in command.output


def reasons(dead: list[AbstractIncomingMessage]) -> dict[str, object]:
    return {each.message_id or "": each.headers["x-piperun-reason"] for each in dead}
