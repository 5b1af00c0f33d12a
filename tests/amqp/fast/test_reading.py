"""What arrives, from literal octets: every property, foreign ones too, reads as it does through the client, and nothing
that can lie in a message raises or hangs."""

import pytest
from aiormq.abc import DeliveredMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame as codec
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from pipeline.amqp.convert import to_message, to_properties
from pipeline.amqp.fast import reading
from pipeline.amqp.fast.deliveries import Deliveries, FastDelivery
from pipeline.amqp.foreign import tolerate
from pipeline.message import Message
from tests.amqp.fast.hand import Hand
from tests.amqp.fast.octets import attributes, content, deliver_method, delivered, frame, method, pieces, short
from tests.amqp.test_convert import messages, names

places = st.text(max_size=60)


def received(*readings: bytes, no_ack: bool = False) -> list[FastDelivery]:
    """What channel 1 is delivered of these octets."""
    found: list[FastDelivery] = []
    with Hand(1) as hand:
        deliveries = Deliveries(1, hand.switch, queue="q", no_ack=no_ack, receive=found.extend)
        assert hand.switch.claim(1, deliveries)
        hand.receive(*readings)
        assert not hand.reader.heard
    return found


def message_of(*readings: bytes) -> Message:
    (delivery,) = received(*readings)
    return delivery.message


# Literal octets


def test_a_delivery_is_read_at_the_offsets_of_the_specification() -> None:
    octets = (
        # basic.deliver: type 1, channel 1, size 23; class 60, method 60; "ct", tag 258, redelivered, "ex", "r.k"
        b"\x01\x00\x01\x00\x00\x00\x17\x00\x3c\x00\x3c\x02ct\x00\x00\x00\x00\x00\x00\x01\x02\x01\x02ex\x03r.k\xce"
        # content header: type 2, channel 1, size 14; class 60, weight 0, body size 3, no properties
        b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\xce"
        b"\x03\x00\x01\x00\x00\x00\x03abc\xce"
    )
    message = message_of(octets)

    assert (message.body, message.queue, message.exchange, message.routing_key) == (b"abc", "q", "ex", "r.k")
    assert message.redelivered is True
    unsaid = {name: value for name, value in attributes(message).items() if value is None}
    assert set(unsaid) == {
        *("app_id", "content_encoding", "content_type", "correlation_id", "delivery_mode", "expiration"),
        *("message_id", "priority", "reply_to", "timestamp", "type", "user_id"),
    }
    assert message.headers == {}


EVERY_PROPERTY = (
    b"\xff\xf8"  # bits 15 to 3: all thirteen
    b"\x0atext/plain"
    b"\x04gzip"
    b"\x00\x00\x00\x07\x01hI\x00\x00\x00\x2a"
    b"\x01"  # delivery-mode: transient
    b"\x09"  # priority
    b"\x04corr\x05reply\x045000\x02id"
    b"\x00\x00\x00\x00\x65\x53\xf1\x00"
    b"\x04type\x04user\x03app"
)


def test_every_property_is_read_in_the_order_of_its_flag() -> None:
    message = message_of(delivered(1, 7, b"", EVERY_PROPERTY))

    assert attributes(message) == {
        "body": b"",
        "queue": "q",
        "exchange": "",
        "routing_key": "q",
        "redelivered": False,
        "attempt": 1,
        "content_type": "text/plain",
        "content_encoding": "gzip",
        "headers": {"h": 42},
        "delivery_mode": "transient",
        "priority": 9,
        "correlation_id": "corr",
        "reply_to": "reply",
        "expiration": 5000,
        "message_id": "id",
        "timestamp": 1_700_000_000,
        "type": "type",
        "user_id": "user",
        "app_id": "app",
    }


@pytest.mark.parametrize(
    ("properties", "name", "value"),
    [
        (b"\x80\x00\x01x", "content_type", "x"),
        (b"\x40\x00\x01x", "content_encoding", "x"),
        (b"\x20\x00\x00\x00\x00\x04\x01xt\x01", "headers", {"x": True}),
        (b"\x10\x00\x02", "delivery_mode", "persistent"),
        (b"\x10\x00\x07", "delivery_mode", None),
        (b"\x08\x00\x00", "priority", 0),
        (b"\x04\x00\x01x", "correlation_id", "x"),
        (b"\x02\x00\x01x", "reply_to", "x"),
        (b"\x01\x00\x0212", "expiration", 12),
        (b"\x01\x00\x02ab", "expiration", None),
        (b"\x00\x80\x01x", "message_id", "x"),
        (b"\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01", "timestamp", 1),
        (b"\x00\x40\xff\xff\xff\xff\xff\xff\xff\xff", "timestamp", 2**64 - 1),
        (b"\x00\x20\x01x", "type", "x"),
        (b"\x00\x10\x01x", "user_id", "x"),
        (b"\x00\x08\x01x", "app_id", "x"),
        (b"\x00\x0c\x01x\x01y", "app_id", "x"),  # with cluster-id, which is reserved
        (b"\x00\x81\x00\x01\x00\x00\x01x", "message_id", "x"),  # three words of flags
        (b"\x04\x00\x04caf\xe9", "correlation_id", "café"),  # not UTF-8
        (b"\x04\x00\x05caf\xc3\xa9", "correlation_id", "café"),
        (b"\x04\x00\x00", "correlation_id", ""),
    ],
)
def test_a_property_alone(properties: bytes, name: str, value: object) -> None:
    assert getattr(message_of(delivered(1, 1, b"x", properties)), name) == value


def test_the_names_of_a_delivery_may_be_as_long_as_a_short_string() -> None:
    longest = "k" * 255
    octets = deliver_method(1, 2**64 - 1, consumer=longest, exchange=longest, routing_key=b"\xe9" * 255)
    message = message_of(octets + content(1, b"x"))

    assert (message.exchange, message.routing_key) == (longest, "é" * 255)


@given(where=st.lists(st.tuples(*[st.sampled_from(("", "a", "bb", "ccc"))] * 3), min_size=1, max_size=12))
def test_deliveries_behind_each_other_differ_in_all_their_names(where: list[tuple[str, str, str]]) -> None:
    # Given deliveries of which some begin alike, some are only as long, and some are neither
    octets = [
        deliver_method(1, tag, consumer=consumer, exchange=exchange, routing_key=key) + content(1, b"%d" % tag)
        for tag, (consumer, exchange, key) in enumerate(where, 1)
    ]

    found = received(b"".join(octets))
    assert [(each.message.exchange, each.message.routing_key) for each in found] == [each[1:] for each in where]
    assert [(each._tag, each.message.body) for each in found] == [
        (tag, b"%d" % tag) for tag in range(1, len(where) + 1)
    ]


@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 8176, 8177, 20_000])
def test_a_body_is_as_many_frames_as_it_needs(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)

    assert message_of(delivered(1, 1, body[:size], most=4088)).body == body[:size]


def test_a_body_may_have_empty_frames_between_the_others() -> None:
    octets = deliver_method(1, 1) + content(1, b"")[:11] + (6).to_bytes(8) + b"\x00\x00\xce"
    octets += pieces(1, b"abc") + frame(3, 1, b"") + pieces(1, b"def")

    assert message_of(octets).body == b"abcdef"


def test_without_acknowledgement_a_delivery_is_settled_from_the_beginning() -> None:
    (delivery,) = received(delivered(1, 1, b"x"), no_ack=True)

    with pytest.raises(Exception, match="was acknowledged by the broker"):
        delivery._claim()


# As the client has it


def through_the_client(octets: bytes) -> Message:
    """What the plain line makes of a delivery in one body frame."""
    tolerate()
    parts = []
    while octets:
        read, _, part = codec.unmarshal(octets)
        parts.append(part)
        octets = octets[read:]
    deliver, header, *bodies = parts
    assert isinstance(deliver, Basic.Deliver)
    assert isinstance(header, ContentHeader)
    body = b"".join(each.value for each in bodies)  # type: ignore[union-attr]
    # The channel plays no part in converting.
    return to_message(DeliveredMessage(delivery=deliver, header=header, body=body, channel=None), "q")  # type: ignore[arg-type]


def marshalled(message: Message, *, exchange: str, routing_key: str, redelivered: bool) -> bytes:
    """A delivery whose properties the client's codec has written."""
    tolerate()
    # The codec writes fewer names of exchanges than it reads.
    deliver = deliver_method(1, 3, redelivered=redelivered, exchange=exchange, routing_key=routing_key)
    header = ContentHeader(0, len(message.body), to_properties(message))
    return deliver + codec.marshal(header, 1) + pieces(1, message.body)


@given(message=messages, exchange=places, routing_key=places, redelivered=st.booleans())
def test_a_delivery_reads_as_it_does_through_the_client(
    message: Message, exchange: str, routing_key: str, redelivered: bool
) -> None:
    octets = marshalled(message, exchange=exchange, routing_key=routing_key, redelivered=redelivered)

    assert attributes(message_of(octets)) == attributes(through_the_client(octets))


@given(
    text=st.binary(max_size=255),
    number=st.integers(0, 2**64 - 1),
    mode=st.integers(0, 255),
    expiration=st.binary(max_size=20),
    name=st.binary(max_size=30),
    place=st.binary(max_size=255),
)
def test_foreign_properties_read_as_they_do_through_the_client(
    text: bytes, number: int, mode: int, expiration: bytes, name: bytes, place: bytes
) -> None:
    field = short(name) + b"T" + number.to_bytes(8)
    table = len(field).to_bytes(4) + field
    properties = (
        b"\xff\xf8" + short(text) * 2 + table + bytes([mode, mode]) + short(text) * 2 + short(expiration) + short(text)
    ) + (number.to_bytes(8) + short(text) * 3)
    octets = deliver_method(1, 3, exchange=place, routing_key=place) + content(1, b"x", properties)

    assert attributes(message_of(octets)) == attributes(through_the_client(octets))


@given(message=messages, names=st.lists(names, max_size=5, unique=True))
def test_properties_may_be_asked_for_in_any_order(message: Message, names: list[str]) -> None:
    octets = marshalled(message, exchange="e", routing_key="k", redelivered=False)
    forwards, backwards = message_of(octets), message_of(octets)

    in_turn = {name: getattr(forwards, name) for name in attributes(message)}
    reverse = {name: getattr(backwards, name) for name in reversed(attributes(message))}
    assert in_turn == reverse


# What means nothing to us


@given(octets=st.binary(max_size=80))
def test_no_properties_can_raise(octets: bytes) -> None:
    # Given any octets where the flags and values of properties should be
    message = message_of(delivered(1, 1, b"x", octets.ljust(2, b"\0")))

    attributes(message)
    assert message.body == b"x"


@given(
    octets=st.one_of(
        st.binary(max_size=80),
        st.integers(2, len(EVERY_PROPERTY)).map(lambda end: EVERY_PROPERTY[:end]),
        st.tuples(st.binary(min_size=2, max_size=2), st.just(EVERY_PROPERTY[2:])).map(b"".join),
    )
)
def test_the_message_id_alone_is_that_among_all_properties(octets: bytes) -> None:
    # Given any octets where flags and values should be, those of every property cut off, or under other flags
    assert reading.message_id(octets, 0) == reading.properties(octets, 0).get("message_id")


@given(octets=st.binary(max_size=120))
def test_no_table_of_headers_can_raise(octets: bytes) -> None:
    tolerate()
    message = message_of(delivered(1, 1, b"x", b"\x20\x80" + len(octets).to_bytes(4) + octets + b"\x02id"))

    assert isinstance(message.headers, dict)
    # And what follows the table is found behind it
    assert message.message_id == "id"


def test_a_table_that_holds_itself_too_deep_counts_as_empty() -> None:
    table = b""
    for _ in range(3_000):
        field = b"\x01xF" + len(table).to_bytes(4) + table
        table = field
    message = message_of(delivered(1, 1, b"", b"\x20\x00" + len(table).to_bytes(4) + table))

    assert isinstance(message.headers, dict)


@pytest.mark.parametrize("length", range(2, len(EVERY_PROPERTY)))
def test_what_is_cut_off_counts_as_absent(length: int) -> None:
    # Given a content header that ends too early
    whole = attributes(message_of(delivered(1, 1, b"x", EVERY_PROPERTY)))
    cut = attributes(message_of(delivered(1, 1, b"x", EVERY_PROPERTY[:length])))

    # Then each property is as it was sent, or absent
    for name, value in cut.items():
        assert value == whole[name] or value is None or (name == "headers" and value == {}), name


@given(octets=st.binary(max_size=40))
def test_what_a_delivery_says_of_its_place_cannot_raise(octets: bytes) -> None:
    # Given any octets where exchange and routing key should be
    arguments = short("c") + (1).to_bytes(8) + b"\x00" + octets
    message = message_of(method(1, 60, 60, arguments) + content(1, b"x"))

    attributes(message)


def test_short_strings_end_where_they_say() -> None:
    assert reading.short_string(b"\x02abc", 0) == ("ab", 3)
    assert reading.short_string(b"\x00", 0) == ("", 1)
