"""The pipeline of a soak, and the books that it leaves in its folder. Each of its producers knows from being asked for
the next number that the last one is confirmed; its consumer writes down what it has handled, sends every number on, and
refuses some. What happens to it meanwhile is not known here."""

from pathlib import Path

import aio_pika

from tests.faults.ledger import Books, Window
from tests.faults.numbers import handled, sights
from tests.waiting import deadline

PRODUCERS = 4
REFUSED = 25  # one of so many

FILE = f"""
broker: {{url: "${{AMQP_URL}}", heartbeat: 1s, connect_timeout: 5s, reconnect: {{initial: 100ms, max: 2s}}}}
queues:
  tasks: {{type: quorum, dead_letter: tasks.dlq}}
  tasks.dlq: {{}}
  results: {{}}
defaults:
  producers: {{max_in_flight: 1}}
producers:
{"".join(f'  p{n}: {{source: "steps:p{n}", publish: {{queue: tasks}}}}' + chr(10) for n in range(PRODUCERS))}
consumers:
  worker: {{queue: tasks, handler: "steps:work", prefetch: 20, concurrency: 5, publish: {{queue: results}}}}
runtime: {{until: idle, workers: 2, shutdown_timeout: 20s}}
"""

# With one in flight, being asked for more says that the last one is confirmed: only then the file moves on, and a
# generator that begins again in another worker goes on where that one was.
STEPS = f"""
import asyncio
from pathlib import Path
from pipeline import Reject

HERE = Path(__file__).parent

def note(name, number):
    (HERE / f"{{name}}.new").write_text(str(number))
    (HERE / f"{{name}}.new").rename(HERE / name)  # a whole number, whenever the process is killed

async def numbers(mine):
    place = HERE / f"confirmed.{{mine}}"
    number = int(place.read_text()) if place.exists() else mine
    while not (HERE / "enough").exists():
        await asyncio.sleep(0.05)
        note(f"offered.{{mine}}", number)
        yield str(number)
        number += {PRODUCERS}
        note(f"confirmed.{{mine}}", number)

{"".join(f"def p{n}(): return numbers({n})" + chr(10) for n in range(PRODUCERS))}

async def work(body: str, message) -> str:
    await asyncio.sleep(0.01)
    if int(body) % {REFUSED} == 7:
        raise Reject("refused for good")
    with open(HERE / "handled", "a") as handled:
        handled.write(f"{{body}} {{message.redelivered:d}}\\n")
    return body
"""


def write(folder: Path) -> None:
    """The handlers, beside which everything is written down."""
    (folder / "steps.py").write_text(STEPS)


def enough(folder: Path) -> None:
    """The producers end; the run follows when everything is handled."""
    (folder / "enough").touch()


def confirmed(folder: Path) -> set[int]:
    """The numbers that the broker has taken for certain: all below the one in the file, which is the next."""
    return {number for mine in range(PRODUCERS) for number in range(mine, _read(folder, "confirmed", mine), PRODUCERS)}


def count_handled(folder: Path) -> int:
    return len(handled(folder))


async def books(url: str, folder: Path) -> tuple[Books, list[str]]:
    """The ledger, and what is wrong with the outputs: each number that was handled is acknowledged by now, so at least
    one output of it is confirmed."""
    offered = {
        number for mine in range(PRODUCERS) for number in range(mine, _read(folder, "offered", mine) + 1, PRODUCERS)
    }
    found = await sights(url, folder)
    ledger = Books(confirmed=confirmed(folder), offered=offered, sights=found, windows=tuple(Window))
    results = await _bodies(url, "results")
    missing = {sight.number for sight in found if sight.where == "handled"} - results
    return ledger, [f"{len(missing)} were handled and sent nothing on: {sorted(missing)[:10]}"] if missing else []


async def _bodies(url: str, queue: str) -> set[int]:
    numbers = set()
    async with await aio_pika.connect(url, timeout=deadline(10)) as connection:
        source = await (await connection.channel()).get_queue(queue)
        while (message := await source.get(no_ack=True, fail=False, timeout=deadline(10))) is not None:
            numbers.add(int(message.body))
    return numbers


def _read(folder: Path, name: str, mine: int) -> int:
    file = folder / f"{name}.{mine}"
    return int(file.read_text()) if file.exists() else mine - 1 if name == "offered" else mine
