"""Where failed messages of one file end: which queues hold them, and that they do not run in a circle.
What is declared for it is known to `arguments` and to the floor of failures."""

from collections.abc import Iterator, Mapping

from pipeline.config.names import check_name
from pipeline.config.nodes import Path, value_place
from pipeline.config.phrases import both
from pipeline.config.report import Report
from pipeline.config.settings import Settings


def check(settings: Settings, report: Report) -> None:
    """Every `dead_letter` of one file."""
    targets: dict[str, str] = {}
    for key, _ in settings.objects("queues"):
        path: Path = ("queues", key, "dead_letter")
        target = settings.text("queues", key, "dead_letter")
        if target is not None:
            targets[key] = target
            check_name(target, "queue", value_place(settings.root, path), report)
    for circle in _circles(targets):
        _tell_circle(settings, circle, report)


def _circles(targets: Mapping[str, str]) -> Iterator[list[str]]:
    """Every circle once, as the queues along it."""
    seen: set[str] = set()
    for start in targets:
        way: dict[str, None] = {}
        queue: str | None = start
        while queue is not None and queue not in seen:
            seen.add(queue)
            way[queue] = None
            queue = targets.get(queue)
        if queue in way:
            along = list(way)
            yield along[along.index(str(queue)) :]


def _tell_circle(settings: Settings, circle: list[str], report: Report) -> None:
    # The later line closes the circle and carries the caret.
    last = max(circle, key=lambda key: value_place(settings.root, ("queues", key, "dead_letter")))
    place = value_place(settings.root, ("queues", last, "dead_letter"))
    names = [f'"{name}"' for name in circle[:5]] + ["others"] * (len(circle) > 5)
    if len(circle) == 1:
        sentence = f"queue {names[0]} is its own dead-letter queue: a message that fails would come back at once"
    else:
        sentence = f"the dead letters of queues {both(names)} run in a circle: a message that fails would never rest"
    report.error("dead-letter-circle", place, sentence, "a dead-letter queue has no dead-letter queue of its own")


def holders(settings: Settings) -> set[str]:
    """The names on the broker of all queues of which piperun knows that failed messages end there."""
    found: set[str] = set()
    for queue, _ in settings.objects("queues"):
        target = settings.value("queues", queue, "dead_letter")
        if isinstance(target, str):
            found.add(settings.broker_name("queues", target))
        elif target is None:
            found.add(f"{settings.broker_name('queues', queue)}.dlq")
    return found
