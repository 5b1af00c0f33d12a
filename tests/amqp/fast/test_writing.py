"""What we send, held against literal octets and against what the client would have written for the same message."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame as codec
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from pipeline.amqp.convert import UNWRITABLE, to_properties
from pipeline.amqp.fast import writing
from pipeline.amqp.foreign import tolerate
from pipeline.amqp.outlet import Outgoing
from pipeline.codec import encode
from pipeline.message import Message
from pipeline.sources.base import ids
from tests.amqp.fast.octets import BODY, Settlement, frames, settlement
from tests.amqp.test_convert import messages

FRAME_MAX = 131_072
tags = st.integers(1, 2**63 - 1)  # the codec writes no larger ones
channels = st.integers(1, 2**16 - 1)


def published(
    message: Message,
    *,
    channel: int = 1,
    exchange: str = "",
    routing_key: str = "q",
    mandatory: bool = True,
    frame_max: int = FRAME_MAX,
) -> bytes:
    """The whole publish."""
    outgoing = Outgoing.of(message, exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    start, rest = writing.publish(channel, outgoing, frame_max=frame_max)
    return start + b"".join(writing.long_body(channel, rest, frame_max=frame_max)) if rest else start


# What it costs the broker


@pytest.mark.parametrize("body", [b"x", {"order": 7}])
def test_the_properties_of_an_output_fit_into_what_rabbitmq_holds_cheaply(body: object) -> None:
    """RabbitMQ works half as long again for properties, flags included, of more than 64 octets."""
    run = next(ids()).split(":")[0]
    message_id = f"{run}:9999999:send-invoices:1"  # an item's id, the consumer, the number of its output
    octets, content_type = encode(body)
    message = Message(octets, content_type=content_type, message_id=message_id, delivery_mode="transient")
    _, header, _ = frames(published(message))
    before = 2 + 2 + 8  # class, weight, body size
    assert len(header.payload) - before <= 64


# Literal octets


def test_an_ack_is_a_tag_and_a_bit() -> None:
    assert writing.basic_ack(1, 7, multiple=False) == (
        b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x07\x00\xce"
    )
    assert writing.basic_ack(515, 2**64 - 1, multiple=True) == (
        b"\x01\x02\x03\x00\x00\x00\x0d\x00\x3c\x00\x50\xff\xff\xff\xff\xff\xff\xff\xff\x01\xce"
    )


def test_a_nack_asks_for_its_message_to_be_given_to_somebody_else() -> None:
    assert writing.basic_nack(1, 7) == (
        b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x78\x00\x00\x00\x00\x00\x00\x00\x07\x02\xce"
    )


def test_a_reject_says_whether_the_message_comes_again() -> None:
    start = b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x5a\x00\x00\x00\x00\x00\x00\x00\x07"
    assert writing.basic_reject(1, 7, requeue=True) == start + b"\x01\xce"
    assert writing.basic_reject(1, 7, requeue=False) == start + b"\x00\xce"


def test_a_publish_is_a_method_a_header_and_a_body() -> None:
    assert published(Message(b"abc"), exchange="ex", routing_key="r.k") == (
        # basic.publish: size 14; class 60, method 40, reserved, "ex", "r.k", mandatory
        b"\x01\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x28\x00\x00\x02ex\x03r.k\x01\xce"
        # content header: size 15; class 60, weight 0, body size 3, only delivery-mode: persistent
        b"\x02\x00\x01\x00\x00\x00\x0f\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x10\x00\x02\xce"
        b"\x03\x00\x01\x00\x00\x00\x03abc\xce"
    )


def test_a_publish_may_leave_out_mandatory() -> None:
    (method, *_) = frames(published(Message(b"abc"), mandatory=False))

    assert method.payload == b"\x00\x3c\x00\x28\x00\x00\x00\x01q\x00"


def test_every_property_stands_in_the_order_of_its_flag() -> None:
    message = Message(
        b"",
        content_type="text/plain",
        content_encoding="gzip",
        headers={"h": 42},
        delivery_mode="transient",
        priority=9,
        correlation_id="corr",
        reply_to="reply",
        expiration=5000,
        message_id="id",
        timestamp=1_700_000_000,
        type="type",
        user_id="user",
        app_id="app",
    )
    _, header = frames(published(message))

    assert header.payload[12:] == (
        b"\xff\xf8\x0atext/plain\x04gzip\x00\x00\x00\x04\x01hb\x2a\x01\x09\x04corr\x05reply\x045000\x02id"
        b"\x00\x00\x00\x00\x65\x53\xf1\x00\x04type\x04user\x03app"
    )


@pytest.mark.parametrize(
    ("name", "value", "octets"),
    [
        ("content_type", "x", b"\x90\x00\x01x\x02"),
        ("content_encoding", "x", b"\x50\x00\x01x\x02"),
        ("headers", {"x": True}, b"\x30\x00\x00\x00\x00\x04\x01xt\x01\x02"),
        ("delivery_mode", "transient", b"\x10\x00\x01"),
        ("delivery_mode", "persistent", b"\x10\x00\x02"),
        ("delivery_mode", None, b"\x10\x00\x02"),
        ("priority", 0, b"\x18\x00\x02\x00"),
        ("priority", 255, b"\x18\x00\x02\xff"),
        ("correlation_id", "grüße", b"\x14\x00\x02\x07gr\xc3\xbc\xc3\x9fe"),
        ("reply_to", "x", b"\x12\x00\x02\x01x"),
        ("expiration", 0, b"\x11\x00\x02\x010"),
        ("message_id", "x", b"\x10\x80\x02\x01x"),
        ("message_id", "", b"\x10\x00\x02"),
        ("timestamp", 0, b"\x10\x40\x02\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("timestamp", 2**64 - 1, b"\x10\x40\x02\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("type", "x", b"\x10\x20\x02\x01x"),
        ("user_id", "x", b"\x10\x10\x02\x01x"),
        ("app_id", "x", b"\x10\x08\x02\x01x"),
    ],
)
def test_a_property_alone(name: str, value: object, octets: bytes) -> None:
    message = Message(b"")
    setattr(message, name, value)
    _, header = frames(published(message))

    assert header.payload[12:] == octets


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (None, b"V"),
        (False, b"t\x00"),
        (127, b"b\x7f"),
        (-32_768, b"s\x80\x00"),
        (2**31 - 1, b"I\x7f\xff\xff\xff"),
        (-(2**63), b"l\x80\x00\x00\x00\x00\x00\x00\x00"),
        (1.5, b"f\x3f\xc0\x00\x00"),
        (Decimal("1.5"), b"D\x01\x00\x00\x00\x0f"),
        ("é", b"S\x00\x00\x00\x02\xc3\xa9"),
        (b"\x00\xff", b"x\x00\x00\x00\x02\x00\xff"),
        ([1, "a"], b"A\x00\x00\x00\x08b\x01S\x00\x00\x00\x01a"),
        ({"k": 1}, b"F\x00\x00\x00\x04\x01kb\x01"),
    ],
)
def test_a_header_of_each_type(value: object, octets: bytes) -> None:
    """4.2.5.5, as RabbitMQ reads it."""
    _, header = frames(published(Message(b"", headers={"h": value})))

    table = b"\x01h" + octets
    assert header.payload[12:] == b"\x30\x00" + len(table).to_bytes(4) + table + b"\x02"


# Bodies


def test_an_empty_body_is_no_frame() -> None:
    assert [each.kind for each in frames(published(Message(b"")))] == [1, 2]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [1]),
        (4088, [4088]),
        (4089, [4088, 1]),
        (8176, [4088, 4088]),
        (8177, [4088, 4088, 1]),
    ],
)
def test_a_body_is_cut_at_frame_max_with_the_frame_s_own_octets(size: int, expected: list[int]) -> None:
    body = bytes(number % 251 for number in range(size))
    _, header, *rest = frames(published(Message(body), frame_max=4096))

    assert header.payload[4:12] == size.to_bytes(8)
    assert [len(each.payload) for each in rest] == expected
    assert b"".join(each.payload for each in rest) == body


def test_without_a_limit_a_body_is_one_frame() -> None:
    """connection.tune, frame-max: zero means that there is no limit."""
    body = bytes(300_000)
    (*_, only) = frames(published(Message(body), frame_max=0))

    assert only.payload == body


@given(body=st.binary(max_size=3000), frame_max=st.integers(32, 600) | st.just(0), channel=channels)
def test_no_frame_is_longer_than_allowed(body: bytes, frame_max: int, channel: int) -> None:
    _, _, *found = frames(published(Message(body), channel=channel, frame_max=frame_max))

    assert b"".join(each.payload for each in found) == body
    assert all(each.kind == BODY and each.channel == channel and each.payload for each in found)
    assert not frame_max or all(len(each.payload) + 8 <= frame_max for each in found)


def test_headers_and_properties_may_fill_a_frame_and_no_more() -> None:
    # A frame of 4096: 8 octets round it, 14 before the flags' values; the header takes 4 + 2 + 5 + text, mode 1
    most = 4096 - 8 - 14 - 2 - 4 - 2 - 5 - 1
    _, header = frames(published(Message(b"", headers={"h": "x" * most}), frame_max=4096))
    assert len(header.payload) + 8 <= 4096

    with pytest.raises(ValueError, match="the broker allows"):
        published(Message(b"", headers={"h": "x" * (4096 - 8 - 14)}), frame_max=4096)


# As the client has it


@given(message=messages, channel=channels, mandatory=st.booleans())
def test_a_publish_is_octet_for_octet_the_client_s(message: Message, channel: int, mandatory: bool) -> None:
    tolerate()
    expected = (
        codec.marshal(Basic.Publish(0, "ex", "r.k", mandatory=mandatory), channel)
        + codec.marshal(ContentHeader(0, len(message.body), to_properties(message)), channel)
        + (codec.marshal(ContentBody(message.body), channel) if message.body else b"")
    )
    assert (
        published(message, channel=channel, exchange="ex", routing_key="r.k", mandatory=mandatory, frame_max=0)
        == expected
    )


@given(tag=tags, channel=channels, multiple=st.booleans())
def test_a_settlement_is_octet_for_octet_the_client_s(tag: int, channel: int, multiple: bool) -> None:
    ack, nack = writing.basic_ack(channel, tag, multiple=multiple), writing.basic_nack(channel, tag)
    assert ack == codec.marshal(Basic.Ack(tag, multiple), channel)
    assert nack == codec.marshal(Basic.Nack(tag, requeue=True), channel)
    for requeue in (True, False):
        reject = writing.basic_reject(channel, tag, requeue=requeue)
        assert reject == codec.marshal(Basic.Reject(tag, requeue), channel)


@given(tag=tags, channel=channels)
def test_a_settlement_reads_back(tag: int, channel: int) -> None:
    (sent,) = frames(writing.basic_nack(channel, tag))

    assert (sent.channel, settlement(sent)) == (channel, Settlement(way="nack", tag=tag, requeue=True))


# What cannot be written


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": "x" * 256},
        {"correlation_id": "é" * 128},
        {"message_id": "\ud800"},
        {"app_id": 7},
        {"priority": 256},
        {"priority": -1},
        {"priority": "high"},
        {"timestamp": -1},
        {"timestamp": 2**64},
        {"expiration": 10**300},
        {"headers": {7: 1}},
        {"headers": {"h": 2**64}},
        {"headers": {"h": {"inner": object()}}},
        {"headers": {"h": "\ud800"}},
        {"headers": ["no table"]},
    ],
    ids=str,
)
def test_what_amqp_cannot_carry_is_told_as_the_client_s_own_complaint_would_be(changes: dict[str, object]) -> None:
    message = Message(b"")
    for name, value in changes.items():
        setattr(message, name, value)

    with pytest.raises(UNWRITABLE):
        published(message)


@pytest.mark.parametrize(
    ("exchange", "routing_key", "why"),
    [
        ("x" * 256, "k", "its exchange takes 256 bytes, and AMQP allows 255"),
        ("e", "é" * 128, "its routing key takes 256 bytes, and AMQP allows 255"),
    ],
)
def test_a_place_is_a_short_string(exchange: str, routing_key: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        published(Message(b""), exchange=exchange, routing_key=routing_key)


def test_a_place_of_255_octets_is_written_whole() -> None:
    (method, *_) = frames(published(Message(b""), exchange="e" * 255, routing_key="é" * 127 + "x"))

    assert method.payload[6:262] == b"\xff" + b"e" * 255
    assert method.payload[262:518] == b"\xff" + ("é" * 127 + "x").encode()
