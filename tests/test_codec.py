"""Bodies to values and back: what decides how a body is read, what is said when it does not fit, and round trips."""

import collections
import datetime
import decimal
import enum
import json
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, NewType, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec import LONGEST_SENTENCE, Content, DecodeError, EncodeError, check_annotation, decoder, encode
from pipeline.message import Message

NOTHING = Parameter.empty


@dataclass
class Order:
    id: int
    note: str = ""


class Basket(TypedDict):
    ids: list[int]


class Parcel(msgspec.Struct):
    weight: float


class Invoice(pydantic.BaseModel):
    id: int
    due: datetime.date | None = None


@pydantic.dataclasses.dataclass
class Positive:
    n: Annotated[int, pydantic.Field(gt=0)]


@dataclass
class Envelope:
    invoice: Invoice


@dataclass
class Tree:
    children: "list[Tree]"


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Strict:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise KeyError("n")


class Stranger:
    pass


Cents = NewType("Cents", int)
Words = Annotated[str, msgspec.Meta(max_length=5)]
DAY = datetime.date(2026, 1, 31)


def read(
    body: bytes, annotation: object = NOTHING, content_type: str | None = None, content: Content | None = None
) -> object:
    return decoder(annotation, content)(Message(body, content_type=content_type))


@pytest.mark.parametrize(
    ("body", "annotation", "content_type", "value"),
    [
        # The content type decides.
        (b'{"id": 4}', NOTHING, "application/json", {"id": 4}),
        (b'{"id": 4}', Any, "application/json", {"id": 4}),
        (b'{"id": 4}', object, "application/json", {"id": 4}),
        (b'{"id": 4}', dict, "Application/JSON; charset=utf-8", {"id": 4}),
        (b'{"id": 4}', Order, "application/vnd.shop.order+json", Order(4)),
        (b'"text in JSON"', str, "application/json", "text in JSON"),
        (b'{"id": 4}', bytes, "application/json", b'{"id": 4}'),
        (b'{"id": 4}', bytearray, "application/json", bytearray(b'{"id": 4}')),
        (b"null", Order | None, "application/json", None),
        ("grün".encode(), NOTHING, "text/plain", "grün"),
        ("grün".encode("latin-1"), NOTHING, "text/plain; charset=ISO-8859-1", "grün"),
        ("grün".encode("latin-1"), str, 'text/plain;format=flowed; Charset="latin-1"', "grün"),
        ("grün".encode("latin-1"), bytes, "text/plain; charset=latin-1", "grün".encode("latin-1")),
        (b"42", int, "text/plain", 42),
        (b"2026-01-31", datetime.date, "text/plain", DAY),
        (b"null", str | None, "text/plain", "null"),
        (b"", str, "text/plain", ""),
        (b"hello", Words, "text/plain", "hello"),
        (msgspec.msgpack.encode({"id": 4}), NOTHING, "application/msgpack", {"id": 4}),
        (msgspec.msgpack.encode({"id": 4}), Order, "application/x-msgpack", Order(4)),
        (msgspec.msgpack.encode({"id": 4}), Invoice, "application/msgpack", Invoice(id=4)),
        # It says nothing, or nothing that we know: the annotation decides.
        (b'{"id": 4}', NOTHING, None, b'{"id": 4}'),
        (b'{"id": 4}', Any, None, b'{"id": 4}'),
        (b'{"id": 4}', bytes, None, b'{"id": 4}'),
        (b'{"id": 4}', bytes | None, None, b'{"id": 4}'),
        (b'{"id": 4}', memoryview, None, b'{"id": 4}'),
        (b'{"id": 4}', str, None, '{"id": 4}'),
        (b'{"id": 4}', str | None, None, '{"id": 4}'),
        (b'{"id": 4}', dict[str, int], None, {"id": 4}),
        (b'{"id": 4}', Order, "application/x-unheard-of", Order(4)),
        (b'{"id": 4}', Order, "application/octet-stream", Order(4)),
        (b'{"id": 4}', Order, "", Order(4)),
        (b"\x00\xff", NOTHING, "application/octet-stream", b"\x00\xff"),
        # What it becomes.
        (b'{"id": 4, "note": "n", "more": 1}', Order, None, Order(4, "n")),
        (b'{"ids": [1, 2]}', Basket, None, {"ids": [1, 2]}),
        (b'{"weight": 2}', Parcel, None, Parcel(2.0)),
        (b'[{"id": 1}]', list[Order], None, [Order(1)]),
        (b"7", Annotated[int, msgspec.Meta(ge=1)], None, 7),
        (b"7", Cents, None, 7),
        (b'"red"', Colour, None, Colour.RED),
        (b'"2026-01-31"', datetime.date, None, DAY),
        (b'"1.10"', decimal.Decimal, None, decimal.Decimal("1.10")),
        (b'{"id": 4, "due": "2026-01-31"}', Invoice, None, Invoice(id=4, due=DAY)),
        (b'[{"id": 4}, null]', list[Invoice | None], None, [Invoice(id=4), None]),
        (b'{"invoice": {"id": 4}}', Envelope, None, Envelope(Invoice(id=4))),
        (b'{"n": 1}', Positive, None, Positive(1)),
        (b'{"children": [{"children": []}]}', Tree, None, Tree([Tree([])])),
    ],
)
def test_a_body_is_read_as_type_and_annotation_say(
    body: bytes, annotation: object, content_type: str | None, value: object
) -> None:
    assert check_annotation(annotation) is None
    read_value = read(body, annotation, content_type)
    assert read_value == value
    assert type(read_value) is (memoryview if annotation is memoryview else type(value))


@pytest.mark.parametrize(
    ("content", "annotation", "body", "value"),
    [
        ("json", NOTHING, b"[1]", [1]),
        ("json", Order, b'{"id": 4}', Order(4)),
        ("text", NOTHING, b"[1]", "[1]"),
        ("bytes", NOTHING, b"[1]", b"[1]"),
        ("msgpack", NOTHING, msgspec.msgpack.encode([1]), [1]),
        ("json", bytes, b"[1]", b"[1]"),
    ],
)
def test_content_overrules_what_the_message_says(
    content: Content, annotation: object, body: bytes, value: object
) -> None:
    for content_type in (None, "text/plain", "application/json", "application/msgpack", "image/png"):
        assert read(body, annotation, content_type, content) == value


def test_the_charset_counts_for_text_that_content_asks_for() -> None:
    assert read("grün".encode("latin-1"), NOTHING, "text/html; charset=latin-1", "text") == "grün"


@pytest.mark.parametrize(
    ("body", "annotation", "content_type", "sentence"),
    [
        (b"", Order, None, "the body is empty, where JSON was expected"),
        (b"", NOTHING, "application/msgpack", "the body is empty, where msgpack was expected"),
        (b"{", dict, None, "the body is not JSON: Input data was truncated"),
        (b"\xff", NOTHING, "application/json", "the body is not JSON: JSON is malformed: invalid character (byte 0)"),
        (b"\xc1", NOTHING, "application/msgpack", "the body is not msgpack: MessagePack data is malformed: "),
        (b"\xff", str, None, "the body is not text in the charset it claims: invalid start byte at byte 0 (utf-8)"),
        (b"a", str, "text/plain; charset=klingon", "the body is not text in the charset it claims: LookupError: "),
        (b"a", str, "text/plain; charset=hex", "the body is not text in the charset it claims: LookupError: "),
        (b'{"id": "x"}', Order, None, "the body does not fit Order: Expected `int`, got `str` - at `$.id`"),
        (b"{}", Order, None, "the body does not fit Order: Object missing required field `id`"),
        (b'{"id": "x"}', Invoice, None, "the body does not fit Invoice: id: Input should be a valid integer"),
        (b"x", Invoice, None, "the body does not fit Invoice: the body: Invalid JSON: expected value at line 1"),
        (b'{"n": 0}', Positive, None, "the body does not fit Positive: n: Input should be greater than 0"),
        (b'{"n": -1}', Strict, None, "the body does not fit Strict: KeyError: 'n'"),
        (b'"secret"', Colour, None, "the body does not fit Colour: Invalid enum value"),
        (
            b'{"id": 4}',
            Order,
            "text/plain",
            "the body does not fit Order: Expected `object`, got `str`; "
            "`content: json` on the consumer reads a text as JSON",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(
    body: bytes, annotation: object, content_type: str | None, sentence: str
) -> None:
    with pytest.raises(DecodeError) as told:
        read(body, annotation, content_type)
    assert str(told.value).startswith(sentence)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("body", [b"[" * 1_000_000, b'{"children":[' * 100_000])
@pytest.mark.parametrize("annotation", [Any, Tree])
def test_a_body_nested_without_end_is_refused(body: bytes, annotation: object) -> None:
    with pytest.raises(DecodeError):
        read(body, annotation, "application/json")


def test_a_sentence_stays_short_whatever_the_body_holds() -> None:
    many = collections.OrderedDict.fromkeys((f"field{n}" * 50 for n in range(50)), 1)

    class Closed(msgspec.Struct, forbid_unknown_fields=True):
        pass

    with pytest.raises(DecodeError) as told:
        read(json.dumps(many).encode(), Closed)
    assert len(str(told.value)) == LONGEST_SENTENCE


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-" + "long" * 100])
def test_a_compressed_body_is_not_unpacked(encoding: str) -> None:
    message = Message(b"\x1f\x8b", content_type="application/json", content_encoding=encoding)
    with pytest.raises(DecodeError, match="content_encoding") as told:
        decoder(Order, None)(message)
    assert len(str(told.value)) < LONGEST_SENTENCE
    assert decoder(bytes, None)(message) == b"\x1f\x8b"


@pytest.mark.parametrize("encoding", [None, "", "identity", "utf-8", "binary"])
def test_an_encoding_that_changes_nothing_is_ignored(encoding: str | None) -> None:
    message = Message(b'{"id": 4}', content_type="application/json", content_encoding=encoding)
    assert decoder(Order, None)(message) == Order(4)


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (Stranger, 'a body cannot be converted to "Stranger", which is neither a dataclass, a TypedDict, a '),
        (list[Stranger], 'a body cannot be converted to "Stranger", which is neither'),
        (AsyncIterator[int], 'a body cannot be converted to "AsyncIterator", which is neither'),
        (list[int] | tuple[int], "a body cannot be converted to list[int] | tuple[int]: Type unions may not contain"),
        (5, "a body cannot be converted to 5: Type '5' is not supported"),
        (list[Parcel | Invoice], "a body cannot be converted to list"),
    ],
)
def test_an_annotation_that_no_body_can_become_is_found_at_once(annotation: object, sentence: str) -> None:
    found = check_annotation(annotation)
    assert found is not None
    assert found.startswith(sentence)
    assert len(found) <= LONGEST_SENTENCE


def test_an_annotation_that_contradicts_content_is_found_at_once() -> None:
    assert check_annotation(Order, "bytes") == "`content: bytes` hands over bytes, which do not become Order"
    assert check_annotation(bytes, "bytes") is None
    assert check_annotation(NOTHING, "bytes") is None
    assert check_annotation(Order, "json") is None


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        (b"\x00", b"\x00", None),
        (bytearray(b"b"), b"b", None),
        (memoryview(b"m"), b"m", None),
        ("grün", "grün".encode(), "text/plain; charset=utf-8"),
        ({"id": 4}, b'{"id":4}', "application/json"),
        (True, b"true", "application/json"),
        (None, b"null", "application/json"),
        (Order(4, "n"), b'{"id":4,"note":"n"}', "application/json"),
        (Parcel(1.5), b'{"weight":1.5}', "application/json"),
        ([Invoice(id=4, due=DAY)], b'[{"id":4,"due":"2026-01-31"}]', "application/json"),
        (Positive(1), b'{"n":1}', "application/json"),
        ({"day": DAY}, b'{"day":"2026-01-31"}', "application/json"),
        (decimal.Decimal("1.10"), b'"1.10"', "application/json"),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"', "application/json"),
        ({7}, b"[7]", "application/json"),
        (2**70, b"1180591620717411303424", "application/json"),
    ],
)
def test_a_value_becomes_a_body(value: object, body: bytes, content_type: str | None) -> None:
    assert encode(value) == (body, content_type)


def holding_itself() -> list[object]:
    values: list[object] = []
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Stranger(), "a Stranger cannot be sent as a body: JSON cannot hold a Stranger here"),
        ([Stranger()], "a list cannot be sent as a body: JSON cannot hold a Stranger here"),
        ({(1, 2): 3}, "a dict cannot be sent as a body: JSON cannot hold a tuple here"),
        ("\ud800", "a str cannot be sent as a body: "),
        (holding_itself(), "a list nested too deeply, or holding itself, cannot be sent"),
        ((n for n in "ab"), "a generator cannot be sent as a body: JSON cannot hold a generator here"),
    ],
)
def test_what_cannot_be_sent_is_told_in_a_sentence(value: object, sentence: str) -> None:
    with pytest.raises(EncodeError) as told:
        encode(value)
    assert str(told.value).startswith(sentence)


def test_pydantic_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert read(b'{"id": 4}', Order) == Order(4)
    assert encode(Order(4))[0] == b'{"id":4,"note":""}'
    with pytest.raises(DecodeError, match="KeyError"):
        read(b'{"n": -1}', Strict)
    with pytest.raises(EncodeError):
        encode(Stranger())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4),
    max_leaves=20,
)


@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_any_json_value_survives_the_way_there_and_back(value: object) -> None:
    body, content_type = encode(value)
    assert read(body, NOTHING, content_type) == value
    assert json.loads(body) == value


@given(st.text() | st.binary())
def test_any_text_and_any_bytes_survive_the_way_there_and_back(value: str | bytes) -> None:
    body, content_type = encode(value)
    assert read(body, NOTHING, content_type) == value
    assert read(body, type(value)) == value


@given(st.builds(Order, st.integers(), st.text()))
def test_a_dataclass_survives_the_way_there_and_back(order: Order) -> None:
    body, content_type = encode(order)
    assert read(body, Order, content_type) == order


@given(
    st.binary(),
    st.sampled_from([NOTHING, bytes, str, int, dict, Order, Basket, Parcel, Invoice, Tree, Colour]),
    st.none() | st.text(max_size=30) | st.sampled_from(["application/json", "text/plain", "application/msgpack"]),
)
def test_no_body_does_more_than_not_fit(body: bytes, annotation: object, content_type: str | None) -> None:
    try:
        read(body, annotation, content_type)
    except DecodeError as told:
        assert 0 < len(str(told)) <= LONGEST_SENTENCE
