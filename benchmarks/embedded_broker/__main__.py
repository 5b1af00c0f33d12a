"""How many messages a second the embedded broker takes through publish, route, deliver and ack, and what one costs.
The command: which shapes, how often, and the table. How one figure comes about is in `measure`."""

import argparse
import os
import platform
import sys
from statistics import median

from benchmarks.embedded_broker.measure import FEW, Measurement, measure, profile
from benchmarks.embedded_broker.process import Function
from benchmarks.embedded_broker.shapes import PREFETCH, SHAPES, WINDOW, Shape

_TOP = 15
_ROW = "{:<17}{:>9}  {:>18}  {:>8}  {:>8}  {:>8}"


def main() -> None:
    wish = _arguments()
    shapes = [shape for shape in SHAPES if not wish.shape or shape.name in wish.shape]
    print(_surroundings())
    if wish.profile:
        for shape in shapes:
            _print_profile(shape, *profile(shape, seconds=wish.seconds))
    else:
        _print_table(_measure_all(shapes, wish.rounds, wish.seconds))


def _arguments() -> argparse.Namespace:
    shapes = "\n".join(f"  {shape.name:<18}{shape.about}" for shape in SHAPES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded_broker",
        description="Measure the embedded broker: it runs in one process, the load in another.",
        epilog=f"shapes (100 bytes, classic queue unless they say otherwise):\n{shapes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--rounds", type=_count, default=5, help="how often each shape is measured (default: 5)")
    parser.add_argument("--seconds", type=_length, default=1.0, help="length of a measurement, about (default: 1)")
    parser.add_argument(
        "--shape", action="append", choices=names, metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument("--profile", action="store_true", help="profile the broker instead, once for each shape")
    return parser.parse_args()


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


def _surroundings() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load}"
    return (
        f"Python {platform.python_version()}, {machine}\n"
        f"100 B unless named 4k; prefetch {PREFETCH}; {WINDOW} unconfirmed where confirmed;\n"
        "a fresh broker for each measurement\n"
    )


def _measure_all(shapes: list[Shape], rounds: int, seconds: float) -> dict[str, list[Measurement]]:
    """In turns, so that a slow minute of the machine does not fall on one shape alone."""
    found: dict[str, list[Measurement]] = {shape.name: [] for shape in shapes}
    for number in range(1, rounds + 1):
        for shape in shapes:
            measurement = measure(shape, seconds=seconds)
            found[shape.name].append(measurement)
            progress = f"round {number} of {rounds}: {shape.name}, {measurement.rate:,.0f} messages/s"
            print(progress, file=sys.stderr, flush=True)
    return found


def _print_table(found: dict[str, list[Measurement]]) -> None:
    print(_ROW.format("", "messages/s", "", "broker", "load", "broker"))
    print(_ROW.format("shape", "median", "min to max", "µs/msg", "µs/msg", "peak MiB"))
    for name, measurements in found.items():
        rates = [each.rate for each in measurements]
        print(
            _ROW.format(
                name,
                f"{median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{median(_per_message(each.cpu_seconds, each.messages) for each in measurements):.1f}",
                f"{median(_per_message(each.done.cpu_seconds, each.messages) for each in measurements):.1f}",
                f"{max(each.peak_mib for each in measurements):.0f}",
            )
        )


def _print_profile(shape: Shape, measurement: Measurement, functions: list[Function]) -> None:
    """The whole life of the broker; a shape that only consumes has been filled in it, too."""
    messages = measurement.messages + FEW
    print(f"{shape.name}: {shape.about}")
    print(f"{messages:,} messages, {measurement.rate:,.0f}/s under the profiler")
    print(f"{'own µs':>8}{'total µs':>10}{'calls':>8}  per message")
    for function in functions[:_TOP]:
        own, total = (_per_message(each, messages) for each in (function.own_seconds, function.total_seconds))
        print(f"{own:>8.2f}{total:>10.2f}{function.calls / messages:>8.2f}  {function.name[:52]}")
    print()


def _per_message(seconds: float, messages: int) -> float:
    return seconds * 1e6 / messages


if __name__ == "__main__":
    main()
