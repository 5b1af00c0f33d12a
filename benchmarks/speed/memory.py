"""Resident memory: of each peer with one consumer and nothing to do, and of piperun with more and more queues, with the
time from its start until all of them are consumed from. Under load it stands in the tables of the shapes."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.speed import pipelines
from benchmarks.speed.figures import Spread
from benchmarks.speed.node import Node
from benchmarks.speed.peers import PEERS, Peer, Start, piperun_command
from benchmarks.speed.run import started, task_of, until_consuming
from benchmarks.speed.shapes import Shape
from benchmarks.speed.stopwatch import peak_mib
from benchmarks.speed.table import Table
from benchmarks.speed.task import Task

QUEUES: Final = (1, 10, 100, 1000)
_SHAPE: Final = Shape(kind="consume")
_REST: Final = 1.0  # seconds from the last consumer's start to the look at the memory
_PATIENCE: Final = 300


@dataclass(frozen=True, kw_only=True)
class Idle:
    """`seconds` from the start of the process until RabbitMQ counts all of its consumers."""

    title: str
    mib: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def measure_idle(peers: Sequence[Peer], node: Node, rounds: int, tell: Callable[[str], None]) -> list[Idle]:
    found = {peer.name: Idle(title=peer.title) for peer in peers if peer.gather == 1}
    for number in range(1, rounds + 1):
        for peer in [each for each in peers if each.name in found]:
            node.prepare(_SHAPE.queue_type)
            task = task_of(_SHAPE, peer, node, 2)
            with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
                _note(found[peer.name], peer.start(_SHAPE, task, Path(folder)), task, Path(folder), node, 1)
            tell(f"round {number} of {rounds}: idle {peer.name}, {found[peer.name].mib[-1]:.1f} MiB")
    return list(found.values())


def measure_growth(node: Node, rounds: int, tell: Callable[[str], None], queues: Sequence[int] = QUEUES) -> list[Idle]:
    """On a virtual host of its own each time, which goes with its queues."""
    found = [Idle(title=f"{number:,} queue{'s' if number > 1 else ''}") for number in queues]
    for number in range(1, rounds + 1):
        for count, each in zip(queues, found, strict=True):
            vhost = node.rabbitmq.add_vhost()
            task = task_of(_SHAPE, PEERS[0], node, 2)
            with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
                file = pipelines.write(pipelines.idle(node.rabbitmq.url(vhost), count), Path(folder))
                start = Start(command=piperun_command(file), environment={})
                _note(each, start, task, Path(folder), node, count, vhost)
            node.rabbitmq.delete_vhost(vhost)
            tell(f"round {number} of {rounds}: {each.title}, {each.mib[-1]:.1f} MiB, {each.seconds[-1]:.2f} s")
    return found


def _note(each: Idle, start: Start, task: Task, folder: Path, node: Node, consumers: int, vhost: str = "/") -> None:
    before = time.monotonic()
    with started(start, task, folder) as process:
        seen = until_consuming(process, node, folder, consumers=consumers, vhost=vhost, patience=_PATIENCE)
        time.sleep(_REST)
        each.mib.append(peak_mib(process.pid, "VmRSS"))
        each.seconds.append(seen - before)


def idle_table(found: Sequence[Idle]) -> Table:
    return Table(
        title="resident memory with one consumer and nothing to do",
        head=("", "MiB", "min to max"),
        rows=tuple((each.title, *_mib(each)) for each in found),
    )


def growth_table(found: Sequence[Idle]) -> Table:
    return Table(
        title="piperun with more queues, a consumer on each and nothing to do",
        head=("", "MiB", "min to max", "seconds to start"),
        rows=tuple((each.title, *_mib(each), f"{Spread.of(each.seconds).median:.2f}") for each in found),
    )


def _mib(each: Idle) -> tuple[str, str]:
    mib = Spread.of(each.mib)
    return f"{mib.median:.0f}", f"{mib.low:.0f} to {mib.high:.0f}"
