"""A message that is longer than the file allows, in each way that one can come or go. It is kept or refused by name,
and nobody else notices."""

import hashlib
from pathlib import Path

from tests.brokers import BrokerUnderTest
from tests.command import Commands

STEPS = """
from pathlib import Path

def sizes():
    yield b"first"
    yield bytes(1025)
    yield b"never read"

def work(body: bytes) -> bytes:
    with open(Path(__file__).with_name("handled"), "a") as handled:
        handled.write(f"{len(body)}\\n")
    return body * 1025 if body == b"x" else body

async def says(body: bytes, context) -> None:
    await context.publish(body * 1025 if body == b"x" else body, queue="said")
"""

FILE = """
broker: {url: "${AMQP_URL}", max_message_size: 1KiB}
queues: {tasks: {}, results: {}, words: {}, said: {}, others: {}}
producers:
  sizes: {source: "steps:sizes", publish: {queue: others}, max_in_flight: 1}
consumers:
  worker: {queue: tasks, handler: "steps:work", publish: {queue: results}, retry: {delays: [10ms]}}
  speaker: {queue: words, handler: "steps:says"}
runtime: {until: idle}
"""


async def test_what_is_too_large_is_kept_or_refused_and_costs_nothing_else(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    # Given messages that are one byte too large between others, and some of which a handler makes too much
    large = hashlib.sha256(b"seed").digest() * 32 + b"!"
    for queue in ("tasks", "words"):
        await broker.declare(queue)
        for body in (b"before", large, b"x", bytes(1024), b"after"):
            await broker.publish(queue, body)
    of_handlers = run_piperun(FILE, "--only", "worker,speaker", env={"AMQP_URL": broker.url})
    assert of_handlers.wait(40) == 0

    # Then what came too large is told, at once a dead letter, byte for byte, and no handler has seen it
    told = "Undecodable: too large: its body has 1025 bytes, and `max_message_size` is 1024 bytes"
    of_handlers.wait_for_line(f"worker: .*{told}.*it is copied to dead-letter queue")
    assert sorted((tmp_path / "handled").read_text().split()) == sorted(["6", "1", "1", "1024", "5"])
    # And what was to go out too large has failed its own message, and has cost no channel
    refused = "is too large: 1025 bytes, and `max_message_size` is 1024 bytes"
    of_handlers.wait_for_line(f'worker: .*a message to the default exchange with routing key "results" {refused}')
    of_handlers.wait_for_line(f'speaker: .*a message to the default exchange with routing key "said" {refused}')
    for queue, out in (("tasks", "results"), ("words", "said")):
        dead = await broker.get_all(f"{queue}.dlq")
        assert sorted((each.headers["x-piperun-reason"], each.body) for each in dead) == [
            ("decode", large),
            ("max_attempts", b"x"),
        ]
        assert sorted(each.body for each in await broker.get_all(out)) == sorted([b"before", bytes(1024), b"after"])

    # Given a source with such an item, then its producer has failed there, with all before it in the queue
    of_source = run_piperun(FILE, "--only", "sizes", env={"AMQP_URL": broker.url})
    assert of_source.wait(40) == 1
    of_source.wait_for_line(f'producer.sizes: .*"others" {refused}')
    assert ": 1 sent and confirmed, 1 NOT sent" in of_source.lines[-1]
    assert [each.body for each in await broker.get_all("others")] == [b"first"]
    assert "lost the connection" not in of_handlers.output + of_source.output
