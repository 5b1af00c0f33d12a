"""Which rights a file needs on its virtual host, as RabbitMQ asks for them: configure, write and read, each of certain
exchanges and queues. Pure. What handlers do by themselves, through `context.publish`, is not known here."""

import re
from collections.abc import Iterator
from typing import Literal

from pipeline.config.model import Exchange, Queue
from pipeline.runtime.plan import Plan
from pipeline.values import Frozen

Right = Literal["configure", "write", "read"]
Needed = tuple[Right, str]

DEFAULT_EXCHANGE = "amq.default"  # what the rights call the exchange whose name is empty


class Rights(Frozen, frozen=True, kw_only=True):
    """Names of exchanges and queues, sorted."""

    configure: tuple[str, ...]
    write: tuple[str, ...]
    read: tuple[str, ...]

    def pattern(self, right: Right) -> str:
        """The regular expression that RabbitMQ holds names against."""
        names: tuple[str, ...] = getattr(self, right)
        return f"^({'|'.join(map(re.escape, names))})$" if names else "^$"


def rights(plan: Plan) -> Rights:
    """All that running the file needs."""
    needed = {*_declaring(plan), *_publishing(plan), *_consuming(plan)}
    known = {name for _, name in needed}
    # To see whether something is there takes no right, and from RabbitMQ 4.3.1 any one of the three.
    needed |= {("read", each.name) for each in objects(plan) if each.declare == "check" and each.name not in known}

    def names(right: Right) -> tuple[str, ...]:
        return tuple(sorted(name for each, name in needed if each == right))

    return Rights(configure=names("configure"), write=names("write"), read=names("read"))


def objects(plan: Plan) -> tuple[Exchange | Queue, ...]:
    """Everything that any connection of the file declares, once and in order."""
    found: dict[tuple[type, str], Exchange | Queue] = {}
    for topology in plan.topologies.values():
        for each in topology.objects:
            found.setdefault((type(each), each.name), each)
    return tuple(found.values())


def _declaring(plan: Plan) -> Iterator[Needed]:
    for each in objects(plan):
        if each.declare != "assert":
            continue
        yield "configure", each.name
        key = "alternate-exchange" if isinstance(each, Exchange) else "x-dead-letter-exchange"
        target = each.arguments.get(key)
        if isinstance(target, str):  # whoever points a queue at an exchange sends what is in it there
            yield "read", each.name
            yield "write", _exchange(target)
        for binding in each.bindings:
            yield "write", each.name
            yield "read", binding.exchange


def _publishing(plan: Plan) -> Iterator[Needed]:
    of_consumers = [each.consumer.publish for each in plan.consumers]
    for publish in (*(each.publish for each in plan.producers), *of_consumers):
        if publish is not None:
            yield "write", _exchange(publish.exchange)
    if copies(plan):
        yield "write", DEFAULT_EXCHANGE


def copies(plan: Plan) -> bool:
    """Whether failed messages are copied to another queue, which they reach by its name."""
    return any(each.dead_letter is not None and each.consumer.ack != "none" for each in plan.consumers)


def _consuming(plan: Plan) -> Iterator[Needed]:
    yield from (("read", each.queue.name) for each in plan.consumers)


def _exchange(name: str) -> str:
    return name or DEFAULT_EXCHANGE
