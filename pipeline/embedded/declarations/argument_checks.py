"""What is wrong with the value of one argument, in the words RabbitMQ has for it. Which arguments there are, and in
which order they are looked at, `queue_arguments` and `arguments` know."""

from collections.abc import Callable, Iterable

from pipeline.embedded.wire.tables import INTEGERS

Check = Callable[[object, str], str | None]  # a value and its type on the wire to a complaint, or None

LONGEST_TIME = 315_360_000_000  # ten years in milliseconds, RabbitMQ's bound for a timer


def integer(value: object, kind: str) -> str | None:
    if kind not in INTEGERS or not isinstance(value, int):
        return f'"expected integer, got {kind}"'
    return None


def not_negative(value: object, kind: str) -> str | None:
    if isinstance(value, int) and value < 0:
        return f"{{value_negative,{value}}}"
    return None


def not_zero(value: object, kind: str) -> str | None:
    return "{value_zero,0}" if value == 0 else None


def a_time(value: object, kind: str) -> str | None:
    if isinstance(value, int) and value > LONGEST_TIME:
        return f"{{value_too_large,{value}}}"
    return None


def a_priority(value: object, kind: str) -> str | None:
    if isinstance(value, int) and value > 255:
        return f"{{max_value_exceeded,{value}}}"
    return None


def text(value: object, kind: str) -> str | None:
    return None if kind == "longstr" else f"{{unacceptable_type,{kind}}}"


def short(value: object, kind: str) -> str | None:
    # RabbitMQ takes longer ones and fails when the first message dies: they have no place in basic.deliver.
    return '"longer than 255 octets"' if len(str(value).encode(errors="surrogateescape")) > 255 else None


def flag(value: object, kind: str) -> str | None:
    return None if kind == "bool" else f"{{unacceptable_type,{kind}}}"


def one_of(words: Iterable[str], complaint: str) -> Check:
    """`complaint` may show the value as `{}`."""
    allowed = frozenset(words)
    return lambda value, kind: None if value in allowed else complaint.format(value)


def queue_version(*known: int) -> Check:
    return lambda value, kind: None if value in known else f"\"unsupported queue version '{value}'\""
