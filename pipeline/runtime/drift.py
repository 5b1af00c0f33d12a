"""What a file wants of its broker, held against what was seen there: findings, each with a way out. Pure. How the
broker was asked is `examine`'s, how findings are shown the command line's."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.amqp.difference import Difference
from pipeline.amqp.inspect import Depth, Server, Unseen
from pipeline.config import refused
from pipeline.config.model import Exchange, Queue
from pipeline.runtime.plan import ConsumerPlan, Plan
from pipeline.runtime.rights import DEFAULT_EXCHANGE, objects, rights

Level = Literal["error", "warning", "ok"]
Publishing = Literal["taken", "blocked", "forbidden", "unanswered"]

_NOT_FOUND, _LOCKED, _FORBIDDEN = 404, 405, 403
_NEWEST, _OLDEST = "4.3", "3.10"  # the versions that piperun knows
_RIGHTS = "`piperun doctor FILE --rights` prints what the file needs"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`word` is its kind, for programs; `hint` the way out. `differs`: a start of the pipeline would end over it."""

    level: Level
    word: str
    sentence: str
    hint: str | None = None
    differs: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The live broker. `differences` is None where nothing was compared but names; `publishing` is what became of a
    message that no queue could take."""

    server: Server
    exchanges: Mapping[str, Unseen | None]
    queues: Mapping[str, Depth | Unseen]
    differences: tuple[Difference, ...] | None
    publishing: Publishing


def findings(plan: Plan, seen: Seen) -> tuple[Finding, ...]:
    """All of them, what is worse first."""
    found = [*_broker(plan, seen), *_objects(plan, seen), *_differences(seen), *_weak_ways(plan)]
    order: tuple[Level, ...] = ("error", "warning", "ok")
    return tuple(sorted(found, key=lambda each: order.index(each.level)))


def not_visible(seen: Seen) -> tuple[str, ...]:
    """What AMQP does not tell, and who does."""
    hidden = [
        "bindings (rabbitmqctl list_bindings), policies (list_policies), cluster nodes (cluster_status)",
        "rights (list_permissions), the broker's consumer_timeout (environment)",
        "wait queues of delays that no longer stand in the file (list_queues name messages)",
    ]
    if seen.differences is None:
        hidden.insert(0, "whether what is there was made as the file says: --compare asks")
    return tuple(hidden)


# The broker


def _broker(plan: Plan, seen: Seen) -> Iterator[Finding]:
    match seen.publishing:
        case "taken":
            yield Finding(level="ok", word="takes-messages", sentence="the broker takes messages: no alarm")
        case "blocked":
            sentence = "the broker takes no messages (memory or disk alarm): whoever publishes waits, consumers go on"
            hint = "rabbitmqctl status shows the alarm; free memory or disk there, and it ends by itself"
            yield Finding(level="error", word="alarm", sentence=sentence, hint=hint)
        case "forbidden":
            yield _may_not_publish(plan)
        case "unanswered":
            sentence = "the broker did not confirm or return a message in time"
            yield Finding(level="warning", word="slow", sentence=sentence, hint="look at its load and its log")
    yield from _version(plan, seen.server)


def _may_not_publish(plan: Plan) -> Finding:
    sentence = f"no right to write to the default exchange ({DEFAULT_EXCHANGE})"
    if DEFAULT_EXCHANGE in rights(plan).write:
        sentence += ", through which messages reach queues by name, dead-letter queues too"
        return Finding(level="error", word="right", sentence=sentence, hint=_RIGHTS)
    return Finding(level="ok", word="right", sentence=f"{sentence}, and the file needs none; alarms are not visible")


def _version(plan: Plan, server: Server) -> Iterator[Finding]:
    found = re.match(r"(\d+)\.(\d+)", server.version)
    if server.product != "RabbitMQ" or found is None:
        return
    newest = (int(found[1]), int(found[2])) >= (4, 3)
    like = _NEWEST if newest else _OLDEST
    wanted = plan.pipeline.broker.version
    if like != wanted:
        sentence = f"it is RabbitMQ {server.version}, and `validate` checks this file for {wanted}"
        yield Finding(level="ok", word="version", sentence=sentence, hint=f'broker: {{version: "{like}"}}')
    for queue in objects(plan):
        if isinstance(queue, Queue) and queue.declare == "assert":
            yield from _not_in_version(queue, like, server.version)


def _not_in_version(queue: Queue, like: str, version: str) -> Iterator[Finding]:
    for each in refused.TABLE:
        value = queue.arguments.get(each.argument)
        if each.version == like and value is not None and each.applies(value, queue.type):
            sentence = f'queue "{queue.name}": RabbitMQ {version} refuses {each.said}'
            yield Finding(level="error", word="refused-argument", sentence=sentence, hint=each.hint)
    if like == _NEWEST and not queue.durable and not queue.exclusive:
        sentence = f'queue "{queue.name}": RabbitMQ {version} refuses queues that are neither durable nor exclusive'
        yield Finding(
            level="error", word="transient-queue", sentence=sentence, hint="durable: true, or exclusive: true"
        )


# Exchanges and queues


def _objects(plan: Plan, seen: Seen) -> Iterator[Finding]:
    for each in objects(plan):
        if isinstance(each, Exchange):
            found = seen.exchanges[each.name]
            yield _there(f'exchange "{each.name}" is there') if found is None else _unseen(each, found)
        else:
            yield _queue(plan, each, seen.queues[each.name])


def _queue(plan: Plan, queue: Queue, found: Depth | Unseen) -> Finding:
    consumers = [each for each in plan.consumers if each.queue.name == queue.name]
    if queue.exclusive and isinstance(found, Unseen) and found.code in (_NOT_FOUND, _LOCKED):
        return _exclusive(queue, found)
    if isinstance(found, Unseen):
        return _unseen(queue, found)
    if consumers and not found.consumers:
        return _nobody_consumes(queue, consumers, found)
    if not consumers and found.ready and queue.name in _dead_letter_queues(plan):
        sentence = f'dead-letter queue "{queue.name}" holds {_messages(found.ready)}'
        hint = f"piperun dlq ls {plan.pipeline.path.name} tells why they failed"
        return Finding(level="warning", word="dead-letters", sentence=sentence, hint=hint)
    if waits_for := _waits_for(plan, queue.name):
        return _there(f'queue "{queue.name}": {_waiting(found.ready)} on the way back to "{waits_for}"')
    who = f"{found.consumers} consumer{'' if found.consumers == 1 else 's'}"
    return _there(f'queue "{queue.name}": {_waiting(found.ready)}, {who}')


def _nobody_consumes(queue: Queue, consumers: list[ConsumerPlan], found: Depth) -> Finding:
    who = " and ".join(f'"{each.consumer.name}"' for each in consumers)
    sentence = f'queue "{queue.name}": nobody consumes it, which consumer {who} should'
    if not found.ready:
        return Finding(level="warning", word="not-consumed", sentence=sentence, hint="start the pipeline")
    sentence = f'queue "{queue.name}": {_waiting(found.ready)}, and nobody consumes it, which consumer {who} should'
    hint = "start the pipeline; if it runs, its log says why this consumer does not"
    return Finding(level="error", word="not-consumed", sentence=sentence, hint=hint)


def _exclusive(queue: Queue, found: Unseen) -> Finding:
    if found.code == _LOCKED:
        return _there(f'queue "{queue.name}" is there, seen by the connection alone that it is exclusive to')
    sentence = f'queue "{queue.name}" is not there: the connection that it is exclusive to is not'
    return Finding(level="warning", word="not-consumed", sentence=sentence, hint="start the pipeline")


def _unseen(wanted: Exchange | Queue, found: Unseen) -> Finding:
    what = f'{"exchange" if isinstance(wanted, Exchange) else "queue"} "{wanted.name}"'
    match found.code:
        case 404:
            return _missing(wanted, what)
        case 405:
            sentence = f"{what} is exclusive to another connection, and the file says otherwise"
            hint = "rabbitmqctl list_queues name owner_pid tells whose it is; end that, or use another name"
            return Finding(level="error", word="locked", sentence=sentence, hint=hint, differs=True)
        case 403:
            return Finding(level="error", word="right", sentence=f"{what}: {found.text}", hint=_RIGHTS)
        case _:
            return Finding(level="error", word="unseen", sentence=f"{what} cannot be asked for: {found.text}")


def _missing(wanted: Exchange | Queue, what: str) -> Finding:
    match wanted.declare:
        case "assert":
            sentence, hint = f"{what} is not there", "a start of the pipeline makes it"
            return Finding(level="warning", word="missing", sentence=sentence, hint=hint)
        case "check":
            sentence = f"{what} is not there, and `declare: check` does not make it"
            hint = "create it there, or write `declare: assert`: without it a start ends with status 4"
            return Finding(level="error", word="missing", sentence=sentence, hint=hint, differs=True)
        case "skip":
            sentence = f"{what} is not there, and `declare: skip` leaves it to somebody else"
            return Finding(level="error", word="missing", sentence=sentence, hint="create it, or `declare: assert`")


def _differences(seen: Seen) -> Iterator[Finding]:
    for each in seen.differences or ():
        if each.forbidden:
            yield Finding(level="error", word="right", sentence=each.sentence, hint=_RIGHTS)
        else:
            hint = "it was made otherwise: `declare: skip` uses it as it is, or give it a new name"
            yield Finding(level="error", word="differs", sentence=each.sentence, hint=hint, differs=True)


def _there(sentence: str) -> Finding:
    return Finding(level="ok", word="there", sentence=sentence)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _waiting(count: int) -> str:
    return f"{_messages(count)} wait{'s' if count == 1 else ''}" if count else "no message waits"


def _dead_letter_queues(plan: Plan) -> set[str]:
    from_copies = {each.dead_letter for each in plan.consumers if each.dead_letter}
    return from_copies | {each.dead_letter for each in plan.pipeline.queues if each.dead_letter}


def _waits_for(plan: Plan, name: str) -> str | None:
    """The queue to which messages go back from this one after a delay, which is part of its name."""
    queue, separator, delay = name.rpartition(".retry.")
    known = separator and re.fullmatch(r"\d+ms", delay) and any(each.queue.name == queue for each in plan.consumers)
    return queue if known else None


# What the file chose


def _weak_ways(plan: Plan) -> Iterator[Finding]:
    """Said, and not wrong: somebody has written it down."""
    for each in plan.consumers:
        name = each.consumer.name
        if each.consumer.ack == "none":
            sentence = f'consumer "{name}" has `ack: none`: what it has in hand is lost when its process or line dies'
            yield Finding(level="ok", word="ack-none", sentence=sentence)
        elif each.dead_letter is None:
            sentence = f'messages that fail in consumer "{name}" are dropped (`dead_letter: false`)'
            yield Finding(level="ok", word="failures-dropped", sentence=sentence)
    if len(plan.pipeline.broker.addresses) > 1:
        for queue in objects(plan):
            if isinstance(queue, Queue) and queue.type == "classic" and not queue.exclusive:
                sentence = f'queue "{queue.name}" is classic: one copy, on one node of the cluster'
                yield Finding(level="ok", word="one-copy", sentence=sentence, hint="`type: quorum` for a new queue")
