"""What each type of queue can be: durable, exclusive, deleted by itself, on which broker.
Arguments are the business of `arguments`, names that of `references`."""

from pipeline.config import broker
from pipeline.config.model import Workers
from pipeline.config.nodes import Path, ScalarNode, at, key_place, value_place
from pipeline.config.report import Report
from pipeline.config.settings import Settings
from pipeline.problems import Place

NEWEST = "4.3"


def check(settings: Settings, report: Report, workers: Workers | None) -> None:
    """Queues that the broker would refuse, or will. `workers` stands in the place of `runtime.workers`."""
    for queue, _ in settings.objects("queues"):
        kind = settings.value("queues", queue, "type")
        if kind in ("quorum", "stream"):
            _replicated(settings, queue, str(kind), report)
        elif settings.value("queues", queue, "declare") == "assert":
            _transient(settings, queue, report)
        if kind == "stream" and broker.is_embedded(settings.root):
            sentence = f'the embedded broker has no streams, and queue "{queue}" is one'
            report.error(
                "queue-type", _said(settings, queue, "type"), sentence, "broker: amqp://... , or type: classic"
            )
    _alone(settings, report, workers)


def _replicated(settings: Settings, queue: str, kind: str, report: Report) -> None:
    for key, refused, words in (
        ("exclusive", True, "be exclusive"),
        ("auto_delete", True, "delete itself"),
        ("durable", False, "be transient"),
    ):
        if settings.value("queues", queue, key) is refused:
            way = f"type: classic, or leave `{key}` out"
            report.error("queue-type", _said(settings, queue, key), f"a {kind} queue cannot {words}", way)


def _transient(settings: Settings, queue: str, report: Report) -> None:
    durable = settings.value("queues", queue, "durable")
    if durable is not False or settings.value("queues", queue, "exclusive") is not False:
        return
    place, hint = _said(settings, queue, "durable"), "durable: true, or exclusive: true"
    version = at(settings.root, ("broker", "version"))
    if version is not None and getattr(version, "value", None) == NEWEST:
        sentence = f"RabbitMQ {NEWEST} refuses queues that are neither durable nor exclusive"
        report.error("transient-queue", place, sentence, hint)
    elif version is None and broker.is_embedded(settings.root):
        # Nobody wrote the version, and yet it is no guess: this broker will refuse the queue.
        sentence = f"like RabbitMQ {NEWEST}, the embedded broker refuses queues that are neither durable nor exclusive"
        way = 'durable: true, exclusive: true, or broker: {version: "3.10"}'
        report.error("transient-queue", place, sentence, way)
    elif version is None:
        sentence = f"RabbitMQ {NEWEST} will refuse queues that are neither durable nor exclusive"
        report.warning("transient-queue", place, sentence, hint)


def _alone(settings: Settings, report: Report, told: Workers | None) -> None:
    """What belongs to one connection cannot be shared by several processes. `auto` is how many a machine has, and a
    file is right or wrong on all of them."""
    node = at(settings.root, ("runtime", "workers"))
    workers = told if told is not None else node.value if isinstance(node, ScalarNode) else 0
    several = workers == "auto" or (type(workers) is int and workers > 1)
    there = key_place(settings.root, ("runtime", "workers")) if told is None else None
    who = f"`workers: {workers}` ({there.line}:{there.column})" if there else f"--workers {workers}"
    for section, kind in (("queues", "queue"), ("consumers", "consumer")) if several else ():
        for name, _ in settings.objects(section):
            written = settings.written(section, name, "exclusive")
            if written and settings.value(section, name, "exclusive") is True:
                sentence = f'{kind} "{name}" is exclusive to one connection, and {who} makes one in each process'
                way = "exclusive: false, or " + ("workers: 1" if there else "--workers 1")
                report.error("conflicting-keys", value_place(settings.root, written), sentence, way, there)


def _said(settings: Settings, queue: str, key: str) -> Place:
    """Where a setting stands: on the queue, else in the defaults."""
    here = settings.written("queues", queue, key)
    defaults: Path = ("defaults", "queues", key)
    if here or at(settings.root, defaults) is not None:
        return value_place(settings.root, here or defaults)
    return key_place(settings.root, ("queues", queue))
