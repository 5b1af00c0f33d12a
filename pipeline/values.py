"""What values are made of in this house: fields by name, compared by what they hold, never changed. msgspec's Struct,
since to define a dataclass costs forty times as much: nearly a millisecond each, a hundred times, at each start.
What values mean is not known here."""

from typing import TypeVar

from msgspec import Struct as Frozen
from msgspec import json
from msgspec.structs import asdict, replace

__all__ = ["Frozen", "as_json", "asdict", "from_json", "replace"]

T = TypeVar("T")


def as_json(value: Frozen) -> bytes:
    """In one line, with the values in it."""
    return json.encode(value)


def from_json(octets: bytes, kind: type[T]) -> T:
    """The same again. Raises `ValueError` for what is none."""
    return json.decode(octets, type=kind)
