"""A long run under random faults, by hand: `make soak`. The command: how long, which seed, a RabbitMQ of its own, and
the report with its status. What runs is in `pipe`, what happens to it in `faults`."""

import argparse
import random
import secrets
import sys
import tempfile
from pathlib import Path

from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import HOW_TO_GET_IT, find_installation
from tests.soak.faults import OF_THE_LINE, OF_THE_NODE, OF_WORKERS
from tests.soak.run import soak

_LONGEST = 8.0  # seconds of one fault: longer than it takes to notice a silent line


def main() -> int:
    """0 when the ledger adds up."""
    wish = _arguments()
    installation = find_installation()
    if installation is None:
        print(HOW_TO_GET_IT, file=sys.stderr)
        return 1
    print(f"seed {wish.seed}, {wish.seconds:g} s (again: make soak SECONDS={wish.seconds:g} ARGS='--seed {wish.seed}')")
    with (
        tempfile.TemporaryDirectory(prefix="piperun-soak-") as folder,
        PrivateRabbitMQ.start(installation) as node,
    ):
        wrong = soak(
            node,
            node.url(),
            Path(folder),
            seconds=wish.seconds,
            faults=[*OF_THE_LINE, *OF_WORKERS, *OF_THE_NODE],
            longest=_LONGEST,
            chance=random.Random(wish.seed),
        )
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="for how long faults are made (default: 1200)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="which faults (default: any)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
