"""Field tables and the arguments of methods: what adds up is read as clients read it and comes out as it went in;
what does not is refused, and nothing else happens."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp import commands, decode, encode

from pipeline.embedded.wire import frames, tables
from pipeline.embedded.wire.refusals import Refusal
from tests.embedded import made_up

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(made_up.tables)
def test_tables_come_out_as_they_went_in(table: bytes) -> None:
    try:
        values = tables.decode(table)
    except ValueError:
        with pytest.raises(ValueError, match=r"table|not a number"):
            tables.check(table)
        return
    tables.check(table)
    octets = tables.encode_value(values)[5:]
    assert tables.decode(octets) == values
    assert tables.encode_value(tables.decode(octets))[5:] == octets


@many
@given(st.binary(max_size=60))
def test_octets_that_are_no_table_are_refused_and_nothing_else_happens(octets: bytes) -> None:
    sound = True
    try:
        tables.check(octets)
    except ValueError:
        sound = False
    with suppress(ValueError):
        tables.decode(octets)
        assert sound
        list(tables.fields(octets))


simple: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(),
    st.none(),
)
deep = st.recursive(
    simple,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@many
@given(st.dictionaries(st.text(max_size=20), deep, max_size=3))
def test_tables_of_a_client_are_read_as_the_client_reads_them(values: dict[str, Any]) -> None:
    octets = encode.field_table(values)
    assert tables.decode(octets[4:]) == decode.field_table(octets)[1]
    assert decode.field_table(tables.encode_value(values)[1:])[1] == values


def test_tables_in_tables_are_read_up_to_a_depth() -> None:
    def nested(kind: bytes, depth: int) -> bytes:
        inner = b""
        for _ in range(depth):
            field = kind + len(inner).to_bytes(4) + inner
            inner = b"\x01a" + field if kind == b"F" else field
        return inner if kind == b"F" else b"\x01a" + inner

    for kind in (b"F", b"A"):
        tables.check(nested(kind, tables.DEEPEST))
        assert tables.encode_value(tables.decode(nested(kind, tables.DEEPEST)))[5:] == nested(kind, tables.DEEPEST)
        for depth in (tables.DEEPEST + 1, 15_000):
            for act in (tables.check, tables.decode):
                with pytest.raises(ValueError, match="more than 64 tables in tables"):
                    act(nested(kind, depth))


def test_counts_in_a_history_are_long_as_rabbitmq_writes_them() -> None:
    assert tables.encode_value({"count": 1}) == b"F\0\0\0\x0f" + b"\x05countl" + (1).to_bytes(8)


@many
@given(st.data())
def test_methods_are_read_as_the_client_reads_them(data: st.DataObject) -> None:
    index = data.draw(st.sampled_from(sorted(commands.INDEX_MAPPING)))
    kind: Any = commands.INDEX_MAPPING[index]
    octets = data.draw(made_up.method(kind))
    method = kind.__new__(kind)
    try:
        read = frames.decode_method(octets)
        method.unmarshal(octets[4:])
    except (Refusal, ValueError, ArithmeticError, OSError):
        return  # one of them does not take these tables
    for name in kind.attributes():
        if kind.amqp_type(name) != "table" and hasattr(read, name):
            assert getattr(read, name) == getattr(method, name), name
