"""Whatever comes in, the protocol core goes on: conversations that are torn, damaged, made up. It ends with the right
close, holds no more than one frame, and keeps nothing of a connection that has gone. The port is fuzzed in
`test_embedded_fuzzing_of_the_port`, tables are in `test_embedded_tables`."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue

from pipeline.embedded.connections.connection import State
from pipeline.embedded.ground.versions import NEWEST, VERSIONS
from pipeline.embedded.vhosts.node import Node
from pipeline.embedded.wire.frames import PROTOCOL_HEADERS
from tests.embedded import made_up
from tests.embedded.conversation import CAPABILITIES, PROTOCOL_HEADER, Talk, only, publishing
from tests.embedded.wire import FRAME_MAX, frame_of, marshalled

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

# What fuzzing may meet: errors of frames and of use, 506 for a transaction whose queue has gone, 541 for queues that
# RabbitMQ 4.3 does not have any more; and the errors of the channel.
HARD = {501, 502, 503, 504, 505, 506, 530, 540, 541}
SOFT = {403, 404, 405, 406}

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

start_ok: dict[str, Any] = {"capabilities": dict(CAPABILITIES), "connection_name": "fuzzing"}
HANDSHAKE = (
    PROTOCOL_HEADER
    + marshalled(0, Connection.StartOk(start_ok, "PLAIN", "\0user\0secret", "en_US"))
    + marshalled(0, Connection.TuneOk(2047, FRAME_MAX, 0), Connection.Open("/"))
    + marshalled(1, Channel.Open())
)

# One that leaves things behind which must be gone with it: a queue of its own, consumers, messages in hand.
CONVERSATION: list[bytes] = [
    marshalled(1, each)
    for each in (
        Queue.Declare(0, "mine", exclusive=True),
        Queue.Bind(0, "mine", "amq.headers", "", arguments={"x-match": "any", "n": 1, "deep": {"list": [1, "a"]}}),
        Basic.Qos(0, 2),
        Basic.Get(0, "kept"),
        Basic.Consume(0, "kept", "tag", arguments={"x-priority": 3}),
        Confirm.Select(),
        *publishing("", b"first", exchange="amq.headers", headers={"n": 1, "deep": {"list": [1, "a"]}}),
        *publishing("mine", b"second", mandatory=True, content_type="text/plain", delivery_mode=2),
        *publishing("nowhere", b"third", mandatory=True),
        Queue.Declare(0, "mine", passive=True),
        Basic.Cancel("tag"),
    )
]
PUBLISHES = [place for place, each in enumerate(CONVERSATION) if each[7:11] == b"\x00\x3c\x00\x28"]
METHODS = [place for place, each in enumerate(CONVERSATION) if each[0] == METHOD]


def prepared(version: str = NEWEST) -> Node:
    """A node with three messages, and nobody there."""
    node = Node(username="user", password="secret", vhosts=("/",), rabbitmq_version=version)
    talk = Talk(node).open()
    talk.say(1, Queue.Declare(0, "kept", durable=True))
    for number in range(3):
        talk.publish(1, "kept", b"%d" % number)
    talk.say(0, Connection.Close(200, "", 0, 0))
    talk.core.lost()
    return node


def is_as_before(node: Node) -> bool:
    """Nobody consumes, nothing is in hand, no queue is left that belonged to somebody, and others are served."""
    queue = node.vhosts["/"].queues["kept"]
    talk = Talk(node).open()
    seen = only(talk.say(1, Queue.Declare(0, "kept", passive=True)), Queue.DeclareOk)
    talk.core.lost()
    return (
        list(node.vhosts["/"].queues) == ["kept"]
        and (seen.message_count, seen.consumer_count) == (3, 0)
        and queue.unacked == 0
    )


def said(talk: Talk) -> list[tuple[int, bytes]]:
    """Channel and payload of each method in what the broker has to say. It must add up, whatever is in it."""
    octets = talk.core.outbox.take()
    talk.core.drained()
    found = []
    while octets:
        if octets.startswith(b"AMQP"):
            octets = octets[8:]
            continue
        kind, channel, size = struct.unpack(">BHI", octets[:7])
        assert octets[7 + size] == 0xCE
        if kind == METHOD:
            found.append((channel, octets[7 : 7 + size]))
        octets = octets[8 + size :]
    return found


CONNECTION_CLOSE, CHANNEL_CLOSE = b"\x00\x0a\x00\x32", b"\x00\x14\x00\x28"


def codes(heard: list[tuple[int, bytes]], close: bytes) -> list[int]:
    return [int.from_bytes(payload[4:6]) for _, payload in heard if payload[:4] == close]


def end_of(talk: Talk, octets: bytes, tear: int = FRAME_MAX) -> int | None:
    """The code that this ends the connection with. None if it goes on, which it must show then."""
    heard = []
    for start in range(0, len(octets), tear):
        talk.core.receive(octets[start : start + tear])
        heard += said(talk)
    closes = codes(heard, CONNECTION_CLOSE)
    assert len(closes) <= 1
    assert set(codes(heard, CHANNEL_CLOSE)) <= SOFT
    if closes:
        assert talk.node.vhosts["/"].queues["kept"].unacked == 0
        assert said_to(talk, marshalled(7, Channel.Open())) == []
        return closes[0]
    if talk.core.state is State.OPEN:
        # It may wait for the rest of a frame, and for no more than that: zeros are no frame.
        assert codes(said_to(talk, bytes(FRAME_MAX + 16)), CONNECTION_CLOSE) == [501]
    return None


def said_to(talk: Talk, octets: bytes) -> list[tuple[int, bytes]]:
    talk.core.receive(octets)
    return said(talk)


def ends_with(octets: bytes, tear: int = FRAME_MAX) -> int | None:
    """The same for the first connection of a node, which must leave nothing behind."""
    node = prepared()
    talk = Talk(node).open()
    code = end_of(talk, octets, tear)
    talk.core.tick(1000.0)
    talk.core.tick(1010.0)
    talk.core.lost()
    assert is_as_before(node)
    return code


def joined(frames: list[bytes]) -> bytes:
    return b"".join(frames)


def split(frame: bytes) -> tuple[int, int, bytes]:
    kind, channel, _ = struct.unpack(">BHI", frame[:7])
    return kind, channel, frame[7:-1]


# Damage of one kind, and the code it must lead to


def test_the_whole_conversation_is_sound() -> None:
    assert ends_with(joined(CONVERSATION)) is None


def test_a_conversation_may_end_at_every_octet() -> None:
    whole = HANDSHAKE + joined(CONVERSATION)
    node = prepared()
    for end in range(len(whole)):
        talk = Talk(node)
        talk.core.receive(whole[:end])
        assert codes(said(talk), CONNECTION_CLOSE) == []
        talk.core.lost()
        assert list(node.vhosts["/"].queues) == ["kept"]
    assert is_as_before(node)


places = st.sampled_from(range(len(CONVERSATION)))
tears = st.sampled_from([1, 7, 64, FRAME_MAX])


@quick
@given(places, st.integers(0, 255), tears)
def test_another_end_octet_is_501(place: int, end: int, tear: int) -> None:
    assume(end != 0xCE)
    damaged = CONVERSATION[place][:-1] + bytes((end,))
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]]), tear) == 501


@quick
@given(places, st.integers(FRAME_MAX + 1, 2**32 - 1), tears)
def test_a_size_above_the_limit_is_501(place: int, size: int, tear: int) -> None:
    damaged = CONVERSATION[place][:3] + struct.pack(">I", size) + CONVERSATION[place][7:]
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]]), tear) == 501


@quick
@given(places, st.data())
def test_a_size_that_is_too_small_is_501(place: int, data: st.DataObject) -> None:
    frame = CONVERSATION[place]
    size = data.draw(st.integers(0, len(frame) - 9))
    assume(frame[7 + size] != 0xCE)
    damaged = frame[:3] + struct.pack(">I", size) + frame[7:]
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]])) == 501


@quick
@given(places, st.integers(0, 255))
def test_an_unknown_type_is_501(place: int, kind: int) -> None:
    assume(kind not in (METHOD, HEADER, BODY, HEARTBEAT))
    damaged = bytes((kind,)) + CONVERSATION[place][1:]
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]])) == 501


@quick
@given(places, st.integers(2, 65_535))
def test_a_method_on_another_channel_is_504_and_content_is_505(place: int, channel: int) -> None:
    kind, _, payload = split(CONVERSATION[place])
    damaged = frame_of(kind, channel, payload)
    expected = 504 if kind == METHOD else 505
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]])) == expected


@quick
@given(places)
def test_a_method_on_channel_0_is_504_and_content_is_505(place: int) -> None:
    kind, _, payload = split(CONVERSATION[place])
    expected = 504 if kind == METHOD else 505
    damaged = frame_of(kind, 0, payload)
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]])) == expected


@quick
@given(st.sampled_from(PUBLISHES), st.integers(0, 2))
def test_a_publish_of_which_a_frame_is_missing_is_505(place: int, which: int) -> None:
    rest = [*CONVERSATION[: place + which], *CONVERSATION[place + which + 1 :]]
    assert ends_with(joined(rest)) == 505


@quick
@given(st.sampled_from(PUBLISHES), st.integers(0, 2))
def test_a_publish_of_which_a_frame_comes_twice_is_505(place: int, which: int) -> None:
    twice = [*CONVERSATION[: place + which + 1], *CONVERSATION[place + which :]]
    assert ends_with(joined(twice)) == 505


@quick
@given(st.sampled_from(PUBLISHES), st.permutations(range(3)))
def test_a_publish_whose_frames_are_out_of_order_is_505(place: int, order: list[int]) -> None:
    assume(order != [0, 1, 2])
    frames = [CONVERSATION[place + which] for which in order]
    assert ends_with(joined([*CONVERSATION[:place], *frames, *CONVERSATION[place + 3 :]])) == 505


@quick
@given(st.sampled_from(METHODS), st.data())
def test_arguments_that_end_too_early_are_501(place: int, data: st.DataObject) -> None:
    _, _, payload = split(CONVERSATION[place])
    assume(len(payload) > 4)
    damaged = frame_of(METHOD, 1, payload[: data.draw(st.integers(0, len(payload) - 1))])
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]])) == 501


@quick
@given(st.sampled_from(METHODS), st.binary(min_size=1, max_size=20))
def test_arguments_that_go_on_behind_their_end_are_501(place: int, more: bytes) -> None:
    damaged = frame_of(METHOD, 1, split(CONVERSATION[place])[2] + more)
    assert ends_with(joined([*CONVERSATION[:place], damaged, *CONVERSATION[place + 1 :]])) == 501


@quick
@given(st.integers(0, 65_535), st.integers(0, 65_535))
def test_a_method_that_is_unknown_is_503(group: int, number: int) -> None:
    assume((group << 16 | number) not in commands.INDEX_MAPPING)
    assert ends_with(frame_of(METHOD, 1, struct.pack(">HH", group, number))) == 503


@quick
@given(st.integers(0, 65_535), st.binary(max_size=20))
def test_a_heartbeat_with_a_payload_is_501_and_one_on_a_channel_is_505(channel: int, payload: bytes) -> None:
    expected = 501 if payload else 505 if channel else None
    assert ends_with(frame_of(HEARTBEAT, channel, payload)) == expected


@quick
@given(st.sampled_from(PUBLISHES), st.integers(0, 2**64 - 1))
def test_a_body_size_that_is_not_that_of_the_body_is_501_or_505_or_costs_the_channel(place: int, size: int) -> None:
    kind, channel, payload = split(CONVERSATION[place + 1])
    assume(size != int.from_bytes(payload[4:12]))
    damaged = frame_of(kind, channel, payload[:4] + struct.pack(">Q", size) + payload[12:])
    whole = joined([*CONVERSATION[: place + 1], damaged, *CONVERSATION[place + 2 :]])
    assert ends_with(whole) in (501, 505, None)


@quick
@given(st.binary(max_size=200), tears, st.sampled_from(VERSIONS))
@example(b"AMQP\x00\x00\x09\x00", 1, NEWEST)
@example(b"AMQP\x01\x01\x08\x00", 3, NEWEST)
def test_another_protocol_header_is_answered_with_a_better_one(octets: bytes, tear: int, version: str) -> None:
    assume(not any(header.startswith(octets[:8]) for header in PROTOCOL_HEADERS))
    talk = Talk(prepared(version))
    for start in range(0, len(octets), tear):
        talk.core.receive(octets[start : start + tear])
    assert talk.core.outbox.take() in (PROTOCOL_HEADERS[0], talk.node.behaviour.best_protocol_header)
    assert talk.core.finished


@quick
@given(st.binary(min_size=8, max_size=200), st.integers(0, 2), tears)
def test_random_octets_in_a_handshake_are_hung_up_on_without_a_word(octets: bytes, stage: int, tear: int) -> None:
    talk = Talk()
    talk.greet()
    if stage:
        talk.log_in()
    for start in range(0, len(octets), tear):
        talk.core.receive(octets[start : start + tear])
    talk.core.receive(bytes(5000))
    assert said(talk) == []
    assert talk.core.finished


# Damage of all kinds together

Damage = Callable[[list[bytes]], list[bytes]]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    place = draw(places)
    what = draw(st.sampled_from(["drop", "double", "move", "channel", "flip", "cut", "stretch", "strange", "size"]))
    octets = draw(st.binary(min_size=1, max_size=20))
    number = draw(st.integers(0, 65_535))

    def damage(frames: list[bytes]) -> list[bytes]:
        at = place % len(frames)
        frame = frames[at]
        before, after = frames[:at], frames[at + 1 :]
        kind, channel, payload = split(frame) if len(frame) > 8 else (METHOD, 1, b"")
        match what:
            case "drop":
                return before + after
            case "double":
                return [*before, frame, frame, *after]
            case "move":
                rest = before + after
                return [*rest[: number % len(frames)], frame, *rest[number % len(frames) :]]
            case "channel":
                return [*before, frame_of(kind, number % 4, payload), *after]
            case "flip":
                spot = number % len(frame)
                return [*before, frame[:spot] + octets[:1] + frame[spot + 1 :], *after]
            case "cut":
                return [*before, frame_of(kind, channel, payload[: number % (len(payload) + 1)]), *after]
            case "stretch":
                return [*before, frame_of(kind, channel, payload + octets), *after]
            case "size":
                return [*before, frame[:5] + struct.pack(">H", number) + frame[7:], *after]
            case _:
                return [*before, frame_of(number % 9, number % 3, octets), frame, *after]

    return damage


@thorough
@given(st.lists(damages(), min_size=1, max_size=5), tears)
def test_a_conversation_that_is_damaged_in_many_places_ends_with_the_right_kind_of_code(
    many: list[Damage], tear: int
) -> None:
    frames = list(CONVERSATION)
    for damage in many:
        frames = damage(frames) or [b"x"]
    node = prepared()
    talk = Talk(node).open()
    code = end_of(talk, joined(frames), tear)
    assert code is None or code in HARD
    talk.core.lost()
    leaves_nothing(node)


def leaves_nothing(node: Node) -> None:
    """Weaker than `is_as_before`: what was damaged may mean something else, such as an end of the queue."""
    for queue in node.vhosts["/"].queues.values():
        assert (queue.unacked, len(queue.consumers), queue.owner) == (0, 0, None)
    talk = Talk(node).open()
    talk.say(1, Queue.Declare(0, "fresh", exclusive=True))
    talk.publish(1, "fresh", b"new")
    assert talk.bodies(1, "fresh") == [b"new"]
    talk.core.lost()


# Conversations that are made up


@thorough
@given(made_up.conversations, st.integers(0, 3), st.sampled_from(VERSIONS))
def test_made_up_conversations_end_with_the_right_kind_of_code(steps: list[bytes], leap: int, version: str) -> None:
    node = prepared(version)
    talk = Talk(node).open(1, 2)
    talk.say(2, Queue.Declare(0, "dead", durable=True), Exchange.Declare(0, "e", "topic", durable=True))
    talk.say(
        2,
        Queue.Bind(0, "dead", "amq.fanout", ""),
        Queue.Bind(0, "dead", "e", "#"),
        Queue.Declare(0, "kept", passive=True),
    )
    for octets in steps:
        heard = said_to(talk, octets)
        closes = codes(heard, CONNECTION_CLOSE)
        assert set(closes) <= HARD
        if closes:
            break
        for closed in [number for number, payload in heard if payload[:4] == CHANNEL_CLOSE]:
            said_to(talk, marshalled(closed, Channel.CloseOk(), Channel.Open()))
        assert set(codes(heard, CHANNEL_CLOSE)) <= SOFT
        node.timeline.advance(node.timeline.now + leap, node.timeline.time + leap)
        node.look()
    talk.core.lost()
    leaves_nothing(node)


# Memory


@contextmanager
def allocating_less_than(octets: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < octets, after - before
    assert peak - before < 2 * octets, peak - before


def announcing(channel: int, size: int) -> bytes:
    header = frame_of(HEADER, channel, struct.pack(">HHQH", 60, 0, size, 0))
    return marshalled(channel, Basic.Publish(0, "", "kept")) + header


def test_a_body_takes_no_room_before_it_comes() -> None:
    talk = Talk(prepared()).open(*range(1, 200))
    octets = joined([announcing(channel, 16_000_000) for channel in range(1, 200)])
    with allocating_less_than(500_000):
        assert said_to(talk, octets) == []


def test_a_frame_takes_no_room_before_it_comes() -> None:
    talks = [Talk(prepared()).open() for _ in range(20)]
    with allocating_less_than(100_000):
        for talk in talks:
            assert said_to(talk, struct.pack(">BHI", BODY, 1, FRAME_MAX)) == []


def test_what_follows_a_frame_that_cannot_be_read_is_not_kept() -> None:
    talk = Talk(prepared()).open()
    said_to(talk, struct.pack(">BHI", METHOD, 1, FRAME_MAX + 1))
    with allocating_less_than(100_000):
        for _ in range(20):
            assert said_to(talk, bytes(100_000)) == []


# What fuzzing has found


def test_names_that_are_no_text_can_be_told() -> None:
    talk = Talk().open()
    method = b"\x00\x3c\x00\x28\0\0" + b"\x02\xffe" + b"\0" + b"\0"
    heard = said_to(talk, frame_of(METHOD, 1, method) + frame_of(HEADER, 1, b"\x00\x3c" + bytes(12)))
    assert "NOT_FOUND - no exchange 'ÿe' in vhost '/'".encode() in heard[0][1]


def test_a_message_dies_with_a_routing_key_that_is_no_text() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments={"x-dead-letter-exchange": "amq.fanout"}))
    talk.say(1, Queue.Declare(0, "dead", durable=True), Queue.Bind(0, "dead", "amq.fanout", ""))
    talk.say(1, Queue.Bind(0, "q", "amq.fanout", ""))
    method = b"\x00\x3c\x00\x28\0\0" + b"\x0aamq.fanout" + b"\x01\xff" + b"\0"
    said_to(talk, frame_of(METHOD, 1, method) + frame_of(HEADER, 1, b"\x00\x3c" + bytes(12)))
    talk.say(1, Queue.Unbind(0, "q", "amq.fanout", ""), Queue.Purge(0, "dead"))
    said_to(talk, marshalled(1, Basic.Get(0, "q"), Basic.Reject(1, False)))
    talk.core.receive(marshalled(1, Basic.Get(0, "dead", True)))
    assert b"\x0crouting-keysA\0\0\0\x06S\0\0\0\x01\xff" in talk.core.outbox.take()


def test_a_close_names_the_method_that_it_answers_and_no_earlier_one() -> None:
    talk = Talk().open(1, 2)
    close = only(talk.raw(frame_of(HEARTBEAT, 3, b"")), Connection.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (505, 0, 0)


def test_a_connection_is_closed_once() -> None:
    talk = Talk().open()
    assert len(said_to(talk, marshalled(0, Channel.Open()))) == 1
    assert said_to(talk, frame_of(METHOD, 1, b"x", b"X") + struct.pack(">BHI", BODY, 1, FRAME_MAX + 1)) == []


def test_a_channel_that_is_being_closed_is_not_opened_before_it_is() -> None:
    talk = Talk().open()
    talk.say(1, Basic.Ack(9))
    close = only(talk.say(1, Channel.Open()), Connection.Close)
    assert (close.reply_code, close.reply_text) == (504, "CHANNEL_ERROR - second 'channel.open' seen")


def test_a_type_of_queue_may_be_anything_in_a_second_declaration() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    close = only(
        talk.say(1, Queue.Declare(0, "q", durable=True, arguments={"x-queue-type": ["quorum"]})), Channel.Close
    )
    assert close.reply_code == 406


def test_bits_that_mean_nothing_are_not_looked_at() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    talk.publish(1, "q")
    talk.publish(1, "q")
    talk.say(1, Basic.Get(0, "q"), Basic.Get(0, "q"))
    assert said_to(talk, frame_of(METHOD, 1, b"\x00\x3c\x00\x50" + (2).to_bytes(8) + b"\x02")) == []
    assert talk.node.queue_depths() == {"q": 1}
