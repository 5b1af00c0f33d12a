"""Field tables (specification 4.2.5.5, types as in RabbitMQ's errata) between octets and values. Strict where a table
does not add up, exact about types, which the values no longer tell. What they mean is `arguments`' business."""

import math
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

SHORT_MAX = 255  # octets of a short string
DEEPEST = 64  # tables in tables; far below what Python's stack holds, far above what anybody sends
_TOO_DEEP = f"more than {DEEPEST} tables in tables"

# Sizes of values by type octet; the others carry their length.
_SIZES = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"V", 0),
    ord("D"): 5,
}
_LENGTH_IN_FRONT = frozenset(b"SxAF")
_TABLE, _ARRAY, _FLOAT, _DOUBLE = b"FAfd"
_TO_BE_LOOKED_INTO = frozenset((_TABLE, _ARRAY, _FLOAT, _DOUBLE))

_LAYOUTS = {ord(kind): struct.Struct(">" + octets) for kind, octets in zip("tbBsuIilLfdT", "?bBhHiIqqfdQ", strict=True)}

# The words RabbitMQ uses in its refusals.
_KINDS = {
    "t": "bool",
    "b": "byte",
    "B": "unsignedbyte",
    "s": "short",
    "u": "unsignedshort",
    "I": "signedint",
    "i": "unsignedint",
    "l": "long",
    "L": "long",
    "f": "float",
    "d": "double",
    "D": "decimal",
    "S": "longstr",
    "A": "array",
    "F": "table",
    "T": "timestamp",
    "V": "void",
    "x": "binary",
}
INTEGERS = frozenset({"byte", "unsignedbyte", "short", "unsignedshort", "signedint", "unsignedint", "long"})


class Table(dict[str, Any]):
    """Arguments of a declaration: values by name, with the type each of them had on the wire."""

    def __init__(self, values: Mapping[str, object], kinds: Mapping[str, str]) -> None:
        super().__init__(values)
        self.kinds = kinds


# From octets. A table is handed in without its length in front, except where it lies among other octets.


def fields(table: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Key, type and octets (key, type and value) of each field. Raises ValueError where the table does not add up;
    what lies deeper is not looked at."""
    for start, value, end in _parts(table, 0, len(table), keys=True):
        key = table[start + 1 : value - 1].decode(errors="surrogateescape")
        yield key, _KINDS[chr(table[value - 1])], table[start:end]


def kinds(table: bytes) -> dict[str, str]:
    """The type of each field by its name."""
    return {key: kind for key, kind, _ in fields(table)}


def check(table: bytes) -> None:
    """Raises ValueError if `decode` would, without its work."""
    waiting = [(0, len(table), True, DEEPEST)]
    while waiting:
        at, end, keys, deeper = waiting.pop()
        for _, value, behind in _parts(table, at, end, keys=keys):
            kind = table[value - 1]
            if kind not in _TO_BE_LOOKED_INTO:
                continue
            if kind not in (_TABLE, _ARRAY):
                _number(kind, table, value)
            elif deeper:
                waiting.append((value + 4, behind, kind == _TABLE, deeper - 1))
            else:
                raise ValueError(_TOO_DEEP)


def decode(table: bytes) -> dict[str, Any]:
    """Its values by name. Raises ValueError where it does not add up, or has more than `DEEPEST` tables in tables."""
    return _table(table, 0, len(table), DEEPEST)


def _parts(octets: bytes, at: int, end: int, *, keys: bool) -> Iterator[tuple[int, int, int]]:
    """Of each field of a table, or of each value of an array, which has no keys: where it begins, where its value
    begins behind the octet of its type, and where it ends."""
    try:
        while at < end:
            start = at
            if keys:
                at += 1 + octets[at]
            kind = octets[at]
            value = at = at + 1
            if kind in _LENGTH_IN_FRONT:
                at += 4 + int.from_bytes(octets[at : at + 4])
            else:
                at += _SIZES[kind]
            if at > end:
                break
            yield start, value, at
    except (IndexError, KeyError):
        raise ValueError("the table ends too early or holds an unknown type") from None
    if at != end:
        raise ValueError("the table's last field is longer than the table")


def _table(octets: bytes, at: int, end: int, deeper: int) -> dict[str, Any]:
    return {
        octets[start + 1 : value - 1].decode(errors="surrogateescape"): _value(octets, value, behind, deeper)
        for start, value, behind in _parts(octets, at, end, keys=True)
    }


def _value(octets: bytes, at: int, end: int, deeper: int) -> Any:
    kind = octets[at - 1]
    if kind in (_TABLE, _ARRAY):
        if not deeper:
            raise ValueError(_TOO_DEEP)
        if kind == _TABLE:
            return _table(octets, at + 4, end, deeper - 1)
        parts = _parts(octets, at + 4, end, keys=False)
        return [_value(octets, value, behind, deeper - 1) for _, value, behind in parts]
    match chr(kind):
        case "S":
            return text(octets[at + 4 : end])
        case "x":
            return bytearray(octets[at + 4 : end])
        case "V":
            return None
        case "D":
            return Decimal(int.from_bytes(octets[at + 1 : end])).scaleb(-octets[at])
        case "T":
            return _moment(_number(kind, octets, at))
    return _number(kind, octets, at)


def _number(kind: int, octets: bytes, at: int) -> Any:
    """RabbitMQ has no numbers that are not numbers, and takes none."""
    (number,) = _LAYOUTS[kind].unpack_from(octets, at)
    if not math.isfinite(number):
        raise ValueError("not a number")
    return number


def _moment(seconds: int) -> datetime | int:
    """Moments after the year 9999 stay numbers."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds


def text(octets: bytes) -> str | bytes:
    """A long string is text by custom only."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets


# To octets, with the types RabbitMQ chooses


def short(text: str) -> bytes:
    """A short string with its length in front."""
    octets = text.encode(errors="surrogateescape")
    return bytes((len(octets),)) + octets


def encode_value(value: Any) -> bytes:
    """A table's value with its type octet in front."""
    match value:
        case bool():
            return b"t" + bytes((value,))
        case int():
            # Beyond 64 bits with a sign are only moments after the year 9999, see `_moment`.
            return b"T" + value.to_bytes(8) if value >= 1 << 63 else b"l" + value.to_bytes(8, signed=True)
        case float():
            return b"d" + struct.pack(">d", value)
        case str():
            return b"S" + _long(value.encode(errors="surrogateescape"))
        case bytearray():
            return b"x" + _long(value)
        case bytes():
            return b"S" + _long(value)
        case datetime():
            return b"T" + int(value.timestamp()).to_bytes(8)
        case Decimal():
            _, digits, exponent = value.as_tuple()
            assert isinstance(exponent, int) and exponent <= 0  # as `_value` makes them
            return b"D" + bytes((-exponent,)) + int("".join(map(str, digits))).to_bytes(4)
        case list():
            return b"A" + _long(b"".join(map(encode_value, value)))
        case dict():
            return b"F" + _long(b"".join(short(key) + encode_value(each) for key, each in value.items()))
        case None:
            return b"V"
    raise TypeError(f"no field of a table can be {type(value).__name__}")


def _long(octets: bytes | bytearray) -> bytes:
    return len(octets).to_bytes(4) + octets
