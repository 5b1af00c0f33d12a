"""A message that goes out and comes back is the same: each property as it was or absent, headers value for value, the
body byte for byte."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from aiormq.abc import DeliveredMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame as frames
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from pipeline.amqp.convert import longest, to_message, to_properties
from pipeline.amqp.foreign import tolerate
from pipeline.message import Message
from tests.brokers import BrokerUnderTest

PROPERTIES = (
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
)

# An empty text is the same as none: AMQP has no other way to say it, and the client leaves it out.
words = st.none() | st.text(min_size=1, max_size=60)
names = st.text(min_size=1, max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(width=32, allow_nan=False)
    | st.text(max_size=50)
    | st.binary(max_size=50).map(bytearray)
    | st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda moment: moment.replace(microsecond=0)
    )
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
messages = st.builds(
    Message,
    st.binary(max_size=200),
    headers=st.dictionaries(names, values, max_size=5),
    content_type=words,
    content_encoding=words,
    delivery_mode=st.sampled_from(["persistent", "transient"]),
    priority=st.none() | st.integers(0, 255),
    correlation_id=words,
    reply_to=words,
    expiration=st.none() | st.integers(0, 2**32 - 1),
    message_id=words,
    timestamp=st.none() | st.integers(0, 2**63 - 1),
    type=words,
    user_id=words,
    app_id=words,
)


def delivered(properties: bytes, body: bytes = b"") -> Message:
    """What becomes of properties as they lie on the wire, with their flags in front."""
    tolerate()
    header = ContentHeader()
    header.unmarshal(b"\x00\x3c\x00\x00" + len(body).to_bytes(8) + properties)
    deliver = Basic.Deliver(
        consumer_tag="tag", delivery_tag=7, redelivered=True, exchange="orders", routing_key="order.paid"
    )
    # The channel plays no part in converting.
    return to_message(DeliveredMessage(delivery=deliver, header=header, body=body, channel=None), "q")  # type: ignore[arg-type]


@given(messages)
def test_a_message_comes_back_as_it_went_out(message: Message) -> None:
    tolerate()
    assert isinstance(message.body, bytes)

    back = delivered(to_properties(message).marshal(), message.body)

    assert back.body == message.body
    assert back.headers == message.headers
    for name in PROPERTIES:
        assert getattr(back, name) == getattr(message, name), name


@given(messages)
def test_headers_are_never_longer_than_foretold(message: Message) -> None:
    tolerate()
    without = Message(b"")
    alone = Message(b"", headers=message.headers)

    written = len(to_properties(alone).marshal()) - len(to_properties(without).marshal())

    assert written <= longest(message.headers)


def test_a_message_knows_where_it_comes_from() -> None:
    message = delivered(to_properties(Message(b"", message_id="m")).marshal())

    assert (message.queue, message.exchange, message.routing_key) == ("q", "orders", "order.paid")
    assert message.redelivered
    assert message.attempt == 1


def test_a_message_is_persistent_unless_it_says_otherwise() -> None:
    assert to_properties(Message(b"")).delivery_mode == 2
    assert to_properties(Message(b"", delivery_mode="transient")).delivery_mode == 1


def test_what_is_not_set_is_absent() -> None:
    properties = to_properties(Message(b""))

    assert {name: getattr(properties, name) for name in properties.__slots__ if getattr(properties, name)} == {
        "delivery_mode": 2
    }


def test_expiration_is_in_milliseconds() -> None:
    assert to_properties(Message(b"", expiration=5000)).expiration == "5000"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\xff\x00", bytearray(b"\xff\x00")),
        ((1, b"x"), [1, bytearray(b"x")]),
        ({"a": (1,)}, {"a": [1]}),
        (Decimal("1.5"), Decimal("1.5")),
    ],
)
def test_headers_that_amqp_has_no_type_for_take_the_nearest_one(value: object, written: object) -> None:
    headers = to_properties(Message(b"", headers={"h": value})).headers

    assert headers == {"h": written}


def test_a_header_needs_a_name_of_text() -> None:
    with pytest.raises(TypeError, match="the name of header 7 is not text"):
        to_properties(Message(b"", headers={"outer": {7: "x"}}))


# What other programs send


def test_text_that_is_not_utf_8_is_read_as_latin_1() -> None:
    # Flags of correlation_id, then a short string
    assert delivered(b"\x04\x00" + b"\x04caf\xe9").correlation_id == "café"


@pytest.mark.parametrize(
    ("number", "read"),
    [(0, 0), (1_700_000_000, 1_700_000_000), (1_700_000_000_123, 1_700_000_000_123), (2**64 - 1, 2**64 - 1)],
)
def test_a_timestamp_is_the_number_on_the_wire(number: int, read: int) -> None:
    message = delivered(b"\x00\x40" + number.to_bytes(8))

    assert message.timestamp == read
    assert to_properties(message).marshal() == b"\x10\x40" + b"\x02" + number.to_bytes(8)


def test_names_of_headers_that_are_not_utf_8_are_read_as_latin_1() -> None:
    inner = b"\x02\xe9eS\x00\x00\x00\x01x"
    fields = b"\x04caf\xe9I\x00\x00\x00\x07" + b"\x05outerF" + len(inner).to_bytes(4) + inner
    table = len(fields).to_bytes(4) + fields

    assert delivered(b"\x20\x00" + table).headers == {"café": 7, "outer": {"ée": "x"}}


def test_a_header_may_hold_a_time_outside_the_calendar() -> None:
    field = b"\x01tT" + (2**63).to_bytes(8)

    (moment,) = delivered(b"\x20\x00" + len(field).to_bytes(4) + field).headers.values()

    assert isinstance(moment, datetime)
    assert moment.year == 9999


def test_an_expiration_that_is_no_number_counts_as_absent() -> None:
    assert delivered(b"\x01\x00" + b"\x03abc").expiration is None


def test_what_could_be_read_before_is_read_as_before() -> None:
    tolerate()
    properties = Basic.Properties(correlation_id="ключ", timestamp=datetime(2024, 1, 2, tzinfo=UTC), headers={"a": "b"})
    _, _, header = frames.unmarshal(frames.marshal(ContentHeader(0, 0, properties), 1))

    assert isinstance(header, ContentHeader)
    assert header.properties == properties


class Latin(str):
    """A text that another program writes in another encoding."""

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1", errors)


async def test_a_foreign_message_does_not_end_the_connection(broker: BrokerUnderTest) -> None:
    tolerate()
    await broker.declare("q")
    async with broker.channel() as channel:
        underlay = await channel.get_underlay_channel()
        foreign = Basic.Properties(correlation_id=Latin("café"), message_id="m")
        await underlay.basic_publish(b"1", routing_key="q", properties=foreign)

    (message,) = await broker.get_all("q")
    assert message.correlation_id == "café"
