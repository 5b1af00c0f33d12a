"""The pipeline that fault tests run, and where its numbers are afterwards: its handler writes down each number that it
has handled, and refuses some for good. What must come out is `ledger`'s."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity

from tests.faults.ledger import Sight, Where
from tests.waiting import deadline, wait_until

COUNT = 150
REFUSED = frozenset(range(7, COUNT, 25))  # these go to the dead-letter queue

# A line is written before the handler ends, with one call: what is in there has been handled, whatever comes after.
STEPS = f"""
import asyncio, os
from pathlib import Path
from pipeline import Reject

async def numbers():
    for number in range({COUNT}):
        await asyncio.sleep(0.01)
        yield str(number)

async def work(body: str, message) -> None:
    await asyncio.sleep(0.005)
    if int(body) in {set(REFUSED)}:
        raise Reject("refused for good")
    with open(Path(__file__).with_name("handled"), "a") as handled:
        handled.write(f"{{body}} {{message.redelivered:d}}\\n")
"""


def handled(folder: Path) -> list[Sight]:
    """What the handler has written down so far."""
    file = folder / "handled"
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    lines = [line.split() for line in whole.splitlines()]
    return [Sight(number=int(body), where="handled", redelivered=flag == "1") for body, flag in lines]


def numbers_of(sights: Iterable[Sight]) -> set[int]:
    return {sight.number for sight in sights}


def in_the_middle(folder: Path, at: int = 20) -> None:
    """Returns when some messages are handled and many are not."""
    wait_until(lambda: len(handled(folder)) >= at, 20, told=f"{at} handled messages")


async def sights(url: str, folder: Path, *queues: str) -> list[Sight]:
    """Every place where a number is while nobody consumes: handled, in one of these queues (default: tasks), or in the
    dead-letter queue of one. What lies there stays there: nothing is acknowledged, so the end of the connection puts
    all of it back, marked as redelivered from then on."""
    found = handled(folder)
    async with await aio_pika.connect(url, timeout=deadline(10)) as connection:
        for queue in queues or ("tasks",):
            places: tuple[tuple[Where, str], ...] = (("queued", queue), ("dead-lettered", f"{queue}.dlq"))
            for where, name in places:
                for message in await _messages(connection, name):
                    found.append(Sight(number=int(message.body), where=where, redelivered=bool(message.redelivered)))
    return found


async def _messages(connection: AbstractConnection, name: str) -> list[AbstractIncomingMessage]:
    taken: list[AbstractIncomingMessage] = []
    with contextlib.suppress(ChannelNotFoundEntity):  # not every queue has a dead-letter queue
        source = await (await connection.channel()).get_queue(name)
        while (message := await source.get(fail=False, timeout=deadline(10))) is not None:
            taken.append(message)
    return taken
