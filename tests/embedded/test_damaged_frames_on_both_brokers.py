"""What a broken client sends, written on a bare socket to the embedded broker and to RabbitMQ: the same code closes the
same thing with the same words. Where the two differ on purpose, the table says in what, and why."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from pamqp.commands import Basic, Channel, Connection, Queue

from tests.brokers import BrokerUnderTest
from tests.embedded.conversation import PROTOCOL_HEADER, publishing
from tests.embedded.wire import FRAME_MAX, Wire, frame_of, marshalled, opened
from tests.rabbitmq_installation import version_to_behave_like

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

# What is closed, with which code and text.
Close = tuple[str, int, str]
HANGS_UP: Close = ("hangs up", 0, "")
GOES_ON: Close = ("goes on", 0, "")


def method(group: int, number: int, arguments: bytes = b"") -> bytes:
    return frame_of(METHOD, 1, struct.pack(">HH", group, number) + arguments)


def declaring(table: bytes, *, name: bytes = b"q", length: int | None = None) -> bytes:
    size = struct.pack(">I", len(table) if length is None else length)
    return method(50, 10, b"\0\0" + bytes((len(name),)) + name + b"\4" + size + table)


def header(properties: bytes = b"\0\0", *, size: int = 1, group: int = 60) -> bytes:
    return frame_of(HEADER, 1, struct.pack(">HHQ", group, 0, size) + properties)


def headers(table: bytes) -> bytes:
    return header(b"\x20\0" + struct.pack(">I", len(table)) + table)


def too_large(size: int) -> bytes:
    """The first seven octets tell, the others need not come."""
    return struct.pack(">BHI", BODY, 1, size)


def nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return table


DECLARE = marshalled(1, Queue.Declare(0, "q", exclusive=True))
PUBLISH = marshalled(1, Basic.Publish(0, "", "q"))
ONE = frame_of(BODY, 1, b"x")
HARMLESS = marshalled(1, Basic.Qos(0, 1))

NO_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
NO_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
NOT_OPEN = "CHANNEL_ERROR - expected 'channel.open'"
OPEN_ALREADY = "CHANNEL_ERROR - second 'channel.open' seen"
RUNNING = "CHANNEL_ERROR - unexpected method in connection state running"
UNIMPLEMENTED = "COMMAND_INVALID - unimplemented method"
NO_UTF8 = "FRAME_ERROR - Malformed UTF-8 in shortstr"

# The frame itself: its type, size, end octet and place
FRAMES: dict[str, tuple[bytes, int, str]] = {
    "a method without ids": (
        frame_of(METHOD, 1, b"\0\x3c\0"),
        501,
        "FRAME_ERROR - type 1, all octets = <<0,60,0>>: unknown_frame",
    ),
    "a method of size 0": (frame_of(METHOD, 0, b""), 501, "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame"),
    "a header that is too short": (
        PUBLISH + frame_of(HEADER, 1, b"\0\x3c" + bytes(9)),
        501,
        "FRAME_ERROR - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0>>: unknown_frame",
    ),
    "another end octet": (
        frame_of(METHOD, 1, struct.pack(">HHIHB", 60, 10, 0, 0, 0), b"X"),
        501,
        "FRAME_ERROR - type 1, all octets = <<0,60,0,10,0,0,0,0,0,0,0>>: {invalid_frame_end_marker,\n"
        + " " * 51
        + "88}",
    ),
    "another end octet of a heartbeat": (
        frame_of(HEARTBEAT, 0, b"", b"\0"),
        501,
        "FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,0}",
    ),
    "another end octet of a body": (
        DECLARE + PUBLISH + header() + frame_of(BODY, 1, b"x", b"\xcf"),
        501,
        'FRAME_ERROR - type 3, all octets = <<"x">>: {invalid_frame_end_marker,207}',
    ),
    "one octet more than negotiated": (
        too_large(FRAME_MAX + 1),
        501,
        "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}",
    ),
    "the largest size there is": (
        too_large(0xFFFFFFFF),
        501,
        "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4294967295,131064}",
    ),
    "a protocol header once more": (
        b"AMQP\0\0\x09\x01",
        501,
        "FRAME_ERROR - type 65, all octets = <<>>: {frame_too_large,1342177289,131064}",
    ),
    "an unknown type": (frame_of(5, 0, b"X"), 501, 'FRAME_ERROR - type 5, all octets = <<"X">>: unknown_frame'),
    "an unknown type with text to be escaped": (
        frame_of(255, 1, b'a"b\\c\n'),
        501,
        'FRAME_ERROR - type 255, all octets = <<"a\\"b\\\\c\\n">>: unknown_frame',
    ),
    "an unknown type with much text": (
        frame_of(4, 1, b"0123456789abcdef0"),
        501,
        'FRAME_ERROR - type 4, first 16 octets = <<"0123456789abcdef">>: unknown_frame',
    ),
    "an unknown type with many numbers": (
        frame_of(5, 9, b"\x80" * 20),
        501,
        f"FRAME_ERROR - type 5, first 16 octets = <<{'128,' * 12}\n{' ' * 28}128,128,128,128>>: unknown_frame",
    ),
    "a heartbeat with a payload": (
        frame_of(HEARTBEAT, 0, b"x"),
        501,
        'FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame',
    ),
    "a heartbeat on a channel": (frame_of(HEARTBEAT, 1, b""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
    "a body on channel 0": (frame_of(BODY, 0, b"x"), 505, 'UNEXPECTED_FRAME - type 3, all octets = <<"x">>'),
    "a header on channel 0": (
        frame_of(HEADER, 0, struct.pack(">HHQ", 60, 0, 1) + b"\0\0"),
        505,
        "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>",
    ),
}

# The method: where it may come, and its arguments
METHODS: dict[str, tuple[bytes, int, str]] = {
    "a method on a channel that is not open": (marshalled(9, Queue.Declare(0, "q")), 504, NOT_OPEN),
    "a message on a channel that is not open": (marshalled(9, *publishing("q")), 504, NOT_OPEN),
    "the end of a channel that is not open": (marshalled(9, Channel.Close(200, "", 0, 0)), 504, NOT_OPEN),
    "an answer on a channel that is not open": (marshalled(9, Channel.CloseOk()), 504, NOT_OPEN),
    "the end of the connection on a channel that is not open": (
        marshalled(9, Connection.Close(200, "", 0, 0)),
        504,
        NOT_OPEN,
    ),
    "an answer to no question": (marshalled(1, Channel.CloseOk()), 503, UNIMPLEMENTED),
    "a channel that is opened twice": (marshalled(1, Channel.Open()), 504, OPEN_ALREADY),
    "a method of a channel on channel 0": (marshalled(0, Basic.Qos(0, 1)), 504, RUNNING),
    "a second connection.open": (marshalled(0, Connection.Open("/")), 504, RUNNING),
    "a late connection.start-ok": (marshalled(0, Connection.StartOk({}, "PLAIN", "x", "en_US")), 504, RUNNING),
    "connection.close-ok to no close": (marshalled(0, Connection.CloseOk()), 504, RUNNING),
    "a method of the server on channel 0": (marshalled(0, Connection.Blocked("x")), 504, RUNNING),
    "a method of the connection on a channel": (marshalled(1, Connection.Open("/")), 503, UNIMPLEMENTED),
    "a method of the server": (marshalled(1, Queue.DeclareOk("q", 0, 0)), 503, UNIMPLEMENTED),
    "a message of the server": (
        marshalled(1, Basic.Return(312, "x", "", "q"), *publishing("q")[1:]),
        503,
        UNIMPLEMENTED,
    ),
    "fewer octets than arguments": (method(60, 10, b"\0"), 501, "FRAME_ERROR - cannot decode <<0>>"),
    "more octets than arguments": (
        method(60, 10, bytes(8)),
        501,
        "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,0>>",
    ),
    "a publish with too few octets": (method(60, 40, b"\0\0\x05"), 501, "FRAME_ERROR - cannot decode <<0,0,5>>"),
    "an ack with too many octets": (
        method(60, 80, bytes(10)),
        501,
        "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,0,0,0>>",
    ),
    "an end of the channel with too few octets": (method(20, 40, b"\0"), 501, "FRAME_ERROR - cannot decode <<0>>"),
    "a name that is longer than the frame": (
        method(50, 10, b"\0\0\x09q"),
        501,
        "FRAME_ERROR - cannot decode <<0,0,9,113>>",
    ),
    "a table that is longer than the frame": (
        declaring(b"", length=0xFFFFFFFF),
        501,
        "FRAME_ERROR - cannot decode <<0,0,1,113,4,255,255,255,255>>",
    ),
    "a table that ends before the frame": (
        declaring(b"\x01aI\0\0\0\1", length=2),
        501,
        "FRAME_ERROR - cannot decode <<0,0,1,113,4,0,0,0,2,1,97,73,0,0,0,1>>",
    ),
    "a name that is no text": (declaring(b"", name=b"\xff\xfe"), 501, NO_UTF8),
    "a routing key that is no text": (
        DECLARE + method(50, 20, b"\0\0\x01q\x0aamq.direct\x01\xff\0" + bytes(4)),
        501,
        NO_UTF8,
    ),
    "prefetch in octets": (
        marshalled(1, Basic.Qos(5, 1)),
        540,
        "NOT_IMPLEMENTED - prefetch_size!=0 (5)",
    ),
    "a flow that stops us": (marshalled(1, Channel.Flow(False)), 540, "NOT_IMPLEMENTED - active=false"),
}

# The content of a message: a header, then bodies up to its size
CONTENT: dict[str, tuple[bytes, int, str]] = {
    "a header first": (header(), 505, NO_METHOD),
    "a body first": (ONE, 505, NO_METHOD),
    "a header on a channel that is not open": (frame_of(HEADER, 9, bytes(14)), 505, NO_METHOD),
    "a publish within a publish": (PUBLISH + PUBLISH, 505, NO_HEADER),
    "a body in place of the header": (PUBLISH + ONE, 505, NO_HEADER),
    "a method in place of the body": (PUBLISH + header() + DECLARE, 505, NO_BODY),
    "a second header": (PUBLISH + header() + header(), 505, NO_BODY),
    "a body behind the end": (DECLARE + PUBLISH + header() + ONE + ONE, 505, NO_METHOD),
    "an empty body behind the end": (DECLARE + PUBLISH + header(size=0) + frame_of(BODY, 1, b""), 505, NO_METHOD),
    "a header with a weight": (
        PUBLISH + frame_of(HEADER, 1, struct.pack(">HHQH", 60, 7, 1, 0)),
        505,
        NO_HEADER,
    ),
    "a header of another class": (
        PUBLISH + header(group=50),
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
    ),
    "an end of the channel before the header": (PUBLISH + marshalled(1, Channel.Close(200, "", 0, 0)), 505, NO_HEADER),
    "an end of the channel before the body": (
        PUBLISH + header() + marshalled(1, Channel.Close(200, "", 0, 0)),
        505,
        NO_BODY,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A damage that the two take differently, and why."""

    octets: bytes
    embedded: Close
    rabbitmq: Close
    why: str


CRASH = "the process of RabbitMQ that reads the frame crashes; the embedded broker says what was wrong"
CRASH_OF_CHANNEL = "the process of RabbitMQ's channel crashes; the embedded broker says what was wrong"
INTERNAL_ERROR: Close = ("connection", 541, "INTERNAL_ERROR")
BAD_TABLE: Close = ("connection", 502, "SYNTAX_ERROR - cannot decode a table of arguments")
BAD_HEADER: Close = ("connection", 502, "SYNTAX_ERROR - cannot decode content header")

DIFFERENCES: dict[str, Difference] = {
    "an unknown method": Difference(
        octets=method(60, 255),
        embedded=("connection", 503, "COMMAND_INVALID - unknown method 60.255"),
        rabbitmq=HANGS_UP,
        why=CRASH,
    ),
    "a field of an unknown type": Difference(
        octets=declaring(b"\x01aZ"), embedded=BAD_TABLE, rabbitmq=HANGS_UP, why=CRASH
    ),
    "a field that is longer than its table": Difference(
        octets=declaring(b"\x01aS\0\0\0\x09x"), embedded=BAD_TABLE, rabbitmq=HANGS_UP, why=CRASH
    ),
    "a table within a table that does not add up": Difference(
        octets=declaring(b"\x01aF\0\0\0\x03\x01bZ"), embedded=BAD_TABLE, rabbitmq=HANGS_UP, why=CRASH
    ),
    "a number that is none": Difference(
        octets=declaring(b"\x01ad\x7f\xf8" + bytes(6)), embedded=BAD_TABLE, rabbitmq=HANGS_UP, why=CRASH
    ),
    "tables within tables": Difference(
        octets=declaring(nested(2000)),
        embedded=BAD_TABLE,
        rabbitmq=GOES_ON,
        why="64 of them are as many as the embedded broker reads",
    ),
    "properties that are not there": Difference(
        octets=DECLARE + PUBLISH + header(b"\x80\0") + ONE,
        embedded=BAD_HEADER,
        rabbitmq=INTERNAL_ERROR,
        why=CRASH_OF_CHANNEL,
    ),
    "headers of an unknown type": Difference(
        octets=DECLARE + PUBLISH + headers(b"\x01aA\0\0\0\x01Z") + ONE,
        embedded=BAD_HEADER,
        rabbitmq=INTERNAL_ERROR,
        why=CRASH_OF_CHANNEL,
    ),
    "an end of the connection with too few octets": Difference(
        octets=frame_of(METHOD, 0, b"\0\x0a\0\x32\0"),
        embedded=("connection", 501, "FRAME_ERROR - cannot decode <<0>>"),
        rabbitmq=INTERNAL_ERROR,
        why=CRASH,
    ),
}

# What RabbitMQ 3.10 takes otherwise than 4.3 does, and the embedded broker as the version that it behaves like
CHANGED: dict[str, tuple[bytes, Close, Close]] = {
    "a body that is longer than announced": (
        DECLARE + PUBLISH + header() + frame_of(BODY, 1, b"xyz"),
        ("connection", 505, NO_BODY),  # noticed with the next frame only
        ("connection", 501, "FRAME_ERROR - content body frame exceeds remaining content size"),
    ),
}

# What looks damaged and is not
SOUND: dict[str, bytes] = {
    "a payload as large as a frame may be": (
        DECLARE + PUBLISH + header(size=FRAME_MAX) + frame_of(BODY, 1, bytes(FRAME_MAX))
    ),
    "a heartbeat within a message": DECLARE + PUBLISH + header() + frame_of(HEARTBEAT, 0, b"") + ONE,
    "another channel within a message": DECLARE + PUBLISH + marshalled(2, Channel.Open()) + header() + ONE,
    "an empty body within a message": DECLARE + PUBLISH + header() + frame_of(BODY, 1, b"") + ONE,
    "a flag without a property": DECLARE + PUBLISH + header(b"\0\2") + ONE,
    "bits that mean nothing": method(50, 10, b"\0\0\x01q\xe4" + bytes(4)),
    "a key of a table that is no text": declaring(b"\x01\xffI\0\0\0\1"),
    "a moment far away": DECLARE + PUBLISH + headers(b"\x01aT" + b"\xff" * 8) + ONE,
    "a published key that is no text": method(60, 40, b"\0\0\0\x01\xff\0") + header() + ONE,
    "a channel with a high number": marshalled(65_535, Channel.Open()),
}


# While the connection is being opened. RabbitMQ hangs up 3 s later, so that nobody can try passwords quickly
STARTING, TUNING, OPENING = range(3)
SILENT: dict[str, tuple[int, bytes]] = {
    "a method too early": (STARTING, marshalled(0, Connection.Open("/"))),
    "a channel too early": (STARTING, marshalled(1, Channel.Open())),
    "a close too early": (STARTING, marshalled(0, Connection.Close(200, "", 0, 0))),
    "another end octet": (STARTING, frame_of(METHOD, 0, b"\0\x0a\0\x0b", b"X")),
    "an unknown type": (STARTING, frame_of(5, 0, b"x")),
    "arguments that do not add up": (STARTING, frame_of(METHOD, 0, b"\0\x0a\0\x0b\0")),
    "a mechanism nobody knows": (STARTING, marshalled(0, Connection.StartOk({}, "SECRET", "x", "en_US"))),
    "a login without a password": (STARTING, marshalled(0, Connection.StartOk({}, "PLAIN", "\0guest", "en_US"))),
    "a login that is no table": (STARTING, marshalled(0, Connection.StartOk({}, "AMQPLAIN", "x", "en_US"))),
    "more channels than offered": (TUNING, marshalled(0, Connection.TuneOk(2048, 131_072, 0))),
    "larger frames than offered": (TUNING, marshalled(0, Connection.TuneOk(2047, 131_073, 0))),
    "smaller frames than the smallest": (TUNING, marshalled(0, Connection.TuneOk(2047, 4095, 0))),
    "open before tune": (TUNING, marshalled(0, Connection.Open("/"))),
    "a body before tune": (TUNING, frame_of(BODY, 0, b"x")),
}
UNOPENED: dict[str, tuple[bytes, int, str]] = {
    "a channel": (
        marshalled(1, Basic.Get(0, "q")),
        505,
        "UNEXPECTED_FRAME - type 1, all octets = <<0,60,0,70,0,0,1,113,0>>",
    ),
    "a heartbeat on a channel": (frame_of(HEARTBEAT, 1, b""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
    "an unknown type": (frame_of(5, 0, b"X"), 501, 'FRAME_ERROR - type 5, all octets = <<"X">>: unknown_frame'),
    "close": (
        marshalled(0, Connection.Close(200, "", 0, 0)),
        504,
        "CHANNEL_ERROR - unexpected method in connection state opening",
    ),
    "tune-ok once more": (
        marshalled(0, Connection.TuneOk(2047, 131_072, 0)),
        504,
        "CHANNEL_ERROR - unexpected method in connection state opening",
    ),
    "another end octet": (
        frame_of(METHOD, 0, b"\0\x0a\0\x28\x01/\0\0", b"X"),
        501,
        "FRAME_ERROR - type 1, all octets = <<0,10,0,40,1,47,0,0>>: {invalid_frame_end_marker,88}",
    ),
    "a virtual host that is no text": (frame_of(METHOD, 0, b"\0\x0a\0\x28\x01\xff\0\0"), 501, NO_UTF8),
    "a virtual host that is not there": (
        marshalled(0, Connection.Open("nowhere")),
        530,
        "NOT_ALLOWED - vhost nowhere not found",
    ),
}


def ending(wire: Wire, octets: bytes) -> Close:
    """What a client on channel 1 hears that sends this."""
    wire.send(octets)
    while (heard := wire.hear()) is not None:
        match heard[1]:
            case Connection.Close(reply_code=code, reply_text=text):
                return "connection", code or 0, text
            case Channel.Close(reply_code=code, reply_text=text):
                return "channel", code or 0, text
            case Basic.QosOk():
                return GOES_ON
    return HANGS_UP


@contextmanager
def unopened(url: str, stage: int) -> Iterator[Wire]:
    with Wire(url) as wire:
        wire.greet()
        if stage >= TUNING:
            wire.log_in()
        if stage >= OPENING:
            wire.say(0, Connection.TuneOk(2047, FRAME_MAX, 0))
        yield wire


@pytest.mark.parametrize(
    ("octets", "code", "text"),
    [pytest.param(*each, id=name) for name, each in {**FRAMES, **METHODS, **CONTENT}.items()],
)
def test_what_is_damaged_closes_the_connection(broker: BrokerUnderTest, octets: bytes, code: int, text: str) -> None:
    with opened(broker.url, 1) as other, opened(broker.url, 1) as wire:
        assert ending(wire, octets) == ("connection", code, text)
        # And nobody else's
        assert ending(other, HARMLESS) == GOES_ON


@pytest.mark.parametrize("difference", [pytest.param(each, id=name) for name, each in DIFFERENCES.items()])
def test_damages_that_are_taken_differently(broker: BrokerUnderTest, difference: Difference) -> None:
    expected = difference.rabbitmq if broker.kind == "rabbitmq" else difference.embedded
    with opened(broker.url, 1) as wire:
        assert ending(wire, difference.octets + HARMLESS) == expected


@pytest.mark.parametrize(("octets", "before", "now"), [pytest.param(*each, id=name) for name, each in CHANGED.items()])
def test_damages_that_versions_take_differently(
    broker: BrokerUnderTest, octets: bytes, before: Close, now: Close
) -> None:
    with opened(broker.url, 1) as wire:
        assert ending(wire, octets + HARMLESS) == (now if version_to_behave_like() == "4.3" else before)


@pytest.mark.parametrize("octets", [pytest.param(each, id=name) for name, each in SOUND.items()])
def test_what_looks_damaged_and_is_not(broker: BrokerUnderTest, octets: bytes) -> None:
    with opened(broker.url, 1) as wire:
        assert ending(wire, octets + HARMLESS) == GOES_ON


def test_strangers_are_hung_up_on_without_a_word(broker: BrokerUnderTest) -> None:
    with ExitStack() as stack:
        # All at once, as RabbitMQ takes its time
        wires = {name: stack.enter_context(unopened(broker.url, stage)) for name, (stage, _) in SILENT.items()}
        for name, wire in wires.items():
            wire.send(SILENT[name][1])
        assert {name: wire.hear_all() for name, wire in wires.items()} == {name: [] for name in SILENT}


@pytest.mark.parametrize(("octets", "code", "text"), [pytest.param(*each, id=name) for name, each in UNOPENED.items()])
def test_who_has_logged_in_is_told(broker: BrokerUnderTest, octets: bytes, code: int, text: str) -> None:
    with unopened(broker.url, OPENING) as wire:
        wire.send(octets)
        close = wire.expect(0, Connection.Close)
        assert (close.reply_code, close.reply_text) == (code, text)


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"AMQP\0\0\x09\x09", b"\x16\3\1\0\0\0\0\0"])
def test_who_speaks_something_else_is_told_what_is_spoken_here(broker: BrokerUnderTest, octets: bytes) -> None:
    answer = PROTOCOL_HEADER
    if version_to_behave_like() == "4.3" and not octets.startswith(PROTOCOL_HEADER[:7]):
        answer = b"AMQP\3\1\0\0"  # it would rather have AMQP 1.0
    with Wire(broker.url) as wire:
        wire.send(octets)
        assert wire.hear_all() == [(0, answer)]


def test_old_clients_are_understood(broker: BrokerUnderTest) -> None:
    with Wire(broker.url) as wire:
        wire.send(b"AMQP\1\1\0\x09")
        assert wire.expect(0, Connection.Start).version_minor == 9
