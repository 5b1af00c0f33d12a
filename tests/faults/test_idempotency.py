"""Processes that share their keys in a file, killed at each step between the handler and the acknowledgement, and
working side by side: what is done is not handled again, what is not done is, and nothing is lost."""

import signal
from pathlib import Path

from tests.brokers import BrokerUnderTest
from tests.command import Commands

FILE = """
broker: ${AMQP_URL}
queues: {tasks: }
consumers:
  worker:
    queue: tasks
    handler: steps:work
    ack: ${ACK}
    prefetch: 1
    idempotency: {store: sqlite, path: keys.sqlite}
runtime: {until: idle, workers: "${WORKERS}"}
"""
# Dies at the step that the body names, the first time only.
DEADLY = """
import os, signal
from pathlib import Path
from pipeline.idempotency.sqlite import SqliteStore

def dies(step, key):
    try:
        Path(f"died {step}").touch(exist_ok=False)
    except FileExistsError:
        return
    print("dies", step, key, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def work(body: str, message):
    if body == "in the handler":
        dies(body, message.message_id)
    if body == "fails" and not Path("failed").exists():
        Path("failed").touch()
        raise ValueError("the first time")
    print("handled", message.message_id, flush=True)

finish = SqliteStore.finish

async def deadly(store, claim):
    if claim.key == "before done":
        dies("before done", claim.key)
    await finish(store, claim)
    if claim.key == "behind done":
        dies("behind done", claim.key)

SqliteStore.finish = deadly
"""


async def test_a_process_that_dies_repeats_only_what_was_not_done(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    # Given messages that kill their process in the handler, before the key is done and behind that; and one that fails
    (tmp_path / "steps.py").write_text(DEADLY)
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    bodies = ["in the handler", "before done", "behind done", "fails", "ordinary"]
    for body in bodies:
        await broker.publish("tasks", body.encode(), message_id=body, content_type="text/plain")
    await broker.publish("tasks", b"fails", message_id="fails", content_type="text/plain")
    # When the file is run again and again until it ends
    runs = []
    for _ in range(4):
        runs.append(run_piperun(FILE, env={"AMQP_URL": broker.url, "ACK": "on_success", "WORKERS": "0"}))
        if runs[-1].wait() == 0:
            break
    # Then each of them has killed one run, and the last of those was not handled again, since it was done
    assert [run.wait() for run in runs] == [-signal.SIGKILL] * 3 + [0]
    said = [line for run in runs for line in run.lines if line.startswith(("dies", "handled"))]
    assert said == [
        "dies in the handler in the handler",
        "handled in the handler",
        "handled before done",
        "dies before done before done",  # the window that stays open: handled, and not done
        "handled before done",
        "handled behind done",
        "dies behind done behind done",
        "handled ordinary",
        "handled fails",  # the second copy: the first had failed
    ]
    assert any("message behind done is a duplicate" in line for line in runs[-1].lines)
    assert [each.message_id for each in await broker.get_all("tasks.dlq")] == ["fails"]
    assert broker.queue_depths()["tasks"] == 0
    # And a file that cannot be used ends the next run before anything is consumed
    keys = tmp_path / "keys.sqlite"
    keys.write_bytes(b"these are my notes")
    spoilt = run_piperun(FILE, env={"AMQP_URL": broker.url, "ACK": "on_success", "WORKERS": "0"})
    assert spoilt.wait() == 1
    assert spoilt.lines == [
        f'error: the idempotency store "{keys}" cannot be used: file is not a database; '
        "move it away, which forgets the keys in it, or give `idempotency` another `path`"
    ]


SLOW = """
import asyncio

async def work(body: str, message, context):
    print("begins", message.message_id, flush=True)
    await asyncio.sleep(0.2)
    print("ends", message.message_id, flush=True)
    await message.ack()
"""


async def test_workers_handle_copies_of_one_message_once_and_never_side_by_side(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    # Given two copies of each message, one behind the other, so that two workers get them at the same time
    (tmp_path / "steps.py").write_text(SLOW)
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    ids = [f"m-{number}" for number in range(4)]
    for message_id in ids:
        for _ in range(2):
            await broker.publish("tasks", b"tea", message_id=message_id, content_type="text/plain")
    # When two workers handle them
    command = run_piperun(FILE, env={"AMQP_URL": broker.url, "ACK": "manual", "WORKERS": "2"})
    assert command.wait() == 0
    # Then each message was handled once, and the numbers add up
    said = [line for line in command.lines if line.startswith(("begins", "ends"))]
    assert sorted(said) == sorted(f"{step} {message_id}" for message_id in ids for step in ("begins", "ends"))
    assert command.lines[-1].endswith("8 delivered, 8 done (4 duplicates skipped)")
