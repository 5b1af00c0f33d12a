"""What values are made of in this house: fields by name, compared by what they hold, never changed. msgspec's Struct,
since to define a dataclass costs forty times as much: nearly a millisecond each, a hundred times, at each start.
What values mean is not known here."""

from msgspec import Struct as Frozen
from msgspec.structs import asdict, fields, replace

__all__ = ["Frozen", "asdict", "fields", "replace"]
