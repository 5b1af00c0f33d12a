"""What values are made of in this house: fields by name, compared by what they hold, never changed. msgspec's Struct,
since to define a dataclass costs forty times as much: nearly a millisecond each, a hundred times, at each start.
And what things are made of where each message needs one. What values and things mean is not known here."""

from typing import TypeVar

from msgspec import Struct as Frozen
from msgspec import json
from msgspec.structs import asdict, replace

__all__ = ["Frozen", "Light", "as_json", "asdict", "from_json", "replace"]

T = TypeVar("T")


class Light(Frozen, eq=False):
    """No value but a thing, which is equal to itself only, and may change. It is made in a third of the time that an
    `__init__` of its own would take: for what each message needs."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # not what it holds, which may be anybody's


def as_json(value: Frozen) -> bytes:
    """In one line, with the values in it."""
    return json.encode(value)


def from_json(octets: bytes, kind: type[T]) -> T:
    """The same again. Raises `ValueError` for what is none."""
    return json.decode(octets, type=kind)
