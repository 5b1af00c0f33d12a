"""All of it, several times: in each round every peer has its turn with every shape, so that a slow minute of the
machine does not fall on one of them alone. How many messages a turn takes is learnt in a short run before, and is the
same for all: RabbitMQ needs longer for each message of a long queue, and some clients for each of their first ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.speed.node import Node
from benchmarks.speed.peers import Peer
from benchmarks.speed.run import measure
from benchmarks.speed.shapes import Shape
from benchmarks.speed.task import Result

FEW: Final = 1_000  # messages of the short run
_MANY: Final = 400_000
_TIMES: Final = 5  # as long as the fastest may a peer take; one that would take longer has fewer messages
_MUCH: Final = 256 * 1024 * 1024  # octets of bodies at most, since RabbitMQ has to hold them all


@dataclass(kw_only=True)
class Row:
    """One peer with one shape: a result for each round, None where there is none; then `failure` says why."""

    shape: Shape
    peer: Peer
    messages: int = 0
    results: list[Result | None] = field(default_factory=list)
    failure: str = ""

    @property
    def good(self) -> list[Result]:
        return [result for result in self.results if result is not None]

    @property
    def rates(self) -> list[float | None]:
        """By round."""
        return [None if result is None else result.rate for result in self.results]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`messages` 0: so many as take the fastest about `seconds`."""

    rounds: int
    seconds: float
    messages: int = 0


def measure_all(
    shapes: Sequence[Shape], peers: Sequence[Peer], node: Node, plan: Plan, tell: Callable[[str], None]
) -> list[Row]:
    """A peer that fails is told once, and left alone with that shape from then on."""
    rows = [
        Row(shape=shape, peer=peer, messages=plan.messages) for shape in shapes for peer in peers if peer.can(shape)
    ]
    if not plan.messages:
        _calibrate(rows, node, plan.seconds, tell)
    for number in range(1, plan.rounds + 1):
        for row in rows:
            result = _attempt(row, node, row.messages, tell)
            row.results.append(result)
            if result is not None:
                tell(f"round {number} of {plan.rounds}: {_name(row)}, {result.rate:,.0f} messages/s")
    return rows


def _calibrate(rows: Sequence[Row], node: Node, seconds: float, tell: Callable[[str], None]) -> None:
    tried = [(row, result.rate) for row in rows if (result := _attempt(row, node, FEW, tell)) is not None]
    for row, rate in tried:
        fastest = max(each for other, each in tried if other.shape == row.shape)
        row.messages = count_for(rate, fastest, seconds, row.shape.body)
        tell(f"short run: {_name(row)}, from now on {row.messages:,} messages")


def count_for(rate: float, fastest: float, seconds: float, body: int) -> int:
    """So many messages as take the fastest about so long, within what RabbitMQ can hold; fewer for who is slow."""
    return max(FEW // 2, min(int(fastest * seconds), int(rate * seconds * _TIMES), _MANY, _MUCH // body))


def _attempt(row: Row, node: Node, messages: int, tell: Callable[[str], None]) -> Result | None:
    if row.failure:
        return None
    try:
        return measure(row.shape, row.peer, node, messages)
    except (RuntimeError, TimeoutError) as error:
        row.failure = str(error)
        tell(f"failed: {_name(row)}: {row.failure}")
        return None


def _name(row: Row) -> str:
    return f"{row.shape.name} {row.peer.name}"
