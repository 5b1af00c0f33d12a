"""Cutting frames, and content that comes in the wrong order: whatever arrives, it ends with the right code."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, frame, header, heartbeat
from pamqp.commands import Basic, Channel, Connection, Queue
from pamqp.common import FieldTable

from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.frames import Cutter
from pipeline.embedded.wire.refusals import Refusal
from tests.embedded.conversation import Talk, closed, deliveries, methods, new_node, only, publishing

PUBLISH = Basic.Publish(0, "", "q")
QOS = Basic.Qos(0, 1)
ONE_OCTET = header.ContentHeader(0, 1)


def frame_of(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 7))
def test_frames_are_cut_wherever_the_octets_are_torn(payloads: list[bytes], size: int) -> None:
    octets = b"".join(frame_of(1, place, payload) for place, payload in enumerate(payloads))
    cutter = Cutter()
    cut = []
    for start in range(0, len(octets), size):
        cutter.feed(octets[start : start + size])
        cut += list(cutter.frames())
    assert cut == [(1, place, payload) for place, payload in enumerate(payloads)]


def test_a_frame_may_be_as_long_as_was_negotiated() -> None:
    cutter = Cutter()
    cutter.feed(frame_of(3, 1, b"x" * 4096))
    assert len(next(cutter.frames())[2]) == 4096
    cutter.feed(struct.pack(">BHI", 3, 1, 4097))
    with pytest.raises(Refusal, match=r"^FRAME_ERROR - type 3, all octets = <<>>: \{frame_too_large,4097,4088\}$"):
        next(cutter.frames())


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (
            frame_of(1, 1, b"\x00\x14\x00\x0a", b"X"),
            "type 1, all octets = <<0,20,0,10>>: {invalid_frame_end_marker,88}",
        ),
        (frame_of(8, 0, b"", b"X"), "type 8, all octets = <<>>: {invalid_frame_end_marker,88}"),
        (frame_of(5, 1, b"X"), 'type 5, all octets = <<"X">>: unknown_frame'),
        (frame_of(5, 0, b"X"), 'type 5, all octets = <<"X">>: unknown_frame'),
        (frame_of(2, 0, b"x"), 'type 2, all octets = <<"x">>: unknown_frame'),
        (frame_of(1, 1, b"\x00\x3c\x00\x0a" + b"x" * 200), f"cannot decode <<{'120,' * 55}12..."),
        (frame_of(8, 0, b"X"), 'type 8, all octets = <<"X">>: unknown_frame'),
        (frame_of(1, 1, b"\x00\x3c"), "type 1, all octets = <<0,60>>: unknown_frame"),
        (frame_of(1, 1, b"\x00\x3c\x00\x0a\x00"), "cannot decode <<0>>"),
        (frame_of(1, 1, b"\x00\x3c\x00\x28\x00\x00\x05"), "cannot decode <<0,0,5>>"),
        (frame_of(1, 1, b"\x00\x3c\x00\x50\x00"), "cannot decode <<0>>"),
    ],
)
def test_a_frame_that_makes_no_sense_ends_the_connection_with_501(octets: bytes, text: str) -> None:
    assert closed(Talk().open().raw(octets)) == ("connection", 501, f"FRAME_ERROR - {text}")


def test_only_the_first_octets_of_a_bad_frame_are_shown() -> None:
    assert refusals.unknown_frame(5, b"x" * 17).text == (
        'FRAME_ERROR - type 5, first 16 octets = <<"xxxxxxxxxxxxxxxx">>: unknown_frame'
    )


def test_a_long_text_is_cut_to_what_a_short_string_holds() -> None:
    text = refusals.not_found("queue '" + "я" * 200 + "'").text
    assert len(text.encode()) <= 255
    assert text.endswith("...")


def test_a_bad_table_ends_the_connection_with_502() -> None:
    payload = b"\x00\x32\x00\x0a" + b"\0\0" + b"\x01q" + b"\0" + b"\0\0\0\x03" + b"\x01aZ"
    assert closed(Talk().open().raw(frame_of(1, 1, payload))) == (
        "connection",
        502,
        "SYNTAX_ERROR - cannot decode a table of arguments",
    )


def test_an_unknown_method_ends_the_connection_with_503() -> None:
    assert closed(Talk().open().raw(frame_of(1, 1, b"\x00\x3c\x00\xff"))) == (
        "connection",
        503,
        "COMMAND_INVALID - unknown method 60.255",
    )


@pytest.mark.parametrize("method", [Queue.DeclareOk("q", 0, 0), Basic.GetEmpty(), Channel.FlowOk(True)])
def test_what_only_a_server_says_is_unimplemented(method: frame.FrameTypes) -> None:
    assert closed(Talk().open().say(1, method)) == ("connection", 503, "COMMAND_INVALID - unimplemented method")


@pytest.mark.parametrize("method", [QOS, Channel.Close(200, "", 0, 0), Channel.CloseOk()])
def test_a_channel_must_be_opened_before_it_is_used(method: frame.FrameTypes) -> None:
    assert closed(Talk().open().say(2, method)) == ("connection", 504, "CHANNEL_ERROR - expected 'channel.open'")


def test_a_channel_is_opened_once() -> None:
    assert closed(Talk().open().say(1, Channel.Open())) == (
        "connection",
        504,
        "CHANNEL_ERROR - second 'channel.open' seen",
    )


def test_channels_are_counted_and_their_numbers_are_free() -> None:
    talk = Talk()
    talk.greet()
    talk.log_in()
    talk.say(0, Connection.TuneOk(2, 131072, 0), Connection.Open("/"))
    assert methods(talk.say(7, Channel.Open())) == ["Channel.OpenOk"]
    assert methods(talk.say(60_000, Channel.Open())) == ["Channel.OpenOk"]
    assert closed(talk.say(1, Channel.Open())) == (
        "connection",
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    )


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([ONE_OCTET], "expected method frame, got non method frame instead"),
        ([body.ContentBody(b"x")], "expected method frame, got non method frame instead"),
        ([PUBLISH, QOS], "expected content header for class 60, got non content header frame instead"),
        (
            [PUBLISH, body.ContentBody(b"x")],
            "expected content header for class 60, got non content header frame instead",
        ),
        ([PUBLISH, ONE_OCTET, QOS], "expected content body, got non content body frame instead"),
        ([PUBLISH, ONE_OCTET, ONE_OCTET], "expected content body, got non content body frame instead"),
    ],
)
def test_content_out_of_order_ends_the_connection_with_505(frames: list[frame.FrameTypes], text: str) -> None:
    assert closed(Talk().open().say(1, *frames)) == ("connection", 505, f"UNEXPECTED_FRAME - {text}")


@pytest.mark.parametrize(
    ("version", "code", "text"),
    [
        ("3.10", 505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
        ("4.3", 501, "FRAME_ERROR - content body frame exceeds remaining content size"),
    ],
)
def test_a_body_is_not_longer_than_was_announced(version: str, code: int, text: str) -> None:
    talk = Talk(new_node(rabbitmq_version=version)).open()
    assert closed(talk.say(1, PUBLISH, ONE_OCTET, body.ContentBody(b"xyz"))) == ("connection", code, text)


def test_a_heartbeat_belongs_on_channel_0() -> None:
    talk = Talk().open()
    assert talk.raw(heartbeat.Heartbeat.value) == []
    assert closed(talk.raw(frame_of(8, 1, b""))) == ("connection", 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>")


def test_a_heartbeat_may_come_in_the_middle_of_a_message() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"))
    talk.say(1, PUBLISH, ONE_OCTET)
    talk.raw(heartbeat.Heartbeat.value)
    talk.say(1, body.ContentBody(b"x"))
    assert talk.bodies(1, "q") == [b"x"]


def header_frame(properties: bytes, class_id: int = 60) -> bytes:
    return frame_of(2, 1, struct.pack(">HHQ", class_id, 0, 1) + properties)


def test_a_header_of_another_class_is_refused() -> None:
    talk = Talk().open()
    talk.say(1, PUBLISH)
    assert closed(talk.raw(header_frame(b"\0\0", class_id=50)))[2] == (
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"
    )


@pytest.mark.parametrize(
    "properties",
    [
        b"",
        b"\x80\x00\xff",  # content type announced, and not there
        b"\x80\x00",
        b"\x00\x00\xff",  # more than announced
        b"\x00\x01\x00\x00",  # a second word of flags
        b"\x20\x00\x00\x00\x00\x05\x01a",  # headers that end too early
        b"\x20\x00\x00\x00\x00\x03\x01aZ",  # an unknown type in the headers
        b"\x20\x00\x00\x00\x00\x07\x01aS\xff\xff\xff\xff",  # a string longer than its table
    ],
)
def test_properties_that_do_not_add_up_are_refused_before_a_consumer_gets_them(properties: bytes) -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"), PUBLISH)
    talk.raw(header_frame(properties))
    assert closed(talk.say(1, body.ContentBody(b"x"))) == (
        "connection",
        502,
        "SYNTAX_ERROR - cannot decode content header",
    )
    assert talk.node.queue_depths() == {"q": 0}


def test_a_body_in_many_frames_is_one_message_and_leaves_in_frames_the_consumer_takes() -> None:
    talk = Talk().open()
    octets = bytes(range(256)) * 64
    talk.say(1, Queue.Declare(0, "q"), PUBLISH, header.ContentHeader(0, len(octets)))
    for start in range(0, len(octets), 1000):
        talk.say(1, body.ContentBody(octets[start : start + 1000]), body.ContentBody(b""))

    small = Talk(talk.node).open(frame_max=4096)
    heard = small.say(1, Basic.Get(0, "q"))
    parts = [each.value for _, each in heard if isinstance(each, body.ContentBody)]
    assert [len(part) for part in parts] == [4088, 4088, 4088, 4088, 32]
    assert b"".join(parts) == octets


def test_a_message_without_a_body_has_no_body_frame() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"))
    talk.publish(1, "q", b"")
    heard = talk.say(1, Basic.Get(0, "q"))
    assert [type(each) for _, each in heard] == [Basic.GetOk, header.ContentHeader]


def test_a_body_over_the_limit_costs_the_channel_and_is_not_kept() -> None:
    talk = Talk().open()
    size = 128 * 1024 * 1024
    assert talk.say(1, PUBLISH, header.ContentHeader(0, size)) == []
    talk.say(2, Channel.Open())
    assert closed(talk.say(2, PUBLISH, header.ContentHeader(0, size + 1))) == (
        "channel",
        406,
        "PRECONDITION_FAILED - message size 134217729 is larger than configured max size 134217728",
    )


def test_properties_and_keys_leave_as_the_octets_they_came_in() -> None:
    # Given what no client library would write: a key and a header that are not UTF-8, and a 64-bit small number
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"), Queue.Bind(0, "q", "amq.fanout", ""))
    address = b"\x0aamq.fanout" + b"\x02\xff\xfe"
    table = b"\x01aS\0\0\0\x01\xff" + b"\x01nl\0\0\0\0\0\0\0\x07"
    properties = b"\x20\x00" + struct.pack(">I", len(table)) + table
    # When it is published and fetched
    talk.raw(frame_of(1, 1, b"\x00\x3c\x00\x28\0\0" + address + b"\0") + header_frame(properties))
    talk.say(1, body.ContentBody(b"x"))
    talk.core.receive(frame.marshal(Basic.Get(0, "q"), 1))
    out = talk.core.outbox.take()
    # Then all of it is there
    assert address in out
    assert properties in out


def decodes_or_refuses(octets: bytes) -> None:
    talk = Talk().open()
    talk.core.receive(octets)
    talk.core.receive(octets)
    talk.core.tick(0.0)
    talk.core.lost()


@given(st.binary(max_size=300))
def test_random_octets_raise_nothing(octets: bytes) -> None:
    decodes_or_refuses(octets)


@given(
    st.sampled_from([10, 20, 40, 50, 60, 85, 90]),
    st.sampled_from([10, 11, 20, 21, 30, 31, 40, 50, 51, 60, 70, 80, 90, 100, 110, 111, 120]),
    st.integers(0, 2),
    st.binary(max_size=60),
)
def test_random_arguments_of_real_methods_raise_nothing(group: int, method: int, channel: int, rest: bytes) -> None:
    decodes_or_refuses(frame_of(1, channel, struct.pack(">HH", group, method) + rest))


@given(st.binary(max_size=80))
def test_random_properties_raise_nothing(properties: bytes) -> None:
    talk = Talk().open()
    dead: FieldTable = {"x-dead-letter-exchange": "amq.headers"}
    talk.say(1, Queue.Declare(0, "q", arguments=dead), Queue.Bind(0, "q", "amq.headers", "", arguments={"a": 1}))
    talk.say(1, Basic.Publish(0, "amq.headers", "q"))
    talk.core.receive(header_frame(properties) + frame.marshal(body.ContentBody(b"x"), 1))
    talk.core.receive(frame.marshal(Basic.Get(0, "q"), 1) + frame.marshal(Basic.Reject(1, False), 1))


@pytest.mark.parametrize("tear", [1, 5, 100])
def test_a_whole_conversation_may_be_torn_anywhere(tear: int) -> None:
    talk = Talk().open()
    frames: list[frame.FrameTypes] = [Queue.Declare(0, "q"), Basic.Consume(0, "q", "c"), *publishing("q", b"one")]
    octets = b"".join(frame.marshal(each, 1) for each in frames)
    heard = [seen for start in range(0, len(octets), tear) for seen in talk.raw(octets[start : start + tear])]
    assert deliveries(heard) == [("c", 1, False, b"one")]
    assert only(heard, Basic.ConsumeOk).consumer_tag == "c"
