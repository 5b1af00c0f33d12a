"""What one message costs between the client's callback and the ack, for each kind of handler, without a broker. The
command: which shapes, how often, and the table. How one figure comes about is in `measure`."""

import argparse
import cProfile
import platform
import pstats
from statistics import median

from benchmarks.handling.measure import PREFETCH, measure, measure_floor
from benchmarks.handling.shapes import SHAPES, Shape

_WARM_UP = 500
_TOP = 25
_ROW = "{:<14}{:>8}{:>8}{:>8}  {}"
_FLOOR = Shape(name="(floor)", about="no piperun: a loop that calls and acks", function=SHAPES[0].function)


def main() -> None:
    wish = _arguments()
    shapes = [shape for shape in SHAPES if not wish.shape or shape.name in wish.shape]
    if wish.profile:
        for shape in shapes:
            _print_profile(shape, wish.messages)
        return
    print(f"Python {platform.python_version()}; {wish.messages:,} messages, {wish.rounds} rounds, prefetch {PREFETCH}")
    _print_table(shapes, _measure_all(shapes, wish.rounds, wish.messages, in_worker=wish.in_worker))


def _arguments() -> argparse.Namespace:
    shapes = "\n".join(f"  {shape.name:<14}{shape.about}" for shape in SHAPES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.handling",
        description="Measure what handling one message costs, without a broker.",
        epilog=f"shapes (1 at once unless they say otherwise):\n{shapes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--rounds", type=_count, default=5, help="how often each shape is measured (default: 5)")
    parser.add_argument("--messages", type=_count, default=20_000, help="in one measurement (default: 20000)")
    parser.add_argument(
        "--shape", action="append", choices=names, metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument("--in-worker", action="store_true", help="as in a process of `runtime.workers`")
    parser.add_argument("--profile", action="store_true", help="profile instead, once for each shape")
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1_000_000:
        raise argparse.ArgumentTypeError("between 1 and 1000000")
    return count


def _measure_all(shapes: list[Shape], rounds: int, messages: int, *, in_worker: bool) -> dict[str, list[float]]:
    """Microseconds. In turns, so that a change in the machine's speed meets all of them."""
    found: dict[str, list[float]] = {shape.name: [] for shape in (_FLOOR, *shapes)}
    for shape in shapes:
        measure(shape, _WARM_UP)
    for _ in range(rounds):
        found[_FLOOR.name].append(measure_floor(_FLOOR, messages) * 1e6 / messages)
        for shape in shapes:
            found[shape.name].append(measure(shape, messages, in_worker=in_worker) * 1e6 / messages)
    return found


def _print_table(shapes: list[Shape], found: dict[str, list[float]]) -> None:
    print("CPU µs for each message")
    print(_ROW.format("shape", "median", "min", "max", ""))
    for shape in (_FLOOR, *shapes):
        costs = found[shape.name]
        figures = (f"{each:.2f}" for each in (median(costs), min(costs), max(costs)))
        print(_ROW.format(shape.name, *figures, shape.about))


def _print_profile(shape: Shape, messages: int) -> None:
    measure(shape, _WARM_UP)
    profile = cProfile.Profile()
    profile.runcall(measure, shape, messages)
    print(f"{shape.name}: {shape.about}; {messages:,} messages")
    pstats.Stats(profile).sort_stats("tottime").print_stats(_TOP)


if __name__ == "__main__":
    main()
