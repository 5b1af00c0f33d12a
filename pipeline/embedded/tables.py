"""Field tables as octets: where a field begins and ends and of which type it is, which the decoded values no
longer tell. What the values are is `frames`' business, what they mean is `arguments`'."""

from collections.abc import Iterator, Mapping
from typing import Any

# Sizes of values by type octet (specification 4.2.1 with RabbitMQ's errata); the others carry their length.
_SIZES = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"V\x00", 0),
    ord("D"): 5,
}
_LENGTH_IN_FRONT = frozenset(b"SxAF")

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


def fields(table: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Key, type and octets (key, type and value) of each field of a table without its length in front.
    Raises ValueError where the table does not add up."""
    at = 0
    try:
        while at < len(table):
            start = at
            at += 1 + table[at]
            key = table[start + 1 : at].decode(errors="surrogateescape")
            kind = table[at]
            at += 1
            if kind in _LENGTH_IN_FRONT:
                at += 4 + int.from_bytes(table[at : at + 4])
            else:
                at += _SIZES[kind]
            yield key, _KINDS.get(chr(kind), "void"), table[start:at]
    except (IndexError, KeyError):
        raise ValueError("the table ends too early or holds an unknown type") from None
    if at != len(table):
        raise ValueError("the table's last field is longer than the table")


def kinds(table: bytes) -> dict[str, str]:
    """The type of each field by its name."""
    return {key: kind for key, kind, _ in fields(table)}
