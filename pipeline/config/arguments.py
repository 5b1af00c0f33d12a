"""First-class keys of a queue and the `x-` arguments they stand for; which queue type allows which; both forms at once.
Also the names of all arguments that RabbitMQ knows. The rest of the file is not its business."""

from collections.abc import Callable, Mapping
from typing import cast

from pipeline.config import retries
from pipeline.config.model import QueueType, Value
from pipeline.config.nodes import Plain
from pipeline.config.settings import Settings
from pipeline.config.units import milliseconds, size
from pipeline.values import Frozen

# Above the broker's own default of 20: before 4.3 every return counts, also of innocents during a restart.
FUSE = 50
# To look into a quorum queue is a return, and dead letters are there to be looked at.
FUSE_OF_DEAD_LETTERS = 1_000_000
AT_LEAST_ONCE = "at-least-once"

ALL_TYPES: tuple[QueueType, ...] = ("classic", "quorum", "stream")
_QUEUES: tuple[QueueType, ...] = ("classic", "quorum")


class FirstClass(Frozen, frozen=True, kw_only=True):
    """A key, its argument, and the queue types that take it."""

    argument: str
    types: tuple[QueueType, ...]
    convert: Callable[[str], int] | None = None  # a text with a unit to a number


FIRST_CLASS: Mapping[str, FirstClass] = {
    "message_ttl": FirstClass(argument="x-message-ttl", types=_QUEUES, convert=milliseconds),
    "expires": FirstClass(argument="x-expires", types=_QUEUES, convert=milliseconds),
    "max_length": FirstClass(argument="x-max-length", types=_QUEUES),
    "max_length_bytes": FirstClass(argument="x-max-length-bytes", types=ALL_TYPES, convert=size),
    "overflow": FirstClass(argument="x-overflow", types=_QUEUES),
    "max_priority": FirstClass(argument="x-max-priority", types=("classic",)),
    "single_active_consumer": FirstClass(argument="x-single-active-consumer", types=_QUEUES),
    "delivery_limit": FirstClass(argument="x-delivery-limit", types=("quorum",)),
}

# Which queue types take an argument, where not all do. Every version refuses it in a queue of another type.
ARGUMENT_TYPES: Mapping[str, tuple[QueueType, ...]] = {
    **{known.argument: known.types for known in FIRST_CLASS.values()},
    "x-dead-letter-strategy": ("quorum",),
    "x-initial-cluster-size": ("stream",),
    "x-max-age": ("stream",),
    "x-max-in-memory-bytes": ("quorum",),
    "x-max-in-memory-length": ("quorum",),
    "x-queue-master-locator": ("classic",),
    "x-queue-mode": ("classic",),
    "x-queue-version": ("classic",),
    "x-quorum-initial-group-size": ("quorum",),
    "x-stream-max-segment-size-bytes": ("stream",),
}

# What an argument may be besides its type. Every version refuses anything else.
ARGUMENT_WORDS: Mapping[str, tuple[str, ...]] = {
    "x-dead-letter-strategy": ("at-most-once", AT_LEAST_ONCE),
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx"),
    "x-queue-leader-locator": ("client-local", "balanced"),
}
ARGUMENT_RANGES: Mapping[str, tuple[int, int | None]] = {
    "x-expires": (1, None),
    "x-max-in-memory-bytes": (0, None),
    "x-max-in-memory-length": (0, None),
    "x-max-length": (0, None),
    "x-max-length-bytes": (0, None),
    "x-max-priority": (0, 255),
    "x-message-ttl": (0, None),
    "x-queue-version": (1, 2),
    "x-quorum-initial-group-size": (1, None),
}

DEAD_LETTER_ARGUMENTS = ("x-dead-letter-exchange", "x-dead-letter-routing-key")

# Argument to the JSON type that RabbitMQ wants; it answers 406 to any other.
QUEUE_ARGUMENTS: Mapping[str, type] = {
    "x-consumer-timeout": int,
    "x-dead-letter-exchange": str,
    "x-dead-letter-routing-key": str,
    "x-dead-letter-strategy": str,
    "x-delayed-retry-max": int,
    "x-delayed-retry-min": int,
    "x-delayed-retry-type": str,
    "x-delivery-limit": int,
    "x-expires": int,
    "x-initial-cluster-size": int,
    "x-max-age": str,
    "x-max-in-memory-bytes": int,
    "x-max-in-memory-length": int,
    "x-max-length": int,
    "x-max-length-bytes": int,
    "x-max-priority": int,
    "x-message-ttl": int,
    "x-overflow": str,
    "x-queue-leader-locator": str,
    "x-queue-master-locator": str,
    "x-queue-mode": str,
    "x-queue-type": str,
    "x-queue-version": int,
    "x-quorum-initial-group-size": int,
    "x-single-active-consumer": bool,
    "x-stream-filter-size-bytes": int,
    "x-stream-max-segment-size-bytes": int,
}
EXCHANGE_ARGUMENTS = ("alternate-exchange",)
CONSUMER_ARGUMENTS = (
    "x-cancel-on-ha-failover",
    "x-consumer-timeout",
    "x-credit",
    "x-priority",
    "x-stream-filter",
    "x-stream-match-unfiltered",
    "x-stream-offset",
)


def merged(settings: Settings, queue: str, dead_letter: str | None, *, holds_dead_letters: bool) -> dict[str, Value]:
    """All arguments of a queue as the broker gets them: its type, first-class keys, dead letters, delayed retry, the
    user's own."""
    kind = settings.value("queues", queue, "type")
    assert isinstance(kind, str)
    own = settings.value("queues", queue, "arguments")
    arguments: dict[str, Value] = {"x-queue-type": kind}
    if kind == "quorum" and holds_dead_letters:
        arguments["x-delivery-limit"] = FUSE_OF_DEAD_LETTERS
    arguments |= _dead_letter_arguments(kind, dead_letter)
    for key, known in FIRST_CLASS.items():
        value = settings.value("queues", queue, key)
        if value is not None and value is not False:
            arguments[known.argument] = _converted(known, value)
    return arguments | retries.native_arguments(settings, queue) | _values(own)


def _dead_letter_arguments(kind: str, dead_letter: str | None) -> dict[str, Value]:
    if dead_letter is None:
        return {}
    arguments: dict[str, Value] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_letter}
    if kind == "quorum":
        # At-least-once needs a queue that refuses instead of dropping; with drop-head the broker falls back in silence.
        arguments |= {
            "x-dead-letter-strategy": AT_LEAST_ONCE,
            "x-overflow": "reject-publish",
            "x-delivery-limit": FUSE,
        }
    return arguments


def _converted(known: FirstClass, value: Plain) -> Value:
    if known.convert and isinstance(value, str):
        return known.convert(value)
    assert isinstance(value, str | int | float)
    return value


def _values(table: Plain) -> dict[str, Value]:
    return cast("dict[str, Value]", dict(table)) if isinstance(table, dict) else {}  # nothing broken gets this far
