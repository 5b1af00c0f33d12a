"""How many instructions of the processor a message takes, from the octets that arrive to the octets that go out. Unlike
time they are the same in each run, whatever else the machine does: this is what to compare a change by. The command:
which ways, and the table. What is run stands in `line`."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from typing import Final

from benchmarks.instructions.ways import WAYS, Way
from benchmarks.instructions.where import where

HOW_TO_GET_IT: Final = (
    "valgrind is not here, and it does the counting: get it from the system's packages (apt-get install valgrind)"
)
# Counted twice, with few messages and with many: what a start takes is in both. Enough for the garbage collector.
_FEW, _MANY = 1_000, 5_000
_PATIENCE = 600  # seconds; valgrind runs a program fifty times slower
_COUNTED = re.compile(r"I +refs: +([\d,]+)")
_ROW = "{:<12}{:>12}  {}"


def main() -> int:
    wish = _arguments()
    if wish.where:
        print(where(next(way for way in WAYS if way.name == wish.where)))
        return 0
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print(HOW_TO_GET_IT, file=sys.stderr)
        return 1
    print(_ROW.format("way", "per message", ""))
    for way in WAYS:
        if not wish.way or way.name in wish.way:
            print(_ROW.format(way.name, f"{_per_message(valgrind, way):,}", way.about), flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description="Count the instructions that a message takes, without a socket.",
        epilog="ways:\n" + "\n".join(f"  {way.name:<12}{way.about}" for way in WAYS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [way.name for way in WAYS]
    parser.add_argument("--way", action="append", choices=names, metavar="NAME", help="only this; may be repeated")
    parser.add_argument("--where", choices=names, metavar="NAME", help="in which functions; needs no valgrind")
    return parser.parse_args()


def _per_message(valgrind: str, way: Way) -> int:
    few, many = (_counted(valgrind, way, messages) for messages in (_FEW, _MANY))
    return (many - few) // (_MANY - _FEW)


def _counted(valgrind: str, way: Way, messages: int) -> int:
    command = (valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable)
    run = subprocess.run(
        (*command, "-m", "benchmarks.instructions.line", way.name, str(messages)),
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{way.name} ended with status {run.returncode}: {run.stderr[-1000:].strip()}")
    return instructions(run.stderr)


def instructions(said: str) -> int:
    """What valgrind has counted, from what it says at its end."""
    found = _COUNTED.search(said)
    if found is None:
        raise RuntimeError(f"valgrind has not counted: {said[-1000:].strip()}")
    return int(found[1].replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
