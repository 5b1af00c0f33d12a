"""Whether a declaration's arguments are right, and when two declarations are the same, as RabbitMQ sees it: integer
widths do not matter, an unknown argument is kept and never compared. Which arguments there are in which version is
told by `queue_arguments`; what an argument does is not known here."""

import re
from collections.abc import Iterable

from pipeline.embedded.declarations.argument_checks import Check, a_time, integer, not_negative
from pipeline.embedded.declarations.queue_arguments import CLASSIC, STREAM, QueueArguments
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.tables import Table

TYPE = "x-queue-type"


# Queues


def queue_type(arguments: Table, queue: str, rules: QueueArguments) -> str:
    """`classic` or `quorum`. Refuses streams (540): there is nothing here that would keep them."""
    kind = arguments.kinds.get(TYPE, "longstr")
    if kind != "longstr":
        raise refusals.invalid_argument(TYPE, queue, f"{{unacceptable_type,{kind}}}")
    named = arguments.get(TYPE, CLASSIC)
    if named == STREAM:
        raise refusals.not_implemented(f"{queue}: streams are not supported by the embedded broker")
    if named in rules.words_for_classic:
        return CLASSIC
    if named not in rules.of_type:
        raise refusals.invalid_argument(TYPE, queue, f"\"unsupported queue type '{named}'\"")
    return str(named)


def check_queue(arguments: Table, queue: str, of_type: str, rules: QueueArguments) -> None:
    """Refuse (406) what RabbitMQ would not declare a queue of this type with, in its order: first the values, then
    what belongs to other types. `queue` is how it is called in the text."""
    taken = rules.of_type[of_type]
    kind = arguments.kinds.get("x-dead-letter-exchange", "longstr")
    if kind != "longstr":
        raise refusals.invalid_type(kind, "x-dead-letter-exchange", queue)
    for name, checks in rules.checks.items():
        if name in arguments and name in taken:
            _check(name, arguments, queue, checks)
            if name == "x-dead-letter-routing-key" and "x-dead-letter-exchange" not in arguments:
                raise refusals.invalid_argument(name, queue, "routing_key_but_no_dlx_defined")
    _check_type(arguments, queue, of_type, rules)


def _check(name: str, arguments: Table, queue: str, checks: Iterable[Check]) -> None:
    for complaint in (check(arguments[name], arguments.kinds[name]) for check in checks):
        if complaint is not None:
            raise refusals.invalid_argument(name, queue, complaint)


def _check_type(arguments: Table, queue: str, of_type: str, rules: QueueArguments) -> None:
    others = rules.of_other_types(of_type)
    for name in sorted(arguments) if rules.sorts else arguments:
        if name in others:
            raise refusals.argument_of_other_type(name, queue, in_text(of_type))


def in_text(of_type: str) -> str:
    """RabbitMQ's name for a type of queue, where it tells of it."""
    return f"rabbit_{of_type}_queue"


# Others


def check_exchange(arguments: Table, exchange: str) -> None:
    """Refuse (406) what RabbitMQ would not declare an exchange with."""
    kind = arguments.kinds.get("alternate-exchange", "longstr")
    if kind != "longstr":
        raise refusals.invalid_type(kind, "alternate-exchange", exchange)


def check_consumer(arguments: Table, queue: str, of_type: str, rules: QueueArguments) -> None:
    """Refuse (406) what RabbitMQ would not consume with."""
    if "x-priority" in arguments:
        _check("x-priority", arguments, queue, (integer,))
    for name, checks in rules.of_consumers.items():
        if name in arguments:
            _check(name, arguments, queue, checks)
            if name not in rules.of_type[of_type]:
                raise refusals.argument_of_other_type(name, queue, in_text(of_type))


def check_expiration(value: str) -> None:
    """Refuse (406) a message's `expiration` that is no number of milliseconds, in Erlang's words for it."""
    number = re.match(r"[+-]?[0-9]+", value)
    if number is None:
        raise refusals.invalid_expiration(value, "no_integer")
    rest = value[number.end() :]
    if rest:
        raise refusals.invalid_expiration(value, f'{{leftover_string,"{rest}"}}')
    milliseconds = int(number.group())
    complaint = not_negative(milliseconds, "") or a_time(milliseconds, "")
    if complaint is not None:
        raise refusals.invalid_expiration(value, complaint)


# Two declarations


def same_queue(current: Table, received: Table, queue: str, of_type: str, rules: QueueArguments) -> None:
    """Refuse (406) with the first difference to the arguments that the queue of this type has. Leaving the type out
    means classic, and is shown as that in RabbitMQ 4.3."""
    one, other = current, received
    if rules.tells_usual_type or current.get(TYPE, CLASSIC) == received.get(TYPE, CLASSIC) == CLASSIC:
        one, other = _with_type(current), _with_type(received)
    _same(one, other, queue, rules.of_type[of_type])


def _with_type(arguments: Table) -> Table:
    return Table({TYPE: CLASSIC, **arguments}, {TYPE: "longstr", **arguments.kinds})


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
            raise refusals.inequivalent(name, thing, _told(received, name), _told(current, name))


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other  # True is not 1 here


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "'true'" if value else "'false'"
    return f"'{value}'"


def _told(arguments: Table, name: str) -> str:
    if name not in arguments:
        return "none"
    return f"the value {_shown(arguments[name])} of type '{arguments.kinds[name]}'"
