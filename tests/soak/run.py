"""One soak from its start to its report: a pipeline with workers behind a line, a fault after the other, the end in
order, the books. Which faults there are, and what the pipeline does, is not known here."""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.command import Command, Commands
from tests.faults.ledger import discrepancies_of
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.soak import pipe
from tests.soak.faults import Fault, World
from tests.waiting import wait_until

_CALM = 0.5  # of the longest fault: the longest pause between two
_END = 180.0  # seconds for the end: everything that is left is handled first


def soak(
    node: PrivateRabbitMQ,
    url: str,
    folder: Path,
    *,
    seconds: float,
    faults: Sequence[Fault],
    longest: float,
    chance: random.Random,
) -> list[str]:
    """Prints what happens; returns what does not add up."""
    pipe.write(folder)
    commands = Commands(folder)
    with Proxy.before(url) as proxy:
        try:
            command = commands(pipe.FILE, env={"AMQP_URL": proxy.url(url)})
            wait_until(lambda: pipe.count_handled(folder) > 20, 60, told="handled messages")
            world = World(node=node, proxy=proxy, workers=lambda: workers(command), longest=longest, chance=chance)
            print(f"memory at the start: {memory(command)}")
            _make_faults(world, command, faults, seconds)
            print(f"memory at the end: {memory(command)}")
            pipe.enough(folder)
            status = command.wait(_END)
        finally:
            said = commands.close()
    wrong = [] if status == 0 else [f"the run ended with status {status}"]
    books, of_outputs = asyncio.run(pipe.books(url, folder))
    wrong += [*books.discrepancies(), *of_outputs, *discrepancies_of(command.lines[-1], books.sights)]
    print(command.lines[-1], f"ledger: {books}", sep="\n")
    print(*(["THE LEDGER DOES NOT ADD UP:", *wrong, "", said] if wrong else ["the ledger adds up"]), sep="\n")
    return wrong


def _make_faults(world: World, command: Command, faults: Sequence[Fault], seconds: float) -> None:
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        fault = world.chance.choice(faults)
        told = fault(world)
        print(f"{at:7.1f} s  {told}; {pipe.count_handled(command.folder)} handled", flush=True)
        assert not command.ended, f"the run ended in the middle:\n{command.output}"
        time.sleep(world.chance.uniform(0, _CALM * world.longest))


def workers(command: Command) -> list[int]:
    """The last process of each worker: the one before has died."""
    found = {}
    for line in list(command.lines):
        if started := re.search(r"worker\.(\d+): started as process (\d+)", line):
            found[started[1]] = int(started[2])
    return list(found.values())


def memory(command: Command) -> str:
    """Resident memory of the supervisor and of each worker, where the system tells it."""
    sizes = [_resident(pid) for pid in (command.pid, *workers(command))]
    return ", ".join(f"{'supervisor' if not at else f'worker {at}'} {size}" for at, size in enumerate(sizes))


def _resident(pid: int) -> str:
    if not Path("/proc/self/status").exists():
        return "unknown"
    with suppress(OSError):
        if found := re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return f"{int(found[1]) / 1024:.1f} MiB"
    return "(dead)"
