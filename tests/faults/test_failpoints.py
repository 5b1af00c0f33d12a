"""The process is killed at each step of settling, one after the other, and the books are looked at each time: what was
confirmed is handled, dead-lettered or still queued. Which steps there are is read from the code itself."""

import ast
import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import pytest

from pipeline import failpoints
from tests.brokers import RabbitMQUnderTest
from tests.command import Commands
from tests.faults.ledger import Books, Sight, Window
from tests.faults.numbers import handled, numbers_of, sights
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline, eventually, wait_until

# The settling path, from the end of a handler to the ack.
RUNTIME = Path(failpoints.__file__).parent / "runtime"
SETTLING = ("process.py", "outputs.py", "confirm.py", "settle.py")

# Points that no run comes to in the time of a test.
NOT_REACHED = {
    "settle.before_native_retry": "RabbitMQ 4.3",
    "settle.before_reject": "a copy that stays unconfirmed for 15 minutes",
    "settle.before_next_try": "a dead-letter queue that refuses twice; a pause, in which nothing changes",
    "confirm.before_next_try": "a lost confirm, see the tests of the line; a pause, in which nothing changes",
}

FILE = """
broker: ${AMQP_URL}
queues:
  tasks: {}
  forms: {}
  notes: {dead_letter: false}
  orders: {}
  series: {}
  results: {}
consumers:
  worker: {queue: tasks, handler: "steps:work", prefetch: 3, concurrency: 2, publish: {queue: results}}
  clerk: {queue: forms, handler: "steps:fill_in", ack: manual, prefetch: 3, publish: {queue: results}}
  careless: {queue: notes, handler: "steps:read", idempotency: sqlite}
  patient: {queue: orders, handler: "steps:at_second", retry: {delays: [50ms]}, publish: {queue: results}}
  in_order:
    queue: series
    handler: "steps:at_second"
    retry: {delays: [50ms], strategy: inline}
    publish: {queue: results}
runtime: {until: idle, shutdown_timeout: 1s}
"""
STEPS = """
import asyncio, os
from pathlib import Path
from pipeline import Reject

HERE = Path(__file__).parent

def handled(body, message):
    with open(HERE / "handled", "a") as handled:
        handled.write(f"{body} {message.redelivered:d}\\n")

def refused(body):
    return int(body) % 8 in (1, 4)

async def work(body: str, message):
    if "HANG" in os.environ:
        (HERE / "hangs").touch()
        await asyncio.Event().wait()
    if refused(body):
        raise Reject("refused for good")
    handled(body, message)
    yield body

async def fill_in(body: str, message, context):
    if refused(body):
        return await message.reject("refused for good")
    handled(body, message)
    await context.publish(body)
    await message.ack()
    return body

async def read(body: str, message):
    if "FAIL" in os.environ:
        raise RuntimeError("not now")
    handled(body, message)

async def at_second(body: str, message):
    if message.attempt == 1:
        raise RuntimeError("not yet")
    handled(body, message)
    return body
"""
QUEUES = ("tasks", "tasks", "tasks", "forms", "forms", "notes", "orders", "series")  # of a number, modulo eight
EACH = tuple(dict.fromkeys(QUEUES))
WAIT_QUEUE = "orders.retry.50ms"


# The points in the code


def test_every_await_of_the_settling_path_has_a_failpoint_next_to_it() -> None:
    trees = {name: ast.parse((RUNTIME / name).read_text(encoding="utf-8")) for name in SETTLING}
    nodes = [each for tree in trees.values() for each in ast.walk(tree)]
    own = {each.name for each in nodes if isinstance(each, ast.AsyncFunctionDef)}
    own |= {each.name for each in nodes if isinstance(each, ast.FunctionDef) and _hands_on(each, own)}
    bare = [
        f"{name}:{statement.lineno}: {ast.unparse(statement)}"
        for name, tree in trees.items()
        for statement, beside in _awaiting(tree)
        # A coroutine of these files has its own points inside, whoever hands it on.
        if not beside and not all(_called(each) in own for each in _awaits(statement))
    ]
    assert not bare, "\n".join(["put a failpoint before or behind it, and its name into a test:", *bare])


def test_no_two_failpoints_have_one_name() -> None:
    names = list(_points())
    assert len(names) == len(set(names))


def test_each_failpoint_is_killed_at_or_its_reason_is_written_down() -> None:
    assert {*KILLED_AT, *NOT_REACHED} == set(_points())
    assert not set(KILLED_AT) & set(NOT_REACHED)


def _points() -> Iterator[str]:
    for name in SETTLING:
        for node in ast.walk(ast.parse((RUNTIME / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.stmt) and (point := _point(node)) is not None:
                yield point


def _point(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(ast.BoolOp(ast.And(), [ast.Name("ARMED"), ast.Call(ast.Name("reach"), [ast.Constant(name)])])):
            return str(name)
    return None


def _awaiting(tree: ast.AST) -> Iterator[tuple[ast.stmt, bool]]:
    """The innermost statements that await something, and whether the one before or behind is a failpoint."""
    for node in ast.walk(tree):
        for statements in _blocks(node):
            for at, statement in enumerate(statements):
                if not _blocks(statement) and any(_awaits(statement)):
                    beside = statements[max(at - 1, 0) : at + 2]
                    yield statement, any(_point(each) is not None for each in beside)


def _hands_on(function: ast.FunctionDef, coroutines: set[str]) -> bool:
    """Whether what it returns is always one of these."""
    results = [each for each in ast.walk(function) if isinstance(each, ast.Return)]
    return bool(results) and all(_called(each) in coroutines for each in results)


def _blocks(node: ast.AST) -> list[list[ast.stmt]]:
    """What stands indented below it."""
    fields = (getattr(node, name, None) for name in ("body", "orelse", "finalbody", "handlers", "cases"))
    return [field for field in fields if isinstance(field, list) and field]


def _awaits(statement: ast.stmt) -> Iterator[ast.Await]:
    return (node for node in ast.walk(statement) if isinstance(node, ast.Await))


def _called(each: ast.Await | ast.Return) -> str:
    match each.value:
        case ast.Call(ast.Attribute(_, name)) | ast.Call(ast.Name(name)):
            return name
    return ""


# Arming


def test_a_failpoint_kills_at_its_nth_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    monkeypatch.setenv("PIPERUN_FAILPOINT", "test.one,test.third:3")
    for times, name in ((0, "test.other"), (0, "test.third"), (0, "test.third"), (1, "test.third"), (1, "test.third")):
        failpoints.reach(name)
        assert len(killed) == times, name
    failpoints.reach("test.one")
    assert killed == [(os.getpid(), signal.SIGKILL)] * 2


def test_a_failpoint_may_kill_one_of_many_processes_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    monkeypatch.setenv("PIPERUN_FAILPOINT", "test.once,test.before")
    monkeypatch.setenv("PIPERUN_FAILPOINT_ONCE", str(tmp_path))
    (tmp_path / "test.before").touch()
    failpoints.reach("test.once")
    failpoints.reach("test.before")
    assert len(killed) == 1 and (tmp_path / "test.once").exists()


def test_nothing_is_armed_in_a_process_that_was_not_told_to() -> None:
    assert failpoints.ARMED is False


# Killed there


class Runs:
    """Runs of the pipeline in one folder, each in a process of its own that has piperun loaded already."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that what can be read is not hidden in a buffer
            env={**os.environ, "PIPERUN_FAILPOINT": "none", "NO_COLOR": "1"},
            process_group=0,
        )

    def start(self, env: Mapping[str, str], *options: str) -> int:
        """The process."""
        (self.folder / "output").write_text("")
        request = {
            "arguments": ["run", str(self.folder / "pipeline.yaml"), *options],
            "env": {"AMQP_URL": self._url, **env},
            "output": str(self.folder / "output"),
        }
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(request).encode() + b"\n")
        return self._answer()

    def wait(self) -> int:
        """The status of the run that was started last."""
        return self._answer()

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def close(self) -> None:
        os.killpg(self._zygote.pid, signal.SIGKILL)
        self._zygote.communicate(timeout=deadline(10))

    def _answer(self) -> int:
        assert self._zygote.stdout is not None
        assert select.select([self._zygote.stdout], [], [], deadline(30))[0], f"no end within its time:\n{self.output}"
        return int(self._zygote.stdout.readline())


@contextmanager
def runs(folder: Path, url: str) -> Iterator[Runs]:
    (folder / "pipeline.yaml").write_text(FILE)
    (folder / "steps.py").write_text(STEPS)
    each = Runs(folder, url)
    try:
        yield each
    finally:
        each.close()


# Points, and what makes a run come to them: variables for its handlers, or a stop in the middle.
ANY, STOPPED, FAILING, DELETED = "ANY", "HANG", "FAIL", "DELETED"
KILLED_AT = {
    "settle.before_declare_again": DELETED,
    "settle.after_declare_again": DELETED,
    "settle.after_handler": ANY,
    "settle.before_ack": ANY,
    "settle.after_ack": ANY,
    "settle.before_copy": ANY,
    "settle.after_confirm": ANY,
    "settle.after_copy_ack": ANY,
    "settle.before_drop": FAILING,
    "settle.before_remembered": ANY,
    "settle.after_remembered": ANY,
    "settle.before_give_back": STOPPED,
    "settle.after_give_back": STOPPED,
    "settle.before_abandon": STOPPED,
    "settle.after_abandon": STOPPED,
    "settle.after_wait_confirm": ANY,
    "settle.after_wait_ack": ANY,
    "inline.before_pause": ANY,
    "inline.after_handler": ANY,
    "confirm.before_publish": ANY,
    "confirm.after_confirm": ANY,
    "outputs.before_answer": ANY,
    "outputs.after_answer": ANY,
    "outputs.before_confirms": ANY,
    "outputs.after_confirms": ANY,
    "outputs.before_published": ANY,
    "outputs.after_published": ANY,
    "by_hand.before_output": ANY,
    "by_hand.before_settled": ANY,
    "by_hand.after_settled": ANY,
    "by_hand.before_end": ANY,
}


async def test_killed_at_every_step_of_settling_nothing_is_lost(rabbitmq: PrivateRabbitMQ, tmp_path: Path) -> None:
    broker = RabbitMQUnderTest(rabbitmq, rabbitmq.add_vhost())
    for queue in (*EACH, "results"):
        await broker.declare(queue, arguments={"x-queue-type": "classic"})
    books = KeptBooks(broker, tmp_path)
    with runs(tmp_path, broker.url) as each:
        for point, how in KILLED_AT.items():
            # Given some messages, and a run that comes to the point
            if how != DELETED:
                await books.send()
            print(point)
            pid = each.start({"PIPERUN_FAILPOINT": point, how: "1"}, *(["--forever"] if how == DELETED else []))
            if how == DELETED:
                wait_until(lambda: "ready with" in each.output, 20, told="a run that is ready")
                await eventually(lambda: broker.queue_depths()["tasks"] == 0, told="nothing left from before")
                await books.delete_dead_letter_queue()
                await books.send()
            elif how == STOPPED:
                wait_until((tmp_path / "hangs").exists, 20, told="a handler that hangs")
                (tmp_path / "hangs").unlink()
                os.kill(pid, signal.SIGTERM)
            # Then it dies there, and everything is where it must be
            status = await asyncio.to_thread(each.wait)
            assert f"failpoint {point}:" in each.output, each.output
            assert status == -signal.SIGKILL
            wait_until(lambda: not rabbitmq.list_consumers(broker.vhost), told="the end of its connections")
            await books.add_up()
        # And a run that nobody kills finds all that is left
        each.start({"PIPERUN_FAILPOINT": "none"})
        assert await asyncio.to_thread(each.wait) == 0, each.output
        (await books.now()).must_add_up(each.output.splitlines()[-1])
        sent_on = {number for number in numbers_of(handled(tmp_path)) if QUEUES[number % 8] != "notes"}
        assert await books.outputs() >= sent_on
    broker.close()


class KeptBooks:
    """Those of all runs together, and what is sent to them."""

    def __init__(self, broker: RabbitMQUnderTest, folder: Path) -> None:
        self._broker = broker
        self._folder = folder
        self._confirmed: set[int] = set()
        self._taken_out: list[Sight] = []

    async def send(self) -> None:
        async with self._broker.channel() as channel:
            for number in range(len(self._confirmed), len(self._confirmed) + len(QUEUES)):
                message = aio_pika.Message(
                    str(number).encode(), message_id=f"m{number}", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                )
                await channel.default_exchange.publish(message, routing_key=QUEUES[number % 8], timeout=deadline(10))
                self._confirmed.add(number)

    async def delete_dead_letter_queue(self) -> None:
        """What lies in it is kept here."""
        for message in await self._broker.get_all("tasks.dlq"):
            self._taken_out.append(Sight(number=int(message.body), where="dead-lettered"))
        async with self._broker.channel() as channel:
            await channel.queue_delete("tasks.dlq")

    async def now(self) -> Books:
        return Books(
            confirmed=self._confirmed,
            offered=self._confirmed,
            sights=self._taken_out + await sights(self._broker.url, self._folder, *EACH, WAIT_QUEUE),
            windows=(Window.NOT_ACKED, Window.COPIED),
        )

    async def add_up(self) -> None:
        """Looked at again for a while: what waits may be on its way back from one queue to the other."""
        end = time.monotonic() + deadline(10)
        while (books := await self.now()).discrepancies() and time.monotonic() < end:
            pass
        books.must_add_up()

    async def outputs(self) -> set[int]:
        return {int(message.body) for message in await self._broker.get_all("results")}


# With workers, and the broker in the supervisor: what dies is the worker, and the run goes on

WITH_WORKERS = """
queues:
  tasks: {}
producers:
  lines: {source: {type: file, path: lines}, publish: {queue: tasks}, max_in_flight: 10}
consumers:
  worker: {queue: tasks, handler: "steps:work", prefetch: 3, publish: {queue: results}}
  graveyard: {queue: tasks.dlq, handler: "steps:bury"}
  sink: {queue: results, handler: "steps:sink"}
runtime: {until: idle, workers: 2}
"""
BURY = """
def bury(body: str):
    with open(HERE / "buried", "a") as buried:
        buried.write(body + "\\n")

def sink(body: str):
    with open(HERE / "sunk", "a") as sunk:
        sunk.write(body + "\\n")
"""
KILLED_ONCE = {"settle.after_handler": 8, "settle.after_confirm": 3, "confirm.after_confirm": 40}


def test_workers_killed_while_they_settle(run_piperun: Commands, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS + BURY)
    (tmp_path / "lines").write_text("".join(f"{number}\n" for number in range(120)))
    killed = tmp_path / "killed"
    killed.mkdir()
    command = run_piperun(
        WITH_WORKERS.replace("tasks: {}", "tasks: {}\n  tasks.dlq: {}\n  results: {}"),
        env={
            "PIPERUN_FAILPOINT": ",".join(f"{name}:{nth}" for name, nth in KILLED_ONCE.items()),
            "PIPERUN_FAILPOINT_ONCE": str(killed),
        },
    )
    assert command.wait(60) == 0
    # Each point has killed one worker, and the run has come to its end with everything at its place
    assert {file.name for file in killed.iterdir()} == set(KILLED_ONCE)
    assert len([line for line in command.lines if "died: killed by SIGKILL" in line]) == len(KILLED_ONCE)
    buried = [int(line) for line in (tmp_path / "buried").read_text().split()]
    found = [*handled(tmp_path), *(Sight(number=number, where="dead-lettered") for number in buried)]
    Books(confirmed=range(120), offered=range(120), sights=found, windows=tuple(Window)).must_add_up()
    assert {int(line) for line in (tmp_path / "sunk").read_text().split()} == numbers_of(handled(tmp_path))
