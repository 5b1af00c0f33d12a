"""A handler that blocks the event loop, and with it every heartbeat: it is named with its stack, the broker hangs up,
the line comes back, the message comes again, and nothing stays stuck."""

from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.command import Commands
from tests.waiting import wait_until

FILE = """
broker: {url: "${AMQP_URL}", heartbeat: 1s, reconnect: {initial: 100ms, max: 500ms}}
queues:
  tasks: {}
consumers:
  worker: {queue: tasks, handler: "steps:work"}
runtime: {until: idle, workers: 1}
"""
STEPS = """
import time
from pathlib import Path

def legacy(body: str) -> None:
    if not (began := Path(__file__).with_name("began")).exists():
        began.touch()
        time.sleep(4)  # a broker hangs up after two heartbeats that failed, and may look a second late

async def work(body: str) -> None:
    legacy(body)
    with open(Path(__file__).with_name("handled"), "a") as handled:
        handled.write(body + "\\n")
"""


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)  # it takes its time
async def test_a_handler_that_blocks_the_loop_costs_the_line_and_nothing_else(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    await broker.declare("tasks")
    for number in range(5):
        await broker.publish("tasks", str(number).encode())
    command = run_piperun(FILE, env={"AMQP_URL": broker.url})
    wait_until((tmp_path / "began").exists, 20, told="the handler")
    # While it blocks, it is named with the place
    command.wait_for_line("consumer.worker: its handler has blocked the event loop for 1")
    command.wait_for_line(r"^ +.*steps\.py:8 in legacy")
    assert "turns again" not in command.output
    # Then the line is lost and made again, and every message is handled: again those whose acknowledgement was written
    # to a line that had ended
    command.wait_for_line("consumer.worker: the event loop turns again; its handler had blocked it for")
    command.wait_for_line("lost the connection .consume.")
    assert command.wait(30) == 0
    handled = (tmp_path / "handled").read_text().split()
    assert set(handled) == set("01234")
    assert max(map(handled.count, handled)) <= 2
    assert command.output.count("has blocked the event loop") == 1
    assert "DROPPED" not in command.lines[-1]
