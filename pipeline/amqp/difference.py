"""An object as the file wants it, and what the broker's refusal says it is instead. Pure: RabbitMQ's sentence goes in,
a difference with both values comes out. Asking the broker is `declare`'s."""

import re
from collections.abc import Mapping
from typing import Literal

from pipeline.config.model import Arguments, Exchange, Queue, Value
from pipeline.values import Frozen, replace

Kind = Literal["exchange", "queue"]

_REFUSAL = re.compile(
    r"inequivalent arg '([^']+)' for (?:queue|exchange) '.*' in vhost '.*': received .* but current is (.*)"
)
_VALUE = re.compile(r"(?:the value )?'(.*?)'(?: of type '(\w+)')?", re.DOTALL)
_WHOLE_NUMBERS = {"byte", "signedbyte", "unsignedbyte", "short", "unsignedshort", "signedint", "unsignedint", "long"}


class Difference(Frozen, frozen=True, kw_only=True):
    """One thing that is not on the broker as the file says. `sentence` tells a person all of it; `attribute`, `wanted`
    and `found` are there where the broker named one. `forbidden`: a right is missing, and not the object's fault."""

    kind: Kind
    name: str
    sentence: str
    attribute: str | None = None
    wanted: str | None = None
    found: str | None = None
    missing: bool = False
    forbidden: bool = False


class Wish(Frozen, frozen=True, kw_only=True):
    """An exchange or a queue with everything that a declaration compares."""

    kind: Kind
    name: str
    flags: Mapping[str, bool | str]
    arguments: Arguments

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'

    def value(self, attribute: str) -> Value:
        """None where the wish says nothing about it."""
        return self.flags[attribute] if attribute in self.flags else self.arguments.get(attribute)

    def adopting(self, attribute: str, value: Value) -> "Wish":
        """The same with the broker's value, None for no value: to hear of the next difference."""
        if attribute in self.flags:
            assert isinstance(value, bool | str)
            return replace(self, flags={**self.flags, attribute: value})
        others = {name: kept for name, kept in self.arguments.items() if name != attribute}
        return replace(self, arguments=others if value is None else {**others, attribute: value})


def wish(wanted: Exchange | Queue) -> Wish:
    if isinstance(wanted, Exchange):
        flags: dict[str, bool | str] = {
            "type": wanted.type,
            "durable": wanted.durable,
            "auto_delete": wanted.auto_delete,
            "internal": wanted.internal,
        }
        return Wish(kind="exchange", name=wanted.name, flags=flags, arguments=wanted.arguments)
    flags = {"durable": wanted.durable, "exclusive": wanted.exclusive, "auto_delete": wanted.auto_delete}
    return Wish(kind="queue", name=wanted.name, flags=flags, arguments=wanted.arguments)


def unequal(refusal: str, wanted: Wish) -> tuple[str, Value] | None:
    """The attribute that a 406 names, and its value on the broker. None when the refusal is about something else, or
    about a value that the sentence does not hold (a table)."""
    match = _REFUSAL.search(refusal)
    if match is None:
        return None
    attribute, current = match[1], match[2]
    if current == "none":
        return attribute, None
    value = _VALUE.fullmatch(current)
    if value is None:
        return None
    return attribute, _typed(value[1], value[2], wanted.value(attribute))


def difference(wanted: Wish, attribute: str, found: Value) -> Difference:
    wish_for = wanted.value(attribute)
    on_broker = f"without {attribute}" if found is None else f"with {attribute} {_shown(found)}"
    in_file = "the file has none" if wish_for is None else f"the file says {_shown(wish_for)}"
    return Difference(
        kind=wanted.kind,
        name=wanted.name,
        attribute=attribute,
        wanted=None if wish_for is None else _shown(wish_for),
        found=None if found is None else _shown(found),
        sentence=f"{wanted} is on the broker {on_broker}, {in_file}",
    )


def _typed(text: str, kind: str | None, wanted: Value) -> Value:
    """RabbitMQ names a type only where one side has no value; otherwise ours is as good as any."""
    if kind == "bool" or (kind is None and isinstance(wanted, bool)):
        return text == "true"
    number = kind in _WHOLE_NUMBERS or (kind is None and isinstance(wanted, int))
    return int(text) if number and re.fullmatch(r"-?\d+", text) else text


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or '""'
