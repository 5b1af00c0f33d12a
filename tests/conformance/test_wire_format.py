"""Octets, held against the specification and against pamqp, which was written by somebody else."""

import pytest
from pamqp import base, commands, frame, header

from tests.conformance import tables, wire
from tests.conformance.tables import Fields, Typed, Value

ALL_TYPES: dict[str, Value] = {
    "bool": True,
    "byte": Typed(kind="byte", value=-1),
    "unsignedbyte": Typed(kind="unsignedbyte", value=255),
    "short": Typed(kind="short", value=-300),
    "unsignedshort": Typed(kind="unsignedshort", value=65535),
    "signedint": -70000,
    "unsignedint": Typed(kind="unsignedint", value=2**32 - 1),
    "long": Typed(kind="long", value=-5),
    "float": Typed(kind="float", value=0.5),
    "double": 0.1,
    "decimal": Typed(kind="decimal", value=[2, 314]),
    "text": "слово",
    "binary": Typed(kind="binary", value="00ff"),
    "timestamp": Typed(kind="timestamp", value=1700000000),
    "nothing": None,
    "list": [1, "two", Typed(kind="byte", value=3), [False]],
    "table": {"a": {"b": 1}},
}


def test_a_table_of_all_types_comes_back() -> None:
    assert tables.decode_table(tables.encode_table(ALL_TYPES)) == ALL_TYPES


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (5, b"I\x00\x00\x00\x05"),
        (2**40, b"l\x00\x00\x01\x00\x00\x00\x00\x00"),
        (Typed(kind="byte", value=-1), b"b\xff"),
        (Typed(kind="unsignedshort", value=1), b"u\x00\x01"),
        ("ab", b"S\x00\x00\x00\x02ab"),
        (Typed(kind="binary", value="ff00"), b"x\x00\x00\x00\x02\xff\x00"),
        (Typed(kind="decimal", value=[2, 314]), b"D\x02\x00\x00\x01\x3a"),
        ([True, None], b"A\x00\x00\x00\x03t\x01V"),
        ({"k": False}, b"F\x00\x00\x00\x04\x01kt\x00"),
    ],
)
def test_values_are_written_as_the_specification_says(value: Value, octets: bytes) -> None:
    assert tables.encode_table({"k": value}) == b"\x01k" + octets


def test_a_value_that_no_table_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="no such value in a table"):
        tables.encode_table({"k": Typed(kind="decimal", value="2")})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("queue.declare", {"queue": "q", "durable": True, "auto_delete": True, "arguments": {"x-max-length": 100000}}),
        ("exchange.declare", {"exchange": "e", "type": "topic", "internal": True}),
        ("basic.publish", {"exchange": "e", "routing_key": "k", "mandatory": True}),
        ("basic.nack", {"delivery_tag": 7, "requeue": True}),
        ("basic.qos", {"prefetch_count": 10, "global": True}),
        ("connection.close", {"reply_code": 200, "reply_text": "bye"}),
    ],
)
def test_methods_are_what_pamqp_reads(name: str, values: Fields) -> None:
    octets = wire.frame(wire.METHOD, 3, wire.encode_method(name, values))

    size, channel, read = frame.unmarshal(octets)

    assert isinstance(read, base.Frame)
    assert (size, channel, wire.words(read.name)) == (len(octets), 3, name)
    ours = {"exchange_type": "type", "global_": "global"}
    seen = {ours.get(field, field): value for field, value in dict(read).items()}
    assert seen == {**{field: value for field, value in seen.items() if not value}, **values}


def test_a_delivery_is_read_as_pamqp_writes_it() -> None:
    method = commands.Basic.Deliver("t", 5, True, "e", "k")

    name, fields = wire.decode_method(method.index.to_bytes(4) + method.marshal())

    assert name == "basic.deliver"
    expected = {"consumer_tag": "t", "delivery_tag": 5, "redelivered": True, "exchange": "e", "routing_key": "k"}
    assert fields == expected


def test_properties_come_back_and_are_what_pamqp_reads() -> None:
    properties: Fields = {"content_type": "text/plain", "headers": {"a": 100000}, "priority": 0, "type": "t"}

    octets = wire.encode_header(5, properties)

    assert wire.decode_header(octets) == (5, properties)
    read = header.ContentHeader()
    read.unmarshal(octets)
    assert (read.body_size, read.properties.content_type, read.properties.message_type) == (5, "text/plain", "t")
    assert (read.properties.headers, read.properties.priority) == ({"a": 100000}, 0)


def test_names_that_are_not_text_are_octets() -> None:
    octets = wire.encode_method("basic.publish", {"routing_key": Typed(kind="binary", value="ff61")})

    assert octets == bytes.fromhex("003c0028 0000 00 02ff61 00")
    assert wire.decode_method(octets)[1]["routing_key"] == "\\xffa"
