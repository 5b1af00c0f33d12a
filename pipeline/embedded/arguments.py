"""Which arguments a queue may have, of which type, and when two declarations are the same. RabbitMQ 3.10 is
followed to the word: integer widths do not matter, an unknown argument is kept and never compared. What an
argument does is not known here."""

import re
from collections.abc import Callable, Iterable

from pipeline.embedded import refusals
from pipeline.embedded.tables import INTEGERS, Table

CLASSIC, QUORUM = "classic", "quorum"
_LONGEST_TIME = 315_360_000_000  # ten years in milliseconds, RabbitMQ's bound for a timer


# One argument


def _integer(value: object, kind: str) -> str | None:
    if kind not in INTEGERS or not isinstance(value, int):
        return f'"expected integer, got {kind}"'
    return None


def _not_negative(value: object, kind: str) -> str | None:
    if isinstance(value, int) and value < 0:
        return f"{{value_negative,{value}}}"
    return None


def _not_zero(value: object, kind: str) -> str | None:
    return "{value_zero,0}" if value == 0 else None


def _a_time(value: object, kind: str) -> str | None:
    if isinstance(value, int) and value > _LONGEST_TIME:
        return f"{{value_too_large,{value}}}"
    return None


def _a_priority(value: object, kind: str) -> str | None:
    if isinstance(value, int) and value > 255:
        return f"{{max_value_exceeded,{value}}}"
    return None


def _text(value: object, kind: str) -> str | None:
    return None if kind == "longstr" else f"{{unacceptable_type,{kind}}}"


def _short(value: object, kind: str) -> str | None:
    # RabbitMQ takes longer ones and fails when the first message dies: they have no place in basic.deliver.
    return '"longer than 255 octets"' if len(str(value).encode()) > 255 else None


def _flag(value: object, kind: str) -> str | None:
    return None if kind == "bool" else f"{{unacceptable_type,{kind}}}"


def _one_of(words: Iterable[str], complaint: str) -> "_Check":
    allowed = frozenset(words)
    return lambda value, kind: None if value in allowed else complaint.format(value)


def _version(value: object, kind: str) -> str | None:
    return None if value in (1, 2) else f"\"unsupported queue version '{value}'\""


_Check = Callable[[object, str], str | None]

_KNOWN: dict[str, tuple[_Check, ...]] = {
    "x-expires": (_integer, _not_negative, _not_zero, _a_time),
    "x-message-ttl": (_integer, _not_negative, _a_time),
    "x-dead-letter-exchange": (_text, _short),
    "x-dead-letter-routing-key": (_text, _short),
    "x-dead-letter-strategy": (_text, _one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy")),
    "x-max-length": (_integer, _not_negative),
    "x-max-length-bytes": (_integer, _not_negative),
    "x-max-in-memory-length": (_integer, _not_negative),
    "x-max-in-memory-bytes": (_integer, _not_negative),
    "x-max-priority": (_integer, _not_negative, _a_priority),
    "x-overflow": (_text, _one_of(("drop-head", "reject-publish", "reject-publish-dlx"), "invalid_overflow")),
    "x-queue-mode": (_text, _one_of(("default", "lazy"), "\"unsupported queue mode '{}'\"")),
    "x-queue-version": (_integer, _version),
    "x-single-active-consumer": (_flag,),
    "x-quorum-initial-group-size": (_integer, _not_negative, _not_zero),
}

# What each type takes and compares, in RabbitMQ's order: the first difference is the one that is named.
_OF_TYPE: dict[str, tuple[str, ...]] = {
    CLASSIC: (
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-queue-type",
        "x-queue-master-locator",
    ),
    QUORUM: (
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-message-ttl",
        "x-queue-leader-locator",
    ),
}
# Taken by streams only, which there are none of here.
_OF_STREAMS = (
    "x-initial-cluster-size",
    "x-max-age",
    "x-stream-filter-size-bytes",
    "x-stream-max-segment-size-bytes",
)
_OF_SOME_TYPE = frozenset(_OF_TYPE[CLASSIC] + _OF_TYPE[QUORUM] + _OF_STREAMS)


# All of them


def queue_type(arguments: Table, queue: str) -> str:
    """`classic` or `quorum`. Refuses streams (540): there is nothing here that would keep them."""
    kind = arguments.kinds.get("x-queue-type")
    if kind is None:
        return CLASSIC
    if kind != "longstr":
        raise refusals.invalid_argument("x-queue-type", queue, f"{{unacceptable_type,{kind}}}")
    named = arguments["x-queue-type"]
    if named == "stream":
        raise refusals.not_implemented(f"{queue}: streams are not supported by the embedded broker")
    if named not in _OF_TYPE:
        raise refusals.invalid_argument("x-queue-type", queue, f"\"unsupported queue type '{named}'\"")
    return str(named)


def check_queue(arguments: Table, queue: str) -> None:
    """Refuse (406) what RabbitMQ would not declare a queue with. `queue` is how it is called in the text."""
    of_type = queue_type(arguments, queue)
    for name in sorted(_OF_SOME_TYPE & arguments.keys()):
        if name not in _OF_TYPE[of_type]:
            raise refusals.argument_of_other_type(name, queue, f"rabbit_{of_type}_queue")
    for name, checks in _KNOWN.items():
        if name in arguments:
            _check_one(name, arguments, queue, checks)
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise refusals.invalid_argument("x-dead-letter-routing-key", queue, "routing_key_but_no_dlx_defined")


def check_exchange(arguments: Table, exchange: str) -> None:
    """Refuse (406) what RabbitMQ would not declare an exchange with."""
    kind = arguments.kinds.get("alternate-exchange", "longstr")
    if kind != "longstr":
        raise refusals.invalid_type(kind, "alternate-exchange", exchange)


def check_consumer(arguments: Table, queue: str) -> None:
    """Refuse (406) what RabbitMQ would not consume with."""
    kind = arguments.kinds.get("x-priority", "signedint")
    if kind not in INTEGERS:
        raise refusals.invalid_argument("x-priority", queue, f'"expected integer, got {kind}"')


def check_expiration(value: str) -> None:
    """Refuse (406) a message's `expiration` that is no number of milliseconds, in Erlang's words for it."""
    number = re.match(r"[+-]?[0-9]+", value)
    if number is None:
        raise refusals.invalid_expiration(value, "no_integer")
    rest = value[number.end() :]
    if rest:
        raise refusals.invalid_expiration(value, f'{{leftover_string,"{rest}"}}')
    milliseconds = int(number.group())
    complaint = _not_negative(milliseconds, "") or _a_time(milliseconds, "")
    if complaint is not None:
        raise refusals.invalid_expiration(value, complaint)


def _check_one(name: str, arguments: Table, queue: str, checks: tuple[_Check, ...]) -> None:
    value, kind = arguments[name], arguments.kinds[name]
    if name == "x-dead-letter-exchange" and kind != "longstr":
        raise refusals.invalid_type(kind, name, queue)
    for complaint in (check(value, kind) for check in checks):
        if complaint is not None:
            raise refusals.invalid_argument(name, queue, complaint)


# Two declarations


def same_queue(current: Table, received: Table, queue: str) -> None:
    """Refuse (406) with the first difference to the arguments the queue has."""
    named = current.get("x-queue-type", CLASSIC)
    names = _OF_TYPE[named if isinstance(named, str) else CLASSIC]
    if named == received.get("x-queue-type", CLASSIC) == CLASSIC:
        names = tuple(name for name in names if name != "x-queue-type")  # leaving it out means classic
    _same(current, received, queue, names)


def same_exchange(current: Table, received: Table, exchange: str) -> None:
    _same(current, received, exchange, ("alternate-exchange",))


def same_flag(name: str, thing: str, *, received: bool, current: bool) -> None:
    if received != current:
        raise refusals.inequivalent(name, thing, _shown(received), _shown(current))


def _same(current: Table, received: Table, thing: str, names: Iterable[str]) -> None:
    for name in names:
        if name in current and name in received:
            if not _equal(current[name], received[name]):
                raise refusals.inequivalent(name, thing, _shown(received[name]), _shown(current[name]))
        elif name in current or name in received:
            raise refusals.inequivalent(name, thing, _with_type(received, name), _with_type(current, name))


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other  # True is not 1 here


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "'true'" if value else "'false'"
    return f"'{value}'"


def _with_type(arguments: Table, name: str) -> str:
    if name not in arguments:
        return "none"
    return f"the value {_shown(arguments[name])} of type '{arguments.kinds[name]}'"
