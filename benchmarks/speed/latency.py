"""How long a single message takes at a steady rate that is far from the limit: from its publish to the handler, and
from its publish through the handler and out again."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from benchmarks.speed import steady
from benchmarks.speed.figures import Spread, percentile, ratio
from benchmarks.speed.node import Node
from benchmarks.speed.peers import PIPERUN, Peer
from benchmarks.speed.run import finished, started, task_of, until_consuming
from benchmarks.speed.shapes import Shape
from benchmarks.speed.table import Table
from benchmarks.speed.task import results

RATE: Final = 500  # messages a second
SECONDS: Final = 10
SHARES: Final = (0.5, 0.99, 0.999)
_PATIENCE: Final = 30

Way = Literal["to the handler", "through and out"]
WAYS: Final[tuple[Way, ...]] = ("to the handler", "through and out")
_SHAPES: Final = {"to the handler": Shape(kind="consume"), "through and out": Shape(kind="pipe")}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Of one peer on one way: for each round, milliseconds at each of SHARES."""

    way: Way
    peer: Peer
    rounds: list[tuple[float, ...]] = field(default_factory=list)

    def at(self, place: int) -> list[float]:
        return [figures[place] for figures in self.rounds]


def measure_latency(
    peers: Sequence[Peer], node: Node, rounds: int, messages: int, tell: Callable[[str], None]
) -> list[Latency]:
    found = [Latency(way=way, peer=peer) for way in WAYS for peer in peers if peer.stamps or way == "through and out"]
    for number in range(1, rounds + 1):
        for each in found:
            took = sorted(_took(each, node, messages or RATE * SECONDS))
            each.rounds.append(tuple(percentile(took, share) for share in SHARES))
            tell(f"round {number} of {rounds}: latency {each.way}, {each.peer.name}: p50 {each.rounds[-1][0]:.2f} ms")
    return found


def _took(each: Latency, node: Node, messages: int) -> Sequence[float]:
    shape = _SHAPES[each.way]
    task = replace(task_of(shape, each.peer, node, messages), latency=each.way == "to the handler")
    node.prepare(shape.queue_type)
    with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
        start = each.peer.start(shape, task, Path(folder))
        with started(start, task, Path(folder)) as process:
            until_consuming(process, node, Path(folder))
            if shape.kind == "pipe":
                back = steady.there_and_back(node.url, messages, rate=RATE, body=shape.body, patience=_PATIENCE)
                return back[task.skip :]
            steady.publish_steadily(node.url, messages, rate=RATE, body=shape.body)
            (result,) = results(finished(process, Path(folder), _PATIENCE))
            return result.latencies


def tables(found: Sequence[Latency]) -> Iterator[Table]:
    for way in WAYS:
        mine = [each for each in found if each.way == way]
        ours = next((each.at(0) for each in mine if each.peer.name == PIPERUN), [])
        if mine:
            yield Table(
                title=f"latency at {RATE} messages a second, {way}: milliseconds",
                head=("", "p50", "p99", "p99.9", "p50, min to max", "piperun's p50 is"),
                rows=tuple(_line(each, ours) for each in mine),
            )


def _line(each: Latency, ours: Sequence[float]) -> tuple[str, ...]:
    half = Spread.of(each.at(0))
    times = ratio(ours, each.at(0)) if each.peer.name != PIPERUN else None
    return (
        each.peer.title,
        *(f"{Spread.of(each.at(place)).median:.2f}" for place in range(len(SHARES))),
        f"{half.low:.2f} to {half.high:.2f}",
        f"{times.median:.2f} x" if times else "",
    )
