"""Reading the live broker without changing it: who it is, which exchanges and queues are there, how deep they are, who
consumes. What the file wants of them is not known here."""

from collections.abc import Iterable, Mapping
from functools import partial

from aiormq.abc import AbstractChannel as ClientChannel

from pipeline.amqp.faults import Refused
from pipeline.amqp.generation import Generation
from pipeline.amqp.scratch import Scratch
from pipeline.values import Frozen


class Depth(Frozen, frozen=True, kw_only=True):
    """`ready` messages wait in the queue; those that are unacknowledged do not count."""

    ready: int
    consumers: int


class Unseen(Frozen, frozen=True, kw_only=True):
    """A look that was refused. `code` is the broker's: 404 not there, 405 of another connection, 403 no right to look;
    0 for a name that cannot be asked for."""

    code: int
    text: str


class Server(Frozen, frozen=True, kw_only=True):
    """What the broker says of itself when a connection opens; empty where it says nothing."""

    product: str
    version: str
    cluster: str


def server(generation: Generation) -> Server:
    def said(name: str) -> str:
        value = generation.server_properties.get(name, "")
        return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)

    return Server(product=said("product"), version=said("version"), cluster=said("cluster_name"))


async def look(
    generation: Generation, *, exchanges: Iterable[str], queues: Iterable[str]
) -> tuple[Mapping[str, Unseen | None], Mapping[str, Depth | Unseen]]:
    """Each of them by a passive declare, which makes nothing and compares nothing but the name. None for an exchange
    that is there. Raises `ConnectionLost`."""
    async with Scratch(generation) as scratch:
        return (
            {name: await _exchange(scratch, name) for name in exchanges},
            {name: await depth_of(scratch, name) for name in queues},
        )


async def depth(generation: Generation, queue_names: Iterable[str]) -> dict[str, Depth | None]:
    """Each queue as it is now; None for one that is not there, or that only its own connection can see. Raises
    `ConnectionLost`."""
    async with Scratch(generation) as scratch:
        seen = {name: await depth_of(scratch, name) for name in queue_names}
    return {name: found if isinstance(found, Depth) else None for name, found in seen.items()}


async def depth_of(scratch: Scratch, name: str) -> Depth | Unseen:
    """Of one queue, for who asks again and again and keeps the channel for it."""
    try:
        return await scratch.ask(f'a look at queue "{name}"', partial(_look, queue=name))
    except Refused as refusal:
        return Unseen(code=refusal.code, text=refusal.text)
    except ValueError as error:
        return Unseen(code=0, text=str(error))


async def _exchange(scratch: Scratch, name: str) -> Unseen | None:
    try:
        await scratch.ask(f'a look at exchange "{name}"', partial(_find, exchange=name))
    except Refused as refusal:
        return Unseen(code=refusal.code, text=refusal.text)
    except ValueError as error:
        return Unseen(code=0, text=str(error))
    return None


async def _find(channel: ClientChannel, exchange: str) -> None:
    await channel.exchange_declare(exchange, passive=True)


async def _look(channel: ClientChannel, queue: str) -> Depth:
    found = await channel.queue_declare(queue, passive=True)
    return Depth(ready=found.message_count or 0, consumers=found.consumer_count or 0)
