"""How fast piperun is on RabbitMQ, beside other clients that do the same. The command: what is measured, how often, and
where the figures go. `make bench` runs it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from textwrap import fill
from typing import Final, TypeVar

from benchmarks.speed import page, surroundings
from benchmarks.speed.findings import Findings
from benchmarks.speed.latency import measure_latency
from benchmarks.speed.memory import measure_growth, measure_idle
from benchmarks.speed.node import Node
from benchmarks.speed.peers import PEERS, Peer
from benchmarks.speed.profiling import profile
from benchmarks.speed.rounds import Plan, measure_all
from benchmarks.speed.shapes import GROUPS, HEADLINE, SHAPES, named
from benchmarks.speed.workers import measure_workers
from tests.rabbitmq_installation import HOW_TO_GET_IT, find_installation

T = TypeVar("T")

OTHERS: Final = ("latency", "memory", "growth", "workers")
_BESIDE: Final = ("piperun", "aio-pika", "aio-pika-uvloop")  # in latency, which takes long; `--peer` names others
_PROFILED: Final = 20_000
_COLUMNS: Final = """
piperun is: its rate to that of the other, round by round; µs/msg: CPU time of
the client; node: that of RabbitMQ; MiB: peak of the client's resident memory
"""


def main() -> None:
    wish = _arguments()
    if not _shapes_and_others(wish):
        sys.exit(f"nothing is called {', '.join(wish.shape)}")
    installation = find_installation()
    if installation is None:
        sys.exit(HOW_TO_GET_IT)
    peers, missing = surroundings.present([peer for peer in PEERS if _is_wanted(peer, wish)])
    for line in missing:
        _tell(line)
    with Node.start(installation) as node:
        if wish.profile:
            for shape in named(_wanted(wish)):
                print(profile(shape, node, wish.messages or _PROFILED), end="\n\n")
            return
        findings = _measure(wish, peers, missing, node)
    print(fill(findings.machine, 80), fill(findings.told_versions, 80), sep="\n")
    print(_COLUMNS)
    print("\n\n".join([*(table.as_text() for table in findings.in_full()), *findings.failures()]))
    if wish.write:
        page.write(findings)


def _arguments() -> argparse.Namespace:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Measure piperun on a private RabbitMQ, beside other clients.",
        epilog=f"{_list('shapes', [shape.name for shape in SHAPES])}{_list('more', OTHERS)}{_list('peers', names)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--shape",
        action="append",
        metavar="NAME",
        help=f"what to measure; may be repeated and hold * (default: {', '.join(HEADLINE)})",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=names,
        metavar="NAME",
        help="whom to measure (default: all but piperun-plain)",
    )
    parser.add_argument("--all", action="store_true", help="all shapes and all that is more; takes hours")
    parser.add_argument("--rounds", type=_count, default=5, metavar="N", help="how often (default: 5)")
    parser.add_argument(
        "--seconds", type=_length, default=1.5, metavar="S", help="how long the fastest, about (default: 1.5)"
    )
    parser.add_argument("--messages", type=int, default=0, metavar="N", help="so many each, instead of --seconds")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write docs/performance.md; measures what belongs there unless --shape or --all says something else",
    )
    parser.add_argument("--profile", action="store_true", help="profile piperun with these shapes instead")
    return parser.parse_args()


def _list(title: str, names: Sequence[str]) -> str:
    lines, line = [], f"{title}:"
    for name in names:
        if len(line) + len(name) > 76:
            lines.append(line)
            line = "   "
        line += f" {name}"
    return "\n".join([*lines, line]) + "\n"


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError("between 1 and 100")
    return count


def _length(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 60:
        raise argparse.ArgumentTypeError("between 0.05 and 60")
    return seconds


def _wanted(wish: argparse.Namespace) -> list[str]:
    """Patterns for names of shapes and of what is more."""
    if wish.all:
        return ["*"]
    if wish.shape:
        return list(wish.shape)
    return [*HEADLINE, *(name for names in GROUPS.values() for name in names), *OTHERS] if wish.write else [*HEADLINE]


def _is_wanted(peer: Peer, wish: argparse.Namespace) -> bool:
    return peer.name in wish.peer if wish.peer else peer.usual


def _others(wish: argparse.Namespace) -> list[str]:
    return [name for name in OTHERS if any(fnmatchcase(name, pattern) for pattern in _wanted(wish))]


def _shapes_and_others(wish: argparse.Namespace) -> list[str]:
    return [*(shape.name for shape in named(_wanted(wish))), *_others(wish)]


def _measure(wish: argparse.Namespace, peers: Sequence[Peer], missing: Sequence[str], node: Node) -> Findings:
    others = _others(wish)
    beside = [peer for peer in peers if wish.peer or peer.name in _BESIDE]
    plan = Plan(rounds=wish.rounds, seconds=wish.seconds, messages=wish.messages)
    told = list(missing)
    load = surroundings.load()

    def unless_it_fails(name: str, measure: Callable[[], Sequence[T]]) -> Sequence[T]:
        """What was measured before is not lost."""
        try:
            return measure() if name in others else ()
        except (RuntimeError, TimeoutError) as error:
            told.append(f"{name} was not measured: {error}")
            _tell(told[-1])
            return ()

    return Findings(
        rows=measure_all(named(_wanted(wish)), peers, node, plan, _tell),
        latency=unless_it_fails("latency", lambda: measure_latency(beside, node, wish.rounds, wish.messages, _tell)),
        idle=unless_it_fails("memory", lambda: measure_idle(peers, node, wish.rounds, _tell)),
        growth=unless_it_fails("growth", lambda: measure_growth(node, wish.rounds, _tell)),
        workers=unless_it_fails("workers", lambda: measure_workers(node, wish.rounds, wish.messages, _tell)),
        versions=surroundings.versions(node, peers),
        machine=f"{surroundings.machine()}, load {load} at the beginning",
        date=datetime.now(UTC).date().isoformat(),
        rounds=wish.rounds,
        missing=told,
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
