"""Each file in configs/ is run by the real command, on the embedded broker and on RabbitMQ, and does what its first two
lines say."""

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands

CONFIGS = Path(__file__).parents[2] / "configs"

Run = Callable[..., Command]


@pytest.fixture
def run(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> Run:
    """Runs a copy of an example, so that checkpoints do not land in the repository."""
    shutil.copytree(CONFIGS, tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__", ".piperun"))

    def start(name: str, *arguments: str) -> Command:
        return run_piperun(None, f"configs/{name}.yaml", *arguments, env={"AMQP_URL": broker.url})

    return start


def handled(command: Command) -> list[str]:
    """The lines that handlers have printed."""
    return [line for line in command.lines if line.startswith(" [")]


def test_hello(run: Run) -> None:
    hello = run("hello")
    assert hello.wait() == 0
    assert handled(hello) == [" [x] Received Hello World!"] * 5
    assert re.search(r"pipeline: ended after .*: 5 sent and confirmed, 5 delivered, 5 done$", hello.lines[-1])


def test_hello_on_the_broker_inside(run_piperun: Commands) -> None:
    hello = run_piperun(None, str(CONFIGS / "hello.yaml"))
    assert hello.wait() == 0
    assert handled(hello) == [" [x] Received Hello World!"] * 5
    assert "in memory only" in hello.output


def test_hello_iterator(run: Run) -> None:
    hello = run("hello_iterator")
    assert hello.wait() == 0
    assert handled(hello) == [" [x] Received Hello World!"] * 5
    assert hello.lines[-1].endswith("5 delivered, 5 done")


@pytest.mark.parametrize("order", ["send first", "receive first"])
def test_send_and_receive_in_either_order_and_twice(run: Run, order: str) -> None:
    for _ in range(2):
        if order == "send first":
            assert run("hello_send").wait() == 0
        receive = run("hello_receive")
        if order == "receive first":
            receive.wait_for_line("ready with")
            assert run("hello_send").wait() == 0
        receive.wait_for_line(r"\[x\] Received Hello World!")
        receive.send_signal(signal.SIGINT)
        assert receive.wait() == 0
        assert handled(receive) == [" [x] Received Hello World!"]


def test_acknowledgement(run: Run) -> None:
    story = run("acknowledgement")
    assert story.wait() == 0
    died = next(line for line in story.lines if "died: killed by SIGKILL" in line)
    assert "1 message in hand will be delivered again" in died
    deadly = [line for line in story.lines if "a task that kills its worker" in line]
    begun, dies, again, finished = deadly
    assert "begins: " in begun
    assert "dies now" in dies
    assert "begins again (redelivered): " in again
    assert "has finished: " in finished
    assert worker(begun) == worker(dies) != worker(again) == worker(finished)
    assert sum("has finished: an everyday task" in line for line in story.lines) == 4
    assert story.lines[-1].endswith("5 sent and confirmed, 6 delivered, 5 done, 1 to be delivered again")


def test_no_acknowledgement(run: Run) -> None:
    story = run("no_acknowledgement")
    assert story.wait() == 0
    died = next(line for line in story.lines if "died: killed by SIGKILL" in line)
    assert re.search(r"[1-5] messages? handed out and never finished: DROPPED", died)
    assert not any("has finished: a task that kills" in line for line in story.lines)
    assert not any("redelivered" in line for line in story.lines)
    assert re.search(r"5 delivered, ([0-4]) done, ([1-5]) DROPPED$", story.lines[-1])


def test_work_queue(run: Run) -> None:
    queue = run("work_queue")
    assert queue.wait() == 0
    lines = handled(queue)
    assert sorted(int(line.split()[-1]) for line in lines) == list(range(1, 13))
    by_fast = sum(line.startswith(" [fast]") for line in lines)
    assert by_fast > len(lines) - by_fast > 0


def test_publish_subscribe(run: Run) -> None:
    logs = run("publish_subscribe")
    assert logs.wait() == 0
    assert handled(logs).count(" [screen] something happened") == 3
    assert handled(logs)[-1] == " [statistics] 3 times: something happened"


def test_routing(run: Run) -> None:
    logs = run("routing")
    assert logs.wait() == 0
    assert sorted(handled(logs)) == [
        " [disk] error: the disk is full",
        " [screen] error: the disk is full",
        " [screen] info: all is well",
        " [screen] info: all is well",
    ]


def test_topics(run: Run) -> None:
    animals = run("topics")
    assert animals.wait() == 0
    assert sorted(handled(animals)) == [
        " [orange] a lazy orange elephant",
        " [orange] a quick orange fox",
        " [orange] a quick orange rabbit",
        " [rabbits_and_lazy] a lazy brown fox",
        " [rabbits_and_lazy] a lazy orange elephant",
        " [rabbits_and_lazy] a quick orange rabbit",
    ]


def test_headers(run: Run) -> None:
    documents = run("headers")
    assert documents.wait() == 0
    assert sorted(handled(documents)) == [
        " [pdf_or_log] pdf report: the annual figures",
        " [pdf_or_log] zip log: what happened at night",
        " [pdf_reports] pdf report: the annual figures",
    ]


def test_unroutable(run: Run) -> None:
    letter = run("unroutable")
    assert letter.wait() == 1
    error = next(line for line in letter.lines if "producer.sender" in line)
    assert 'exchange "letters" has no queue for routing key "atlantis"' in error
    assert "1 NOT sent" in letter.lines[-1]


async def test_orders(run: Run, broker: BrokerUnderTest) -> None:
    orders = run("orders")
    assert orders.wait() == 0
    assert sorted(handled(orders)) == [
        " [invoice] order 1: Ada pays 12.50",
        " [invoice] order 2: Grace pays 9.90",
        " [invoice] order 4: Margaret pays 420.00",
    ]
    (poison,) = await broker.get_all("billing.failed")
    assert poison.body == b'{"number": 3, "customer": "Barbara", "cents": "a lot"}'
    assert poison.headers["x-piperun-reason"] == "decode"
    assert poison.headers["x-piperun-consumer"] == "charge"
    assert "cents" in str(poison.headers["x-piperun-error"])
    # The checkpoint stands at the end of the file: a second run has nothing to send.
    again = run("orders")
    assert again.wait() == 0
    assert handled(again) == []


async def test_retry(run: Run, broker: BrokerUnderTest) -> None:
    retry = run("retry")
    assert retry.wait() == 0
    away = "the service is away"
    assert sorted(handled(retry)) == [
        " [x] order 1, attempt 1: charged",
        f" [x] order 2, attempt 1: {away}",
        f" [x] order 2, attempt 2: {away}",
        " [x] order 2, attempt 3: charged",
        *(f" [x] order 3, attempt {attempt}: {away}" for attempt in (1, 2, 3, 4)),
    ]
    assert "9 delivered, 2 done, 5 retried, 2 dead-lettered" in retry.lines[-1]
    dead = {each.body: each.headers for each in await broker.get_all("payments.failed")}
    told = {body: (headers["x-piperun-reason"], headers["x-piperun-attempt"]) for body, headers in dead.items()}
    assert told == {b'{"order":3,"away_for":99}': ("max_attempts", 4), b'{"order":4}': ("fatal", 1)}


def test_idempotency(run: Run, tmp_path: Path) -> None:
    payments = run("idempotency")
    assert payments.wait() == 0
    each_once = [f" [payment-{number}] Ada pays {10 * number} euros" for number in (1, 2, 3)]
    assert sorted(handled(payments)) == each_once
    assert re.search(r"payment-\d is a duplicate: acknowledged without being handled again", payments.output)
    assert payments.lines[-1].endswith("6 sent and confirmed, 6 delivered, 6 done (3 duplicates skipped)")
    assert (tmp_path / "configs/.piperun/idempotency.charge.sqlite").is_file()


def test_every_example_is_run_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    names = [path.stem for path in CONFIGS.glob("*.yaml")]
    assert names
    assert [name for name in names if f'"{name}"' not in tests] == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_opens_with_two_lines_of_purpose(path: Path) -> None:
    first, second, third = path.read_text(encoding="utf-8").splitlines()[:3]
    assert first.startswith("# ") and second.startswith("# ")
    assert third == "# yaml-language-server: $schema=../schemas/pipeline.schema.json"


def worker(line: str) -> str:
    found = re.search(r"worker\.\d", line)
    assert found, line
    return found[0]
