"""Arguments that the broker would refuse, ignore, or that say something twice.
The arguments themselves, and what stands for them, are known to `arguments`."""

from collections.abc import Mapping

from pipeline.config.arguments import (
    ALL_TYPES,
    ARGUMENT_RANGES,
    ARGUMENT_TYPES,
    ARGUMENT_WORDS,
    AT_LEAST_ONCE,
    CONSUMER_ARGUMENTS,
    DEAD_LETTER_ARGUMENTS,
    EXCHANGE_ARGUMENTS,
    FIRST_CLASS,
    QUEUE_ARGUMENTS,
)
from pipeline.config.model import QueueType
from pipeline.config.nodes import BROKEN, Entry, MapNode, Path, ScalarNode, at, key_place, value_place
from pipeline.config.phrases import both, either, this
from pipeline.config.report import Report
from pipeline.config.settings import Settings
from pipeline.config.units import milliseconds

MOST_MILLISECONDS = 2**32 - 1

_TYPE_NAMES = {int: "a whole number", str: "a text", bool: "true or false"}


def check(settings: Settings, report: Report) -> None:
    """Arguments that the broker would refuse, or that say something twice."""
    for queue, entry in settings.objects("queues"):
        if isinstance(entry.value, MapNode):
            _check_types(settings, queue, report)
            _check_twice(settings, queue, report)
            _check_values(settings, queue, report)
            _check_dead_letter_key(settings, queue, report)
            _check_limits(settings, queue, report)
            _check_overflow(settings, queue, report)


def _check_types(settings: Settings, queue: str, report: Report) -> None:
    kind = settings.value("queues", queue, "type")
    said: dict[str, tuple[Path, tuple[QueueType, ...]]] = {}
    for key, known in FIRST_CLASS.items():
        written = settings.written("queues", queue, key)
        if written and settings.value("queues", queue, key) not in (None, False):
            said[key] = written, known.types
    for argument in _own(settings, queue):
        said[argument] = ("queues", queue, "arguments", argument), ARGUMENT_TYPES.get(argument, ALL_TYPES)
    for key, (written, types) in said.items():
        if kind in ALL_TYPES and kind not in types:
            report.error(
                "queue-type",
                key_place(settings.root, written),
                f'`{key}` is for {both(types)} queues; queue "{queue}" is a {kind} queue',
                f"type: {types[0]}, or leave `{key}` out",
            )
    if kind == "stream" and isinstance(settings.value("queues", queue, "dead_letter"), str):
        place = key_place(settings.root, ("queues", queue, "dead_letter"))
        report.error(
            "queue-type",
            place,
            f'a stream keeps its messages and dead-letters none; queue "{queue}" is a stream',
            "leave `dead_letter` out: messages that fail are copied all the same",
        )


def _check_twice(settings: Settings, queue: str, report: Report) -> None:
    stands_for = {known.argument: key for key, known in FIRST_CLASS.items()}
    stands_for |= dict.fromkeys(DEAD_LETTER_ARGUMENTS, "dead_letter") | {"x-queue-type": "type"}
    for argument in _own(settings, queue):
        key = stands_for.get(argument)
        first = settings.written("queues", queue, key) if key else None
        silent = key == "dead_letter" and not isinstance(settings.value("queues", queue, "dead_letter"), str)
        if key == "type":
            _queue_type_argument(settings, queue, report)
        elif first and not silent:
            place = key_place(settings.root, first)
            report.error(
                "conflicting-keys",
                key_place(settings.root, ("queues", queue, "arguments", argument)),
                f"`arguments.{argument}` says again what `{key}` says at {place.line}:{place.column}",
                "keep one",
                place,
            )


def _queue_type_argument(settings: Settings, queue: str, report: Report) -> None:
    report.error(
        "conflicting-keys",
        key_place(settings.root, ("queues", queue, "arguments", "x-queue-type")),
        f'the type of queue "{queue}" is said by its key `type`',
        f"type: {_text_at(settings, queue, 'x-queue-type') or 'quorum'}",
    )


def _text_at(settings: Settings, queue: str, argument: str) -> str | None:
    node = at(settings.root, ("queues", queue, "arguments", argument))
    return node.text if isinstance(node, ScalarNode) else None


def _check_values(settings: Settings, queue: str, report: Report) -> None:
    keys = {known.argument: key for key, known in FIRST_CLASS.items()}
    for argument, entry in _own(settings, queue).items():
        wanted = QUEUE_ARGUMENTS.get(argument)
        value = entry.value.value if isinstance(entry.value, ScalarNode) else entry.value
        if wanted and type(value) is not wanted and not _reported(value):
            key = keys.get(argument)
            text = entry.value.text if isinstance(entry.value, ScalarNode) else "..."
            report.error(
                "wrong-type",
                value_place(settings.root, ("queues", queue, "arguments", argument)),
                f"`{argument}` is {_TYPE_NAMES[wanted]}, this is {this(_bare(value))}",
                f"{key}: {text}, beside `arguments`" if key else None,
            )
        elif isinstance(value, str):
            _check_word(settings, queue, argument, value, report)
        elif type(value) is int:
            _check_range(settings, queue, argument, value, report)


def _check_word(settings: Settings, queue: str, argument: str, value: str, report: Report) -> None:
    words = ARGUMENT_WORDS.get(argument)
    if words and value not in words:
        report.error(
            "unknown-value",
            value_place(settings.root, ("queues", queue, "arguments", argument)),
            f'`{argument}` is {either(words)}, not "{value}"',
            report.did_you_mean(value, words),
        )


def _check_range(settings: Settings, queue: str, argument: str, value: int, report: Report) -> None:
    least, most = ARGUMENT_RANGES.get(argument, (None, None))
    if (least is not None and value < least) or (most is not None and value > most):
        legal = f"{least} or more" if most is None else f"from {least} to {most}"
        report.error(
            "out-of-range",
            value_place(settings.root, ("queues", queue, "arguments", argument)),
            f"`{argument}` is a whole number, {legal}, this is {this(value)}",
        )


def _check_dead_letter_key(settings: Settings, queue: str, report: Report) -> None:
    """The broker refuses the one without the other."""
    exchange, key = DEAD_LETTER_ARGUMENTS
    own = _own(settings, queue)
    if key in own and exchange not in own and not isinstance(settings.value("queues", queue, "dead_letter"), str):
        sentence = f"RabbitMQ refuses `{key}` without `{exchange}`"
        report.error("missing-key", own[key].key, sentence, f'{exchange}: ""  (the default exchange), or `dead_letter`')


def _own(settings: Settings, queue: str) -> Mapping[str, Entry]:
    """What stands under `arguments`."""
    arguments = at(settings.root, ("queues", queue, "arguments"))
    return arguments.entries if isinstance(arguments, MapNode) else {}


def _bare(value: object) -> object:
    return value if isinstance(value, str | int | float | None) else []


def _reported(value: object) -> bool:
    return value is BROKEN


def _check_limits(settings: Settings, queue: str, report: Report) -> None:
    for key in ("message_ttl", "expires"):
        written = settings.written("queues", queue, key)
        value = settings.text("queues", queue, key)
        try:
            length = milliseconds(value) if value else 0
        except (ValueError, KeyError):
            continue  # told by the schema
        if written and length > MOST_MILLISECONDS:
            report.error(
                "out-of-range",
                value_place(settings.root, written),
                f"RabbitMQ allows `{key}` up to 49 days, this is {value}",
            )


def _check_overflow(settings: Settings, queue: str, report: Report) -> None:
    """With a queue that drops its head, at-least-once becomes at-most-once, and only the broker's log tells."""
    if settings.value("queues", queue, "type") != "quorum":
        return
    own = {name: _text_at(settings, queue, name) for name in _own(settings, queue)}
    has_key = isinstance(settings.value("queues", queue, "dead_letter"), str)
    strategy = own.get("x-dead-letter-strategy") or (AT_LEAST_ONCE if has_key else None)
    written = settings.written("queues", queue, "overflow")
    overflow = (
        settings.value("queues", queue, "overflow")
        or own.get("x-overflow")
        or (None if not has_key else "reject-publish")
    )
    if strategy != AT_LEAST_ONCE or overflow == "reject-publish":
        return
    path = written or ("queues", queue, "arguments", "x-overflow" if "x-overflow" in own else "x-dead-letter-strategy")
    report.error(
        "lossy-overflow",
        value_place(settings.root, path),
        "dead-lettering at-least-once needs `overflow: reject-publish`; "
        f"with {overflow or 'drop-head'} RabbitMQ falls back to at-most-once",
        "overflow: reject-publish",
    )


def advise(settings: Settings, report: Report) -> None:
    """Arguments that RabbitMQ does not know and would ignore without a word."""
    for section, known in (
        ("queues", tuple(QUEUE_ARGUMENTS)),
        ("exchanges", EXCHANGE_ARGUMENTS),
        ("consumers", CONSUMER_ARGUMENTS),
    ):
        for name, _ in settings.objects(section):
            arguments = at(settings.root, (section, name, "arguments"))
            for argument, entry in arguments.entries.items() if isinstance(arguments, MapNode) else ():
                if argument not in known:
                    hint = _elsewhere(section, argument) or report.did_you_mean(argument, known)
                    sentence = f'RabbitMQ knows no argument "{argument}" and would ignore it'
                    report.warning("unknown-argument", entry.key, sentence, hint)


def _elsewhere(section: str, argument: str) -> str | None:
    """An argument of another object, or a first-class key among the arguments."""
    if section != "consumers" and argument in CONSUMER_ARGUMENTS:
        return "it belongs to the `arguments` of a consumer"
    if section == "queues" and argument in FIRST_CLASS:
        return f"write `{argument}` beside `arguments`"
    return None
