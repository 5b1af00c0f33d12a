"""Arguments of queues that one version of RabbitMQ takes and another refuses. Which arguments there are at all, and of
which type each is, `arguments` knows."""

from collections.abc import Callable

from pipeline.config import broker
from pipeline.config.nodes import MapNode, ScalarNode, at
from pipeline.config.report import Report
from pipeline.config.settings import Settings
from pipeline.values import Frozen


class Refused(Frozen, frozen=True, kw_only=True):
    """What a version refuses, if `applies` says so of the value and the type of queue, and what to write instead."""

    argument: str
    version: str
    said: str
    hint: str
    applies: Callable[[object, object], bool]


def _in_classic(value: object, kind: object) -> bool:
    return kind == "classic"


TABLE = (
    Refused(
        argument="x-queue-leader-locator",
        version="3.10",
        said="`x-queue-leader-locator` in a classic queue",
        hint="x-queue-master-locator, or type: quorum",
        applies=_in_classic,
    ),
    Refused(
        argument="x-queue-master-locator",
        version="4.3",
        said="`x-queue-master-locator`",
        hint="x-queue-leader-locator: client-local or balanced",
        applies=_in_classic,
    ),
    Refused(
        argument="x-queue-version",
        version="4.3",
        said="version 1 of classic queues",
        hint="leave `x-queue-version` out",
        applies=lambda value, kind: value == 1,
    ),
    Refused(
        argument="x-consumer-timeout",
        version="4.3",
        said="`x-consumer-timeout` in a classic queue",
        hint="leave it out: 4.3 waits for consumers of classic queues without a limit; or type: quorum",
        applies=_in_classic,
    ),
    *(
        Refused(
            argument=argument,
            version="4.3",
            said=f"`{argument}` in a classic queue",
            hint="type: quorum, or leave it out",
            applies=_in_classic,
        )
        for argument in ("x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max")
    ),
    Refused(
        argument="x-stream-filter-size-bytes",
        version="4.3",
        said="`x-stream-filter-size-bytes` in a queue that is no stream",
        hint="type: stream, or leave it out",
        applies=lambda value, kind: kind != "stream",
    ),
)


def check(settings: Settings, report: Report) -> None:
    """An error where the version is written, or where the embedded broker will behave like it; otherwise a warning."""
    version = broker.version(settings.root)
    certain = at(settings.root, ("broker", "version")) is not None or broker.is_embedded(settings.root)
    for queue, _ in settings.objects("queues"):
        arguments = at(settings.root, ("queues", queue, "arguments"))
        if not isinstance(arguments, MapNode) or settings.value("queues", queue, "declare") != "assert":
            continue
        kind = settings.value("queues", queue, "type")
        for each in TABLE:
            entry = arguments.entries.get(each.argument)
            if each.version != version or entry is None or not isinstance(entry.value, ScalarNode):
                continue
            if each.applies(entry.value.value, kind):
                if certain:
                    report.error("refused-argument", entry.key, f"RabbitMQ {version} refuses {each.said}", each.hint)
                else:
                    report.warning(
                        "refused-argument", entry.key, f"RabbitMQ {version} will refuse {each.said}", each.hint
                    )
