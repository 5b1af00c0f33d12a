"""What the tests of `pipeline.amqp` build on: settings for a URL, model objects with usual values, recorded events, and
a link that is opened, kept and closed round a block."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pipeline.amqp.declare import Topology, declare
from pipeline.amqp.link import Generation, Link, Part
from pipeline.amqp.publish import Outgoing
from pipeline.amqp.self_check import plain_by_hand
from pipeline.clock import Clock, SystemClock
from pipeline.config.address import Url, parse
from pipeline.config.model import Address, Arguments, Binding, Broker, Exchange, Queue
from pipeline.errors import TopologyDiffers
from pipeline.events import Event
from pipeline.message import Message
from tests.waiting import eventually

E = TypeVar("E", bound=Event)


def address_of(url: str) -> Address:
    parsed = parse(url)
    assert isinstance(parsed, Url)
    return parsed.address


def broker_of(*urls: str, **changes: Any) -> Broker:
    """Short pauses, so that a test sees several tries."""
    usual: dict[str, Any] = {
        "version": "3.10",
        "max_message_size": 16 * 2**20,
        "connect_timeout": 5.0,
        "heartbeat": 15,
        "reconnect_initial": 0.05,
        "reconnect_max": 0.2,
        "tls": None,
    }
    return Broker(addresses=tuple(address_of(url) for url in urls), **{**usual, **changes})


def queue(name: str, **changes: Any) -> Queue:
    usual: dict[str, Any] = {
        "type": "classic",
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "arguments": {"x-queue-type": "classic"},
        "bindings": (),
        "dead_letter": None,
        "declare": "assert",
    }
    return Queue(key=name, name=name, **{**usual, **changes})


def exchange(name: str, **changes: Any) -> Exchange:
    usual: dict[str, Any] = {
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
        "bindings": (),
        "declare": "assert",
    }
    return Exchange(key=name, name=name, **{**usual, **changes})


def binding(source: str, routing_key: str = "", arguments: Arguments | None = None) -> Binding:
    return Binding(exchange=source, routing_key=routing_key, arguments=arguments or {})


def topology(*objects: Exchange | Queue) -> Topology:
    return Topology(
        exchanges=tuple(each for each in objects if isinstance(each, Exchange)),
        queues=tuple(each for each in objects if isinstance(each, Queue)),
    )


def outgoing(
    routing_key: str, body: bytes = b"hello", *, exchange: str = "", message_id: str = "1", **properties: Any
) -> Outgoing:
    message = Message(body, message_id=message_id, **properties)
    return Outgoing.of(message, exchange=exchange, routing_key=routing_key, mandatory=True)


class Recorder:
    """Listens to everything, and waits for what a test expects."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def first(self, kind: type[E], where: Callable[[E], bool] = lambda event: True) -> E:
        """The first event of this kind, as soon as there is one."""
        await eventually(lambda: any(map(where, self.of(kind))), told=f"{kind.__name__} among {self.events}")
        return next(event for event in self.of(kind) if where(event))


@asynccontextmanager
async def linked(
    broker: Broker,
    *parts: Part,
    wanted: Topology | None = None,
    emit: Callable[[Event], None] | None = None,
    clock: Clock | None = None,
    purpose: str = "publish",
) -> AsyncIterator[Link]:
    """A link that is up, until the end of the block."""

    async def declared(generation: Generation) -> None:
        if wanted is not None and (differences := await declare(generation, wanted)):
            raise TopologyDiffers([each.sentence for each in differences])

    link = Link(
        broker=broker,
        name=f"piperun test {purpose}",
        purpose=purpose,
        clock=clock or SystemClock(),
        emit=emit or Recorder(),
        declare=declared,
        parts=parts,
        plain=plain_by_hand(),
    )
    await link.open(wait=False)
    keeping = asyncio.create_task(link.keep())
    try:
        yield link
    finally:
        await link.close(timeout=5)
        await keeping


@asynccontextmanager
async def generation_of(url: str, **changes: Any) -> AsyncIterator[Generation]:
    """One connection, for what needs no more than that."""
    async with linked(broker_of(url, **changes)) as link:
        assert link.generation is not None
        yield link.generation


def sentences(differences: Sequence[Any]) -> list[str]:
    return [each.sentence for each in differences]
