"""All that can be said of a file and its live broker: the broker itself, what the file declares there, what it chose.
Pure. What becomes of exchanges and queues is `drift`'s."""

import re
from collections.abc import Iterator

from pipeline.amqp.inspect import Server
from pipeline.config import refused
from pipeline.config.model import Queue
from pipeline.runtime.drift import RIGHTS, Finding, Level, Seen, of_objects
from pipeline.runtime.plan import Plan
from pipeline.runtime.rights import DEFAULT_EXCHANGE, objects, rights

_NEWEST, _OLDEST = "4.3", "3.10"  # the versions that piperun knows


def findings(plan: Plan, seen: Seen) -> tuple[Finding, ...]:
    """All of them, what is worse first."""
    found = [*_broker(plan, seen), *of_objects(plan, seen), *_weak_ways(plan)]
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
            yield Finding(level="ok", kind="takes-messages", sentence="the broker takes messages: no alarm")
        case "blocked":
            sentence = "the broker takes no messages (memory or disk alarm): whoever publishes waits, consumers go on"
            hint = "rabbitmqctl status shows the alarm; free memory or disk there, and it ends by itself"
            yield Finding(level="error", kind="alarm", sentence=sentence, hint=hint)
        case "forbidden":
            yield _may_not_publish(plan)
        case "unanswered":
            sentence = "the broker did not confirm or return a message in time"
            yield Finding(level="warning", kind="slow", sentence=sentence, hint="look at its load and its log")
    yield from _version(plan, seen.server)


def _may_not_publish(plan: Plan) -> Finding:
    sentence = f"no right to write to the default exchange ({DEFAULT_EXCHANGE})"
    if DEFAULT_EXCHANGE in rights(plan).write:
        sentence += ", through which messages reach queues by name, dead-letter queues too"
        return Finding(level="error", kind="right", sentence=sentence, hint=RIGHTS)
    return Finding(level="ok", kind="right", sentence=f"{sentence}, and the file needs none; alarms are not visible")


def _version(plan: Plan, server: Server) -> Iterator[Finding]:
    found = re.match(r"(\d+)\.(\d+)", server.version)
    if server.product != "RabbitMQ" or found is None:
        return
    like = _known(int(found[1]), int(found[2]))
    wanted = plan.pipeline.broker.version
    if like != _NEWEST:
        yield from _not_delayed(plan, server.version)
    if like is None:
        sentence = f"it is RabbitMQ {server.version}, between {_OLDEST} and {_NEWEST}, which piperun is tested with"
        yield Finding(level="ok", kind="version", sentence=sentence)
        return
    if like != wanted:
        sentence = f"it is RabbitMQ {server.version}, and `validate` checks this file for {wanted}"
        yield Finding(level="ok", kind="version", sentence=sentence, hint=f'broker: {{version: "{like}"}}')
    for queue in objects(plan):
        if isinstance(queue, Queue) and queue.declare == "assert":
            yield from _not_in_version(queue, like, server.version)


def _known(major: int, minor: int) -> str | None:
    """The version that piperun knows it by; None for one in between, of which it does not know what is refused."""
    if (major, minor) >= (4, 3):
        return _NEWEST
    return _OLDEST if (major, minor) <= (3, 10) else None


def _not_delayed(plan: Plan, version: str) -> Iterator[Finding]:
    for each in plan.consumers:
        if each.consumer.retry is not None and each.consumer.retry.strategy == "native":
            sentence = (
                f'consumer "{each.consumer.name}" has `strategy: native`, and RabbitMQ {version} does not know it: '
                "messages that fail come again at once"
            )
            hint = f"strategy: broker, or RabbitMQ {_NEWEST}"
            yield Finding(level="error", kind="native-retry", sentence=sentence, hint=hint)


def _not_in_version(queue: Queue, like: str, version: str) -> Iterator[Finding]:
    for each in refused.TABLE:
        value = queue.arguments.get(each.argument)
        if each.version == like and value is not None and each.applies(value, queue.type):
            sentence = f'queue "{queue.name}": RabbitMQ {version} refuses {each.said}'
            yield Finding(level="error", kind="refused-argument", sentence=sentence, hint=each.hint)
    if like == _NEWEST and not queue.durable and not queue.exclusive:
        sentence = f'queue "{queue.name}": RabbitMQ {version} refuses queues that are neither durable nor exclusive'
        yield Finding(
            level="error", kind="transient-queue", sentence=sentence, hint="durable: true, or exclusive: true"
        )


# What the file chose


def _weak_ways(plan: Plan) -> Iterator[Finding]:
    """Said, and not wrong: somebody has written it down."""
    for each in plan.consumers:
        name = each.consumer.name
        if each.consumer.ack == "none":
            sentence = f'consumer "{name}" has `ack: none`: what it has in hand is lost when its process or line dies'
            yield Finding(level="ok", kind="ack-none", sentence=sentence)
        elif each.dead_letter is None:
            sentence = f'messages that fail in consumer "{name}" are dropped (`dead_letter: false`)'
            yield Finding(level="ok", kind="failures-dropped", sentence=sentence)
    if len(plan.pipeline.broker.addresses) > 1:
        for queue in objects(plan):
            if isinstance(queue, Queue) and queue.type == "classic" and not queue.exclusive:
                sentence = f'queue "{queue.name}" is classic: one copy, on one node of the cluster'
                yield Finding(level="ok", kind="one-copy", sentence=sentence, hint="`type: quorum` for a new queue")
