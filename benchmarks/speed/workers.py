"""What a second process brings where handlers need the processor: piperun with `runtime.workers` 1 and 2, and handlers
that compute for a millisecond each."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.speed import pipelines
from benchmarks.speed.computing import rounds_in
from benchmarks.speed.figures import Spread, ratio
from benchmarks.speed.node import Node
from benchmarks.speed.peers import PEERS, Start, piperun_command
from benchmarks.speed.run import finished, started, task_of
from benchmarks.speed.shapes import Shape
from benchmarks.speed.table import Table
from benchmarks.speed.task import results

WORKERS: Final = (1, 2)
WORK: Final = 0.001  # seconds of CPU for each message
MESSAGES: Final = 4_000
_SHAPE: Final = Shape(kind="consume", prefetch=10)
_PATIENCE: Final = 120


@dataclass(frozen=True, kw_only=True)
class Share:
    """`rates` are messages a second of all workers together, by round."""

    workers: int
    rates: list[float] = field(default_factory=list)


def measure_workers(node: Node, rounds: int, messages: int, tell: Callable[[str], None]) -> list[Share]:
    work = rounds_in(WORK)
    found = [Share(workers=workers) for workers in WORKERS]
    for number in range(1, rounds + 1):
        for each in found:
            each.rates.append(_rate(each.workers, node, messages or MESSAGES, work))
            tell(f"round {number} of {rounds}: workers {each.workers}, {each.rates[-1]:,.0f} messages/s")
    return found


def _rate(workers: int, node: Node, messages: int, work: int) -> float:
    """From the first message of the first worker to the last of the last one."""
    node.prepare(_SHAPE.queue_type)
    node.fill(messages, body=_SHAPE.body, persistent=_SHAPE.persistent)
    # One more than there are: the count that ends a run is never reached, `until: idle` ends it.
    task = replace(task_of(_SHAPE, PEERS[0], node, messages + 1), skip=1, work=work)
    with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
        file = pipelines.write(pipelines.working(node.url, workers), Path(folder))
        with started(Start(command=piperun_command(file), environment={}), task, Path(folder)) as process:
            parts = results(finished(process, Path(folder), _PATIENCE))
    node.await_counts(0)
    seconds = max(part.last for part in parts) - min(part.first for part in parts)
    return sum(part.messages for part in parts) / seconds


def workers_table(found: Sequence[Share]) -> Table:
    one = found[0].rates
    return Table(
        title=f"handlers that need {WORK * 1000:g} ms of CPU, prefetch {_SHAPE.prefetch}",
        head=("", "messages/s", "min to max", "to one worker"),
        rows=tuple(_line(each, one) for each in found),
    )


def _line(each: Share, one: Sequence[float]) -> tuple[str, ...]:
    rate, times = Spread.of(each.rates), ratio(each.rates, one)
    more = f"{times.median:.2f} x" if times and each.workers > 1 else ""
    return f"workers: {each.workers}", f"{rate.median:,.0f}", f"{rate.low:,.0f} to {rate.high:,.0f}", more
