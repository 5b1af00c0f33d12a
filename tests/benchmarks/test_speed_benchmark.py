"""The benchmark of speed still runs on RabbitMQ: the command with the few messages that a test has time for, and the
refusal to give a figure where messages are missing. How fast anything is, nobody asserts."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.speed import __main__ as command_line
from benchmarks.speed import environments, surroundings
from benchmarks.speed.environments import MissingError
from benchmarks.speed.latency import WAYS, measure_latency
from benchmarks.speed.memory import measure_growth, measure_idle
from benchmarks.speed.node import Node
from benchmarks.speed.peers import PEERS, Peer, Start
from benchmarks.speed.profiling import profile
from benchmarks.speed.rounds import Plan, measure_all
from benchmarks.speed.run import RunError, measure
from benchmarks.speed.shapes import HEADLINE, SHAPES, Shape, named
from benchmarks.speed.task import Task
from benchmarks.speed.workers import measure_workers
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline

ROOT = Path(__file__).parents[2]
PIPERUN, ON_THE_PLAIN_LINE, PLAIN = PEERS[:3]
FEW = 50


def silent(_line: str) -> None:
    pass


@pytest.fixture
def node(rabbitmq: PrivateRabbitMQ) -> Iterator[Node]:
    node = Node(rabbitmq=rabbitmq)
    yield node
    node.prepare("classic")


@pytest.mark.parametrize("peer", [PIPERUN, ON_THE_PLAIN_LINE, PLAIN], ids=lambda peer: peer.name)
@pytest.mark.parametrize(
    "shape", [*named(HEADLINE), *named(["consume-none", "pipe-4k-quorum"])], ids=lambda shape: shape.name
)
def test_every_message_is_accounted_for(shape: Shape, peer: Peer, node: Node) -> None:
    result = measure(shape, peer, node, FEW, patience=deadline(30))
    assert result.messages == FEW - FEW // 10
    assert result.last > result.first


def test_a_program_that_fails_is_told_in_its_own_words_and_not_asked_again(node: Node) -> None:
    def start(_shape: Shape, _task: Task, _folder: Path) -> Start:
        return Start(command=(sys.executable, "-c", "raise SystemExit('nothing but trouble')"), environment={})

    told: list[str] = []
    broken = Peer(name="broken", title="Broken", start=start, versions=dict)
    (row,) = measure_all(named(["publish"]), [broken], node, Plan(rounds=3, seconds=1, messages=FEW), told.append)
    assert row.results == [None] * 3
    assert told == ["failed: publish broken: status 1: nothing but trouble"]


def test_a_program_that_leaves_messages_behind_gives_no_figure(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_shape: Shape, task: Task, _folder: Path) -> Start:
        line = (
            '{"bench": {"messages": 1, "first": 1, "last": 2, "cpu_seconds": 0, "node_cpu_seconds": 0, "peak_mib": 0}}'
        )
        return Start(command=("echo", line), environment={})

    monkeypatch.setattr("benchmarks.speed.node._SETTLING", 0.1)
    idle = Peer(name="idle", title="Idle", start=start, versions=dict)
    with pytest.raises(RuntimeError, match=r"should hold 0 and 0 messages and hold \(50, 0\)"):
        measure(named(["consume-100"])[0], idle, node, FEW)


def test_a_program_that_does_not_end_is_ended(node: Node) -> None:
    def start(_shape: Shape, _task: Task, _folder: Path) -> Start:
        return Start(
            command=(sys.executable, "-c", "import time; time.sleep(60)"),
            environment={},
        )

    with pytest.raises(RunError, match=r"not done within 0\.1 s"):
        measure(
            named(["publish"])[0], Peer(name="slow", title="Slow", start=start, versions=dict), node, FEW, patience=0.1
        )


def test_latency_is_measured_on_both_ways(node: Node) -> None:
    found = measure_latency([PIPERUN, PLAIN], node, 1, FEW, silent)
    assert [(each.way, each.peer.name) for each in found] == [
        (way, peer.name) for way in WAYS for peer in (PIPERUN, PLAIN)
    ]
    for each in found:
        (figures,) = each.rounds
        assert 0 < figures[0] <= figures[1] <= figures[2]


def test_memory_is_measured_idle_and_with_several_queues(node: Node) -> None:
    (idle,) = measure_idle([PIPERUN], node, 1, silent)
    (growth,) = measure_growth(node, 1, silent, queues=(3,))
    for each in (idle, growth):
        assert each.mib[0] > 1
        assert each.seconds[0] > 0


def test_workers_are_measured_together(node: Node) -> None:
    one, two = measure_workers(node, 1, FEW, silent)
    assert (one.workers, two.workers) == (1, 2)
    assert one.rates[0] > 0 and two.rates[0] > 0


def test_what_cannot_be_measured_does_not_take_the_rest_along(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise RunError("2 of 1000 consumers")

    words = "--shape publish --shape growth --peer aio-pika --messages 50 --rounds 1"
    monkeypatch.setattr(command_line, "measure_growth", failing)
    monkeypatch.setattr(Node, "start", lambda _: nullcontext(node))
    monkeypatch.setattr("sys.argv", ["speed", *words.split()])
    command_line.main()
    said = capsys.readouterr()
    assert "growth was not measured: 2 of 1000 consumers" in said.err
    assert "\naio-pika " in said.out


def test_a_profile_names_functions_of_piperun(node: Node) -> None:
    assert "runtime/process.py" in profile(named(["consume-100"])[0], node, FEW)


def test_a_peer_that_cannot_be_had_is_left_out_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise MissingError("node and npm are not installed: apt-get install nodejs npm")

    monkeypatch.setattr(environments, "npm", missing)
    peers = [each for each in PEERS if each.name in ("piperun", "amqplib")]
    there, told = surroundings.present(peers)
    assert [peer.name for peer in there] == ["piperun"]
    assert told == ["Node amqplib is left out: node and npm are not installed: apt-get install nodejs npm"]


def test_a_failure_is_not_tried_again() -> None:
    tried: list[str] = []

    @environments.once
    def broken() -> Path:
        tried.append("broken")
        raise MissingError("no network")

    for _ in range(2):
        with pytest.raises(MissingError, match="no network"):
            broken()
    assert tried == ["broken"]


def test_an_installation_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments, "CACHE", tmp_path)
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(MissingError, match=r"apt-get install python3-venv \(status 1\)"):
        inspect.unwrap(environments.python)()


@pytest.mark.usefixtures("rabbitmq_installation")
def test_the_command_prints_tables_that_fit_a_terminal() -> None:
    words = ["--messages", "50", "--rounds", "1", "--peer", "piperun", "--peer", "aio-pika"]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    for name in HEADLINE:
        assert f"\n{name}: " in done.stdout
    assert done.stdout.count("\naio-pika ") == len(HEADLINE)
    assert all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout


@pytest.mark.usefixtures("rabbitmq_installation")
def test_a_name_that_nothing_has_is_refused() -> None:
    done = command("--shape", "nothing", "--peer", "piperun")
    assert done.returncode == 1
    assert "nothing is called nothing" in done.stderr


def test_the_help_names_every_shape() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert [shape.name for shape in SHAPES if shape.name not in done.stdout] == []
    assert all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=deadline(90),
        check=False,
    )
