"""How long a command takes to start: to its end for the short ones, to the first message handled for a run on the
embedded broker. The command: how often, and the table. How one figure comes about is in `commands`."""

import argparse
import os
import platform
import sys
from importlib.metadata import version
from statistics import median

from benchmarks.start_up.commands import COMMANDS, Command, Measurement, measure

_LIBRARIES = ("aio-pika", "jsonschema", "typer")
_ROW = "{:<18}{:>8}  {:>14}  {:>10}  {:>12}"


def main() -> None:
    wish = _arguments()
    commands = [command for command in COMMANDS if not wish.command or command.name in wish.command]
    print(_surroundings())
    _print_table(_measure_all(commands, wish.rounds))


def _arguments() -> argparse.Namespace:
    names = [command.name for command in COMMANDS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start_up",
        description="Measure how long commands take to start, each as a whole process.",
        epilog=f"commands: {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=_count, default=15, help="how often each is measured (default: 15)")
    parser.add_argument(
        "--command", action="append", choices=names, metavar="NAME", help="only this one; may be repeated"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1000:
        raise argparse.ArgumentTypeError("between 1 and 1000")
    return count


def _surroundings() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"Python {platform.python_version()}, {libraries}\n"
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load}\n"
    )


def _measure_all(commands: list[Command], rounds: int) -> dict[str, list[Measurement]]:
    """In turns, so that a slow minute of the machine does not fall on one command alone. The first of each is not
    counted: it writes byte code and brings files into memory."""
    for command in commands:
        measure(command)
    found: dict[str, list[Measurement]] = {command.name: [] for command in commands}
    for number in range(1, rounds + 1):
        for command in commands:
            found[command.name].append(measure(command))
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return found


def _print_table(found: dict[str, list[Measurement]]) -> None:
    print(_ROW.format("milliseconds", "time", "", "CPU", ""))
    print(_ROW.format("command", "median", "min to max", "median", "min to max"))
    for name, measurements in found.items():
        times = [each.seconds for each in measurements]
        costs = [each.cpu_seconds for each in measurements]
        print(_ROW.format(name, *_told(times), *_told(costs)))


def _told(seconds: list[float]) -> tuple[str, str]:
    return f"{median(seconds) * 1e3:.0f}", f"{min(seconds) * 1e3:.0f} to {max(seconds) * 1e3:.0f}"


if __name__ == "__main__":
    main()
