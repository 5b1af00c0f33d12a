"""Field tables with the type of each value, as octets and as values. Written beside pamqp, which hides the widths of
numbers, and which client and embedded broker share: a mistake that both make would not be seen."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Typed:
    """A value of a table with a type that its Python form does not tell; `kind` is RabbitMQ's word for it."""

    kind: str
    value: "Value"


# Plain forms: str is longstr, int is signedint, or long where it is too large for that; float is double.
Value: TypeAlias = "bool | int | float | str | Typed | list[Value] | dict[str, Value] | None"
Fields: TypeAlias = dict[str, Value]

_NUMBERS = {
    "byte": ("b", ">b"),
    "unsignedbyte": ("B", ">B"),
    "short": ("s", ">h"),
    "unsignedshort": ("u", ">H"),
    "signedint": ("I", ">i"),
    "unsignedint": ("i", ">I"),
    "long": ("l", ">q"),
    "float": ("f", ">f"),
    "double": ("d", ">d"),
    "timestamp": ("T", ">Q"),
}
_BY_OCTET = {ord(octet): (kind, struct.Struct(layout)) for kind, (octet, layout) in _NUMBERS.items()}
KINDS = frozenset({*_NUMBERS, "decimal", "binary"})  # those that a scenario may name with a tag


# Writing


def encode_table(table: Mapping[str, Value]) -> bytes:
    """Without its length in front; in the order given."""
    return b"".join(_with_length(key.encode(), 1) + _encode_value(value) for key, value in table.items())


def _encode_value(value: Value) -> bytes:
    match value:
        case None:
            return b"V"
        case bool():
            return b"t" + bytes([value])
        case int():
            return _number("signedint" if -(2**31) <= value < 2**31 else "long", value)
        case float():
            return _number("double", value)
        case str():
            return b"S" + _with_length(value.encode())
        case list():
            return b"A" + _with_length(b"".join(_encode_value(each) for each in value))
        case dict():
            return b"F" + _with_length(encode_table(value))
        case Typed(kind="binary", value=str() as digits):
            return b"x" + _with_length(bytes.fromhex(digits))
        case Typed(kind="decimal", value=[int() as scale, int() as digits]):
            return b"D" + struct.pack(">Bi", scale, digits)
        case Typed(kind=kind, value=int() | float() as number):
            return _number(kind, number)
    raise ValueError(f"no such value in a table: {value!r}")


def _number(kind: str, value: float) -> bytes:
    octet, layout = _NUMBERS[kind]
    return octet.encode() + struct.pack(layout, value)


def _with_length(octets: bytes, size: int = 4) -> bytes:
    return len(octets).to_bytes(size) + octets


# Reading


def decode_table(octets: bytes) -> Fields:
    """Without its length in front."""
    table, at = Fields(), 0
    while at < len(octets):
        key, at = _cut(octets, at, 1)
        table[text(key)], at = _decode_value(octets, at)
    return table


def _decode_value(octets: bytes, at: int) -> tuple[Value, int]:
    octet, at = octets[at], at + 1
    if octet in _BY_OCTET:
        kind, layout = _BY_OCTET[octet]
        (number,) = layout.unpack_from(octets, at)
        return number if kind in ("signedint", "double") else Typed(kind=kind, value=number), at + layout.size
    match chr(octet):
        case "V":
            return None, at
        case "t":
            return bool(octets[at]), at + 1
        case "D":
            return Typed(kind="decimal", value=list(struct.unpack_from(">Bi", octets, at))), at + 5
        case "S" | "F" | "x" | "A" as kind:
            inside, at = _cut(octets, at, 4)
            return _decode_inside(kind, inside), at
    raise ValueError(f"a table holds a value of the unknown type {chr(octet)!r}")


def _decode_inside(kind: str, octets: bytes) -> Value:
    match kind:
        case "S":
            return text(octets)
        case "F":
            return decode_table(octets)
        case "x":
            return Typed(kind="binary", value=octets.hex())
    values: list[Value] = []
    at = 0
    while at < len(octets):
        value, at = _decode_value(octets, at)
        values.append(value)
    return values


def _cut(octets: bytes, at: int, size: int) -> tuple[bytes, int]:
    """What stands there behind its length, and where it ends."""
    start = at + size
    end = start + int.from_bytes(octets[at:start])
    return octets[start:end], end


def text(octets: bytes) -> str:
    """What is no UTF-8 can be seen, and is not lost."""
    return octets.decode(errors="backslashreplace")
