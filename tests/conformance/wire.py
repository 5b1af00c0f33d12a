"""Frames of AMQP 0-9-1 as the suite writes and reads them: methods and content headers. Names and types of fields come
from pamqp's copy of the specification; the codec does not, since client and embedded broker share pamqp's. Field
tables are `tables`' business, what is sent when is the player's."""

import struct
from collections.abc import Mapping

from pamqp import base, commands

from tests.conformance.tables import Fields, Typed, Value, decode_table, encode_table, text

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"

# Methods and content headers


def words(name: str) -> str:
    """`Queue.DeclareOk` is `queue.declare-ok`."""
    group, _, rest = name.partition(".")
    return group.lower() + "." + "".join("-" + c.lower() if c.isupper() else c for c in rest).lstrip("-")


_BY_INDEX: dict[int, type[base.Frame]] = commands.INDEX_MAPPING
METHODS = {words(kind.name): kind for kind in _BY_INDEX.values()}
# The specification's names, where pamqp has others.
_OURS = {
    "exchange_type": "type",
    "message_type": "type",
    "global_": "global",
}


def fields_of(kind: type[base.Frame] | type[base.BasicProperties]) -> dict[str, str]:
    """Name to type, in the order of the wire."""
    return {_OURS.get(name, name): kind.amqp_type(name) for name in kind.attributes()}


PROPERTIES = fields_of(commands.Basic.Properties)


def encode_method(name: str, values: Mapping[str, Value]) -> bytes:
    """The payload of a method frame. A field without a value is 0, empty or false."""
    kind = METHODS[name]
    octets, bits = kind.index.to_bytes(4), ""
    for field, type_ in fields_of(kind).items():
        if type_ == "bit":
            bits = ("1" if values.get(field) else "0") + bits
            continue
        octets += _packed(bits) + _encode(type_, values.get(field))
        bits = ""
    return octets + _packed(bits)


def decode_method(payload: bytes) -> tuple[str, Fields]:
    kind = _BY_INDEX[int.from_bytes(payload[:4])]
    at, bit, values = 4, 0, Fields()
    for field, type_ in fields_of(kind).items():
        if type_ == "bit":  # a method that a broker sends has at most a few: they fit one octet
            values[field] = bool(payload[at] >> bit & 1)
            bit += 1
        else:
            at += bit > 0
            values[field], at = _decode(type_, payload, at)
            bit = 0
    return words(kind.name), values


def encode_header(size: int, properties: Mapping[str, Value]) -> bytes:
    """The payload of a content header frame of class basic."""
    flags, octets = 0, b""
    for place, (name, type_) in enumerate(PROPERTIES.items()):
        if name in properties:
            flags |= 1 << 15 - place
            octets += _encode(type_, properties[name])
    return struct.pack(">HHQH", commands.Basic.frame_id, 0, size, flags) + octets


def decode_header(payload: bytes) -> tuple[int, Fields]:
    """Size of the body, and the properties that are there."""
    _, _, size, flags = struct.unpack_from(">HHQH", payload)
    at, properties = 14, Fields()
    for place, (name, type_) in enumerate(PROPERTIES.items()):
        if flags >> 15 - place & 1:
            properties[name], at = _decode(type_, payload, at)
    return size, properties


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def _packed(bits: str) -> bytes:
    return bytes([int(bits, 2)]) if bits else b""


# Fields

_INTEGERS = {"octet": 1, "short": 2, "long": 4, "longlong": 8, "timestamp": 8}
_LENGTHS = {"shortstr": 1, "longstr": 4, "table": 4}


def _encode(type_: str, value: Value) -> bytes:
    if type_ in _INTEGERS:
        assert value is None or isinstance(value, int)
        return (value or 0).to_bytes(_INTEGERS[type_])
    if type_ == "table":
        assert value is None or isinstance(value, dict)
        octets = encode_table(value or {})
    else:
        octets = _octets(value or "")
    return len(octets).to_bytes(_LENGTHS[type_]) + octets


def _decode(type_: str, octets: bytes, at: int) -> tuple[Value, int]:
    if type_ in _INTEGERS:
        end = at + _INTEGERS[type_]
        return int.from_bytes(octets[at:end]), end
    start = at + _LENGTHS[type_]
    end = start + int.from_bytes(octets[at:start])
    return decode_table(octets[start:end]) if type_ == "table" else text(octets[start:end]), end


def _octets(value: Value) -> bytes:
    """Of a string, or of octets that are none: `!binary ff00`."""
    if isinstance(value, Typed):
        assert value.kind == "binary" and isinstance(value.value, str)
        return bytes.fromhex(value.value)
    assert isinstance(value, str)
    return value.encode()
