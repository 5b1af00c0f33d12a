"""Where a message that is sent by hand goes, by the names of a file. Pure; sending it is `send`'s."""

from collections.abc import Sequence
from typing import TypeVar

from pipeline.config.model import Exchange, Pipeline, Queue
from pipeline.config.names import BROKERS_OWN
from pipeline.errors import UsageError
from pipeline.problems import did_you_mean
from pipeline.runtime.plan import plan
from pipeline.values import Frozen

Named = TypeVar("Named", Exchange, Queue)


class Target(Frozen, frozen=True, kw_only=True):
    """By the broker's names. To a queue goes what is published to the default exchange, `""`, with its name."""

    exchange: str
    routing_key: str

    def __str__(self) -> str:
        if not self.exchange:
            return f'queue "{self.routing_key}"'
        return f'exchange "{self.exchange}" with routing key "{self.routing_key}"'


def target(pipeline: Pipeline, *, queue: str | None, exchange: str | None, routing_key: str | None) -> Target:
    """As `publish` in the file would be read. Names are those of the file, or what the broker calls the same. Raises
    `UsageError` for a name that the file does not have, and for a key that is missing or means nothing."""
    if exchange is None:
        if queue is None:
            raise UsageError("send needs a place to send to: the name of a queue, or --exchange NAME --routing-key KEY")
        if routing_key is not None:
            raise UsageError("--routing-key belongs to --exchange: to a queue a message goes by the queue's name")
        return Target(exchange="", routing_key=_queue(pipeline, queue))
    if queue is not None:
        raise UsageError("a message goes to a queue or to an exchange: leave the queue out, or --exchange")
    name, kind = _exchange(pipeline, exchange)
    if routing_key is None and kind in ("direct", "topic"):
        raise UsageError(f'exchange "{name}" is a {kind} exchange and goes by the routing key: add --routing-key KEY')
    return Target(exchange=name, routing_key=routing_key or "")


def _queue(pipeline: Pipeline, wanted: str) -> str:
    """Dead-letter queues that piperun makes are known by their names."""
    declared = [each for topology in plan(pipeline).topologies.values() for each in topology.queues]
    found = _named(declared, wanted)
    if found is None:
        raise _unknown("queue", wanted, [each.key for each in declared])
    return found.name


def _exchange(pipeline: Pipeline, wanted: str) -> tuple[str, str]:
    """Its name on the broker, and its type."""
    if wanted in BROKERS_OWN:
        return wanted, BROKERS_OWN[wanted]
    if not wanted:
        raise UsageError("the default exchange is reached by the name of a queue: piperun send FILE QUEUE")
    found = _named(pipeline.exchanges, wanted)
    if found is None:
        raise _unknown("exchange", wanted, [each.key for each in pipeline.exchanges])
    if found.internal:
        raise UsageError(f'exchange "{wanted}" is internal: only exchanges may send to it')
    return found.name, found.type


def _named(objects: Sequence[Named], wanted: str) -> Named | None:
    return next((each for name in ("key", "name") for each in objects if getattr(each, name) == wanted), None)


def _unknown(kind: str, wanted: str, known: list[str]) -> UsageError:
    there = dict.fromkeys(known)
    hint = did_you_mean(wanted, there) or f"it has {', '.join(there) or 'none'}"
    return UsageError(f'the file has no {kind} "{wanted}"; {hint}')
