"""How fast piperun is on RabbitMQ, beside other clients that do the same. The command: what is measured, how often, and
where the figures go. `make bench` runs it."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.speed import surroundings, table
from benchmarks.speed.node import Node
from benchmarks.speed.peers import PEERS, Peer
from benchmarks.speed.rounds import Plan, Row, measure_all
from benchmarks.speed.shapes import HEADLINE, SHAPES, Shape, named
from tests.rabbitmq_installation import HOW_TO_GET_IT, find_installation


def main() -> None:
    wish = _arguments()
    installation = find_installation()
    if installation is None:
        sys.exit(HOW_TO_GET_IT)
    peers, missing = surroundings.present([peer for peer in PEERS if not wish.peer or peer.name in wish.peer])
    shapes = list(SHAPES) if wish.all else named(tuple(wish.shape or HEADLINE))
    for line in missing:
        _tell(line)
    with Node.start(installation) as node:
        print(_head(node, peers))
        plan = Plan(rounds=wish.rounds, seconds=wish.seconds, messages=wish.messages)
        rows = measure_all(shapes, peers, node, plan, _tell)
    print(_tables(shapes, rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Measure piperun on a private RabbitMQ, beside other clients.",
        epilog="shapes: " + ", ".join(shape.name for shape in SHAPES),
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--shape", action="append", metavar="NAME", help="only these; may be repeated and hold *")
    parser.add_argument(
        "--peer", action="append", choices=names, metavar="NAME", help=f"only these: {', '.join(names)}"
    )
    parser.add_argument("--all", action="store_true", help="all shapes; takes hours")
    parser.add_argument("--rounds", type=_count, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a measurement, about (default: 1.5)")
    parser.add_argument("--messages", type=int, default=0, help="so many messages each, instead of --seconds")
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError("between 1 and 100")
    return count


def _head(node: Node, peers: Sequence[Peer]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in surroundings.versions(node, peers).items())
    return f"{surroundings.machine()}, load {surroundings.load()}\n{versions}\n"


def _tables(shapes: Sequence[Shape], rows: Sequence[Row]) -> str:
    return "\n\n".join(table.of_shape(shape, rows).as_text() for shape in shapes)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
