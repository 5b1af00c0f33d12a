"""Between the socket and the client: whole frames of claimed channels go to their claims, everything else goes to the
client octet for octet, wherever the stream is cut."""

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.amqp.fast.deliveries import Deliveries, FastDelivery
from tests.amqp.fast.hand import Hand, Tap
from tests.amqp.fast.memory import Memory, channel_of, connected, turns
from tests.amqp.fast.octets import (
    HEARTBEAT_FRAME,
    close,
    close_ok,
    confirmed,
    content_header,
    cut_at,
    deliver_method,
    delivered,
    frame,
    method,
    open_ok,
    pieces,
    returned,
)

QOS_OK = (60, 11)


def nowhere(_: Sequence[FastDelivery]) -> None:
    return


# Passing on

UNCLAIMED = (
    HEARTBEAT_FRAME
    + method(0, 10, 60, b"\x03low")  # connection.blocked
    + method(0, 10, 61)
    + open_ok(5)
    + delivered(5, 1, b"not ours")
    + returned(6, "m")
    + confirmed(6, 7)
    + frame(3, 7, b"")
    + method(5, 50, 11, b"\x01q\x00\x00\x00\x00\x00\x00\x00\x00")
    + close_ok(5)
)


@given(places=st.lists(st.integers(0, len(UNCLAIMED)), max_size=8))
def test_what_nobody_has_claimed_passes_octet_for_octet(places: list[int]) -> None:
    with Hand(1) as hand:
        hand.switch.claim(1, Tap())
        hand.receive(*cut_at(UNCLAIMED, *places))

        assert hand.reader.heard == UNCLAIMED


def test_without_a_claim_a_whole_reading_is_passed_on_in_one_piece() -> None:
    with Hand() as hand:
        hand.receive(UNCLAIMED)

        assert hand.reader.pieces == [UNCLAIMED]


# Cutting

LONG = bytes(range(250))
CONSUMED = [
    (1, "one", b"first", False),
    (2, "two", LONG, False),
    (1, "three", b"", False),
    (1, "four", LONG[:31], True),
    (2, "five", b"last", False),
]


def named(message_id: str) -> bytes:
    return b"\x00\x80" + bytes([len(message_id)]) + message_id.encode()


def mixed() -> tuple[bytes, bytes]:
    """A stream of claimed channels 1 and 2 and of others, with interleaved contents; and what is the client's of it."""
    ours, theirs = True, False
    parts = [
        (theirs, HEARTBEAT_FRAME),
        (ours, delivered(1, 1, b"first", named("one"))),
        (theirs, method(1, *QOS_OK)),
        (ours, deliver_method(2, 1)),
        (theirs, HEARTBEAT_FRAME),
        (ours, content_header(2, 250, named("two"))),
        (ours, frame(3, 2, LONG[:100])),
        (ours, delivered(1, 2, b"", named("three"))),
        (theirs, delivered(3, 1, b"of the client")),
        (ours, frame(3, 2, LONG[100:200])),
        (ours, deliver_method(1, 3, redelivered=True)),
        (ours, content_header(1, 31, named("four"))),
        (theirs, HEARTBEAT_FRAME),
        (ours, pieces(1, LONG[:30], 10)),
        (ours, frame(3, 2, LONG[200:])),
        (ours, frame(3, 1, LONG[30:31])),
        (theirs, method(2, 60, 30, b"\x01c\x01")),  # basic.cancel
        (theirs, confirmed(3, 9)),
        (ours, delivered(2, 2, b"last", named("five"))),
        (theirs, HEARTBEAT_FRAME),
    ]
    return b"".join(part for _, part in parts), b"".join(part for whose, part in parts if whose is theirs)


STREAM, CLIENTS = mixed()


def cut_into(*readings: bytes) -> None:
    """The same comes out as of the stream in one reading."""
    found: dict[int, list[FastDelivery]] = {1: [], 2: []}
    with Hand(1, 2) as hand:
        for channel, receive in found.items():
            deliveries = Deliveries(channel, hand.switch, queue="q", no_ack=False, receive=receive.extend)
            assert hand.switch.claim(channel, deliveries)
        hand.receive(*readings)

        assert hand.reader.heard == CLIENTS
    for channel, received in found.items():
        seen = [(each.message.message_id, each.message.body, each.message.redelivered) for each in received]
        assert seen == [(name, body, again) for number, name, body, again in CONSUMED if number == channel]
        assert [each._tag for each in received] == list(range(1, len(received) + 1))


def test_a_stream_may_be_cut_at_every_octet() -> None:
    cut_into(STREAM)
    for place in range(1, len(STREAM)):
        cut_into(STREAM[:place], STREAM[place:])


def test_a_stream_may_come_octet_by_octet() -> None:
    cut_into(*cut_at(STREAM, *range(len(STREAM))))


@given(places=st.lists(st.integers(1, len(STREAM) - 1), max_size=30))
def test_a_stream_may_be_cut_anywhere(places: list[int]) -> None:
    cut_into(*cut_at(STREAM, *places))


def test_what_one_reading_brings_is_handed_over_at_once() -> None:
    batches: list[int] = []
    with Hand(1) as hand:

        def receive(batch: Sequence[FastDelivery]) -> None:
            batches.append(len(batch))

        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=receive))
        hand.receive(b"".join(delivered(1, tag, b"x") for tag in range(1, 51)) + HEARTBEAT_FRAME)

    assert batches == [50]


def test_a_long_body_is_in_memory_twice_at_most() -> None:
    # Given a body of 16 MiB in frames of 128 KiB
    size, most = 16 * 2**20, 131_064
    stream = delivered(1, 1, bytes(size), most=most)
    found: list[FastDelivery] = []
    with Hand(1) as hand:
        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=found.extend))
        tracemalloc.start()
        try:
            # When it arrives in readings of 64 KiB
            for at in range(0, len(stream), 65_536):
                hand.receive(stream[at : at + 65_536])
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert len(found[0].message.body) == size
    assert peak < 2.2 * size
    assert kept < 1.1 * size


def test_a_long_frame_is_put_together_once() -> None:
    """With no limit on frames a body is one. Put together with each reading, 128 GiB would be copied here, and this
    test would not end."""
    size = 32 * 2**20
    stream = delivered(1, 1, bytes(size), most=size)
    found: list[FastDelivery] = []
    with Hand(1) as hand:
        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=found.extend))
        for at in range(0, len(stream), 4096):
            hand.receive(stream[at : at + 4096])

    assert len(found[0].message.body) == size


# Claims


def test_a_channel_that_was_never_opened_here_cannot_be_claimed() -> None:
    with Hand(1) as hand:
        assert not hand.switch.claim(2, Tap())
        assert hand.switch.claim(1, Tap())
        assert not hand.switch.claim(1, Tap())


def test_without_a_line_nothing_can_be_claimed() -> None:
    with Hand(1) as hand:
        hand.socket.close()
        hand.turn()

        assert not hand.switch.claim(1, Tap())


@pytest.mark.parametrize("end", [close(1), close_ok(1)], ids=["by the broker", "by the client"])
def test_the_number_of_a_closed_channel_may_be_claimed_when_it_is_opened_again(end: bytes) -> None:
    first, second = Tap(), Tap()
    with Hand(1) as hand:
        hand.switch.claim(1, first)
        hand.receive(confirmed(1, 1) + end + confirmed(1, 2))
        assert first.over
        assert not hand.switch.claim(1, second)

        hand.receive(open_ok(1))
        assert hand.switch.claim(1, second)
        hand.receive(confirmed(1, 3))

        assert first.frames == [confirmed(1, 1)]
        assert second.frames == [confirmed(1, 3)]
        assert hand.reader.heard == end + confirmed(1, 2) + open_ok(1)


def test_methods_that_a_claim_does_not_know_go_to_the_client() -> None:
    unknown = method(1, 60, 11) + method(1, 60, 30, b"\x01c\x01") + method(1, 20, 20, b"\x01") + method(1, 85, 11)
    with Hand(1) as hand:
        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=nowhere))
        hand.receive(unknown, unknown)

        assert hand.reader.heard == unknown * 2


@pytest.mark.parametrize("length", range(60))
def test_a_channel_may_close_in_the_middle_of_a_body(length: int) -> None:
    # Given a delivery of which only the beginning has come
    found: list[FastDelivery] = []
    start = b"".join([deliver_method(1, 1), content_header(1, 100), frame(3, 1, bytes(60))][: 1 + length // 20])
    with Hand(1) as hand:
        deliveries = Deliveries(1, hand.switch, queue="q", no_ack=False, receive=found.extend)
        hand.switch.claim(1, deliveries)
        # When the broker closes the channel
        hand.receive(*cut_at(start + close(1), len(start) + length % 20))

        # Then the client hears of that, nobody else of anything, and what had come is not kept
        assert hand.reader.heard == close(1)
        assert found == []
        assert not deliveries.open
        assert not deliveries._pieces

        # And the channel that follows under the number begins with a delivery
        hand.receive(open_ok(1))
        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=found.extend))
        hand.receive(delivered(1, 1, b"next"))
        assert [each.message.body for each in found] == [b"next"]


def test_an_alarm_is_seen_as_the_client_sees_it() -> None:
    with Hand(1) as hand:
        hand.switch.claim(1, Tap())
        assert not hand.switch.blocked
        hand.receive(method(0, 10, 60, b"\x03low"))
        assert hand.switch.blocked
        hand.receive(confirmed(1, 1) + method(0, 10, 61)[:-1])
        assert hand.switch.blocked
        hand.receive(b"\xce")
        assert not hand.switch.blocked


# Life


def test_the_client_is_shown_life_while_only_frames_of_ours_arrive() -> None:
    with Hand(1) as hand:
        hand.switch.claim(1, Tap())
        for _ in range(120):  # a minute, in halves of a second
            hand.now += 0.5
            hand.receive(confirmed(1, 1))

        assert 30 <= len(hand.reader.pieces) <= 120
        assert set(hand.reader.pieces) == {HEARTBEAT_FRAME}


def test_life_is_shown_between_frames_of_the_client_never_inside() -> None:
    with Hand(1) as hand:
        hand.switch.claim(1, Tap())
        theirs = delivered(5, 1, b"theirs")
        stream = b"".join(confirmed(1, number) + theirs for number in range(10))
        for piece in cut_at(stream, *range(0, len(stream), 7)):
            hand.now += 1
            hand.receive(piece)

        assert hand.reader.heard.replace(HEARTBEAT_FRAME, b"") == theirs * 10


def test_nothing_is_shown_while_nothing_arrives() -> None:
    with Hand(1) as hand:
        hand.switch.claim(1, Tap())
        hand.receive(confirmed(1, 1)[:10])
        hand.now += 60
        hand.turn()
        hand.receive(confirmed(1, 1)[10:15])

        assert hand.reader.heard == b""


# Writing


def test_what_one_turn_has_to_say_is_one_write() -> None:
    first, second = Tap(), Tap()
    with Hand(1, 2) as hand:
        hand.switch.claim(1, first)
        hand.switch.claim(2, second)
        for number in range(3):
            first.to_write.append(b"a%d" % number)
            second.to_write.append(b"b%d" % number)
        hand.switch.write_soon(first)
        hand.switch.write_soon(second)
        assert hand.socket.writes == []
        hand.turn()

        assert hand.socket.writes == [b"a0a1a2b0b1b2"]
        hand.turn()
        assert len(hand.socket.writes) == 1


def test_after_the_line_has_ended_nothing_is_written() -> None:
    with Hand(1) as hand:
        tap = Tap()
        hand.switch.claim(1, tap)
        tap.to_write = [b"late"]
        hand.switch.write_soon(tap)
        hand.socket.close()
        hand.turn()
        tap.to_write = [b"later"]
        hand.switch.write_soon(tap)
        hand.turn()

        assert tap.over
        assert hand.socket.writes == []


def test_the_socket_says_when_it_is_full_and_when_it_is_not() -> None:
    with Hand(1) as hand:
        assert not hand.switch.full
        hand.switch.pause_writing()
        assert hand.switch.full
        waiting = hand.loop.create_task(hand.switch.room())
        hand.turn()
        assert not waiting.done()
        hand.switch.resume_writing()
        hand.turn()
        hand.turn()

        assert waiting.done()
        assert not hand.switch.full


def test_who_waits_for_room_is_told_of_the_end_of_the_line() -> None:
    with Hand(1) as hand:
        tap = Tap()
        hand.switch.claim(1, tap)
        hand.switch.pause_writing()
        waiting = hand.loop.create_task(hand.switch.room())
        hand.turn()
        hand.socket.close()
        hand.turn()
        hand.turn()
        hand.turn()

        assert waiting.done()
        assert tap.over


# What is no AMQP

BAD_END = {
    "a heartbeat": HEARTBEAT_FRAME[:-1] + b"\x00",
    "a method of the client": open_ok(5)[:-1] + b"\x00",
    "a method of ours": deliver_method(1, 1)[:-1] + b"\x00",
    "a header of ours": deliver_method(1, 1) + content_header(1, 3)[:-1] + b"\x00" + frame(3, 1, b"abc"),
    "a body of ours": delivered(1, 1, b"abc")[:-1] + b"\x00",
    "a confirm": confirmed(1, 1)[:-1] + b"\x00",
}
NO_FRAME = {
    "no type": b"\x00" * 16,
    "an unknown type": frame(9, 0, b"abc"),
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a protocol header": b"AMQP\x00\x00\x09\x01",
    "a type of frame that is reserved": frame(5, 0, b"abc"),
    "a method without arguments": frame(1, 1, b"\x00\x3c\x00\x3c"),
    "a method without a number": frame(1, 1, b""),
    "half a method": frame(1, 1, b"\x00\x3c"),
    "a delivery with a tag of half its length": method(1, 60, 60, b"\x01c\x00\x00"),
    "a consumer tag that is too long": method(1, 60, 60, b"\xffc\x00\x00"),
    "a header that ends in its body size": deliver_method(1, 1) + frame(2, 1, b"\x00\x3c\x00\x00\x00\x00"),
    "a header without flags": deliver_method(1, 1) + frame(2, 1, b"\x00\x3c\x00\x00" + bytes(8)),
    "an empty header": deliver_method(1, 1) + frame(2, 1, b"") + frame(3, 1, b"abc") * 3,
    "half a confirm": method(1, 60, 80, bytes(4)),
}


@pytest.mark.parametrize("octets", NO_FRAME.values(), ids=NO_FRAME)
@pytest.mark.parametrize("before", [b"", delivered(1, 1, b"x")], ids=["alone", "behind a delivery"])
def test_whatever_arrives_nothing_is_raised_at_the_loop(octets: bytes, before: bytes) -> None:
    for place in range(len(before), len(before + octets)):
        with Hand(1) as hand:
            hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=nowhere))
            hand.receive(*cut_at(before + octets, place))


@given(octets=st.binary(max_size=100), channel=st.sampled_from([b"", b"\x01\x00\x01\x00\x00\x00", b"\x02\x00\x01\x00"]))
def test_no_octets_can_raise(octets: bytes, channel: bytes) -> None:
    with Hand(1) as hand:
        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=nowhere))
        hand.receive(channel + octets)


@pytest.mark.parametrize("octets", BAD_END.values(), ids=BAD_END)
def test_a_wrong_end_octet_ends_the_hearing(octets: bytes) -> None:
    with Hand(1) as hand:
        found: list[FastDelivery] = []
        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=found.extend))
        hand.receive(octets)

        assert found == []
        assert hand.out_of_step


@pytest.mark.parametrize("octets", [*BAD_END.values(), *NO_FRAME.values()], ids=[*BAD_END, *NO_FRAME])
async def test_the_connection_ends_with_an_error_over_what_is_no_amqp(octets: bytes) -> None:
    # Given the real client, and a channel of it that is claimed
    memory = Memory()
    async with connected(memory) as connection:
        channel = await channel_of(connection)
        assert memory.switch is not None
        deliveries = Deliveries(channel.number, memory.switch, queue="q", no_ack=False, receive=nowhere)
        assert memory.switch.claim(channel.number, deliveries)

        # When something arrives that no peer may send
        memory.arrive(octets)
        await turns()

        # Then nobody waits for ever
        assert not deliveries.open
        assert channel.connection.closing.done()
        assert channel.connection.closing.exception() is not None


async def test_the_client_says_what_is_wrong() -> None:
    memory = Memory()
    async with connected(memory) as connection:
        channel = await channel_of(connection)
        assert memory.switch is not None
        memory.switch.claim(channel.number, Tap())
        memory.arrive(BAD_END["a confirm"])
        await turns()

        assert "Last byte" in str(channel.connection.closing.exception())


def test_the_end_of_the_stream_in_the_middle_of_a_frame_is_the_clients_to_judge() -> None:
    for rest in (confirmed(1, 1)[:12], confirmed(5, 1)[:12], b"\x01"):
        with Hand(1) as hand:
            tap = Tap()
            hand.switch.claim(1, tap)
            hand.receive(confirmed(1, 1) + rest)
            hand.switch.eof_received()

            assert hand.reader.heard == rest
            assert hand.reader.ended
            assert tap.frames == [confirmed(1, 1)]


async def test_the_client_hears_of_a_line_that_is_cut_in_the_middle_of_a_frame() -> None:
    memory = Memory()
    async with connected(memory) as connection:
        channel = await channel_of(connection)
        assert memory.switch is not None
        tap = Tap()
        memory.switch.claim(channel.number, tap)
        memory.arrive(confirmed(1, 1)[:12])
        assert memory.line is not None
        memory.line.end()
        await turns()

        assert tap.over
        assert channel.connection.closing.exception() is not None
