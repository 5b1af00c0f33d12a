"""Reading the live broker without changing it: which queues are there, how deep they are, who consumes. What the file
wants of them is not known here."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from aiormq.abc import AbstractChannel as ClientChannel

from pipeline.amqp.faults import Refused
from pipeline.amqp.generation import Generation
from pipeline.amqp.scratch import Scratch


@dataclass(frozen=True, kw_only=True)
class Depth:
    """`ready` messages wait in the queue; those that are unacknowledged do not count."""

    ready: int
    consumers: int


async def depth(generation: Generation, queue_names: Iterable[str]) -> dict[str, Depth | None]:
    """Each queue as it is now; None for one that is not there, or that only its own connection can see. Raises
    `ConnectionLost`."""
    async with Scratch(generation) as scratch:
        return {name: await _depth(scratch, name) for name in queue_names}


async def _depth(scratch: Scratch, queue: str) -> Depth | None:
    try:
        return await scratch.ask(f'a look at queue "{queue}"', partial(_look, queue=queue))
    except (Refused, ValueError):
        return None


async def _look(channel: ClientChannel, queue: str) -> Depth:
    found = await channel.queue_declare(queue, passive=True)
    return Depth(ready=found.message_count or 0, consumers=found.consumer_count or 0)
