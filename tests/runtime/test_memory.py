"""How much memory the real command takes: idle with many consumers, and with a queue far deeper than what it may take.
RabbitMQ is another process, so that only piperun is measured."""

import asyncio
import json
import re
from pathlib import Path

import aio_pika
import pytest

from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands
from tests.waiting import deadline

MIB = 1024
HANDLERS = """
import asyncio

async def work(body): ...

async def waits(body):
    await asyncio.Event().wait()
"""

CYCLES = """
import asyncio, gc
from pipeline.amqp.fast.received import Received

FIRST, LAST = 50, 100  # what the client leaves of a start is over by then
count = 0

def received():
    return sum(isinstance(each, Received) for each in gc.get_objects())

def look():
    global count
    count += 1
    if count == FIRST:
        gc.collect()
        gc.disable()
    if count == LAST:
        before, found = received(), gc.collect()
        print(f"{before - received()} messages and {found} objects were left for the collector", flush=True)
        gc.enable()

async def done(body): look()

async def published(body):
    look()
    return body

async def sunk(body):
    await asyncio.sleep(0.002)

async def failed(body):
    look()
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise RuntimeError("no") from error

async def timed_out(body):
    look()
    await asyncio.Event().wait()

async def failed_when_its_time_was_up(body):
    look()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("not even that")

async def yielded(body):
    look()
    yield body

def failed_in_a_thread(body):
    look()
    raise RuntimeError("no")

async def rejected_by_hand(message):
    look()
    await message.reject("no")
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def kib(command: Command, what: str) -> int:
    """`VmRSS`, what it takes now, or `VmHWM`, the most that it ever took."""
    (found,) = re.findall(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{command.pid}/status").read_text(), re.MULTILINE)
    return int(found)


@pytest.fixture
def handlers(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)


@pytest.mark.usefixtures("handlers")
def test_a_hundred_idle_consumers_of_a_hundred_queues_take_less_than_80_mib(
    broker: BrokerUnderTest, run_piperun: Commands
) -> None:
    numbers = range(100)
    queues = "".join(f"  q{number}:\n" for number in numbers)
    consumers = "".join(f'  c{number}: {{queue: q{number}, handler: "handlers:work"}}\n' for number in numbers)
    command = run_piperun(f"broker: {broker.url}\nqueues:\n{queues}consumers:\n{consumers}")
    command.wait_for_line("ready with 100 consumers", 60)

    assert kib(command, "VmRSS") < 80 * MIB


@pytest.mark.parametrize(
    ("handler", "settings"),
    [
        ("done", {}),
        ("done", {"timeout": "30s"}),
        ("published", {"publish": {"queue": "out"}}),
        ("published", {"publish": {"queue": "out"}, "concurrency": 10, "timeout": "30s"}),
        ("published", {"publish": {"queue": "narrow"}, "concurrency": 10}),  # and refused before it is taken
        ("failed", {}),
        ("failed", {"retry": {"delays": ["20ms"]}}),
        ("timed_out", {"timeout": "10ms"}),
        ("failed_when_its_time_was_up", {"timeout": "10ms"}),
        ("yielded", {"publish": {"queue": "out"}}),
        ("failed_in_a_thread", {}),
        ("rejected_by_hand", {"ack": "manual"}),
    ],
    ids=str,
)
async def test_no_message_is_left_for_the_garbage_collector(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path, handler: str, settings: dict[str, object]
) -> None:
    (tmp_path / "cycles.py").write_text(CYCLES)
    for queue in ("work", "out"):
        await broker.declare(queue)
    await fill(broker, 100, 100)
    queues = {"work": {}, "out": {}, "narrow": {"max_length": 1, "overflow": "reject-publish"}}
    consumers = {
        "c": {"queue": "work", "handler": f"cycles:{handler}", "prefetch": 10, **settings},
        "sink": {"queue": "narrow", "handler": "cycles:sunk", "prefetch": 1},
    }
    command = run_piperun(json.dumps({"broker": broker.url, "queues": queues, "consumers": consumers}))
    command.wait_for_line("left for the collector")
    assert "0 messages and 0 objects were left for the collector" in command.lines


@pytest.mark.usefixtures("handlers")
async def test_with_ack_none_a_deep_queue_is_left_on_the_broker(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    # Given far more messages than the process may take, 64 MiB of them
    count, size = 8_000, 8_192
    await broker.declare("work", arguments={"x-queue-type": "classic"})
    await fill(broker, count, size)
    idle = run_piperun(consumer(broker.url, "empty"))
    idle.wait_for_line("ready with 1 consumer")
    without = kib(idle, "VmRSS")

    # When they are consumed with `ack: none` by a handler that does not come to an end
    command = run_piperun(consumer(broker.url, "work"))
    command.wait_for_line("messages? wait here; pausing")

    # Then the consumer pauses, and most of them stay where they are: 1,000, and what was in the socket meanwhile
    async with asyncio.timeout(deadline(20)):
        while await consumers_of_work(broker):
            pass
    assert broker.queue_depths()["work"] > count // 4
    assert kib(command, "VmHWM") - without < 48 * MIB


def consumer(url: str, queue: str) -> str:
    return f"""
broker: {url}
queues: {{{queue}: }}
consumers: {{c: {{queue: {queue}, ack: none, handler: "handlers:waits"}}}}
"""


async def fill(broker: BrokerUnderTest, count: int, size: int) -> None:
    async with broker.channel() as channel:
        body = aio_pika.Message(bytes(size), delivery_mode=1)
        for _ in range(count):
            await channel.default_exchange.publish(body, "work")


async def consumers_of_work(broker: BrokerUnderTest) -> int:
    async with broker.channel() as channel:
        work = await channel.declare_queue("work", passive=True)
        return work.declaration_result.consumer_count or 0
