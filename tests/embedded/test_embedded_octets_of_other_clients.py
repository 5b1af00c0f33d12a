"""What pika, the Node client amqplib and others write, octet by octet: our own client shares its codec with the broker,
so it can show no disagreement about field types, moments, flags or the order of frames. Written by hand."""

import struct

import pytest
from pamqp.commands import Basic, Channel, Connection, Exchange, Queue

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import PROTOCOL_HEADER, Talk, closed, methods, new_node, only
from tests.embedded.wire import frame_of

METHOD, HEADER, BODY = 1, 2, 3
MILLISECONDS = 1_763_881_200_000  # Date.now() of a day in 2025; as seconds, it lies in the year 57865


def short(text: str) -> bytes:
    return bytes((len(text.encode()),)) + text.encode()


def long(octets: bytes) -> bytes:
    return struct.pack(">I", len(octets)) + octets


def table(**fields: bytes) -> bytes:
    return long(b"".join(short(name.replace("_", "-")) + value for name, value in fields.items()))


def text(value: str) -> bytes:
    return b"S" + long(value.encode())


def method(number: int, *arguments: bytes, group: int, channel: int = 1) -> bytes:
    return frame_of(METHOD, channel, struct.pack(">HH", group, number) + b"".join(arguments))


def declare(queue: str, arguments: bytes) -> bytes:
    return method(10, b"\0\0", short(queue), b"\x02", arguments, group=50)


def bind(queue: str, exchange: str, arguments: bytes) -> bytes:
    return method(20, b"\0\0", short(queue), short(exchange), short(""), b"\0", arguments, group=50)


def publish(queue: str, headers: bytes, *, exchange: str = "", body: bytes = b"x") -> bytes:
    started = method(40, b"\0\0", short(exchange), short(queue), b"\0", group=60)
    header = frame_of(HEADER, 1, struct.pack(">HHQH", 60, 0, len(body), 1 << 13) + headers)
    return started + header + frame_of(BODY, 1, body)


def octets_of(talk: Talk, octets: bytes) -> bytes:
    """All that is answered, as it lies on the wire."""
    talk.core.receive(octets)
    return talk.core.outbox.take()


GET = method(70, b"\0\0", short("q"), b"\x01", group=60)


# Tables

PIKA = {
    "text": text("заказ"),
    "octets": b"x" + long(b"\0\xff"),
    "bool": b"t\x01",
    "int": b"I\xff\xff\xff\xfb",
    "long": b"l\x00\x00\x01\x00\x00\x00\x00\x00",
    "double": b"d" + struct.pack(">d", -0.5),
    "decimal": b"D\x02\x00\x00\x01\x3a",
    "moment": b"T" + struct.pack(">Q", 1_763_881_200),
    "dict": b"F" + table(a=b"F" + table(b=text("c"))),
    "list": b"A" + long(text("a") + b"I\x00\x00\x00\x07" + b"V"),
    "none": b"V",
}
AMQPLIB = {
    "byte": b"b\xfb",
    "uint8": b"B\xfb",
    "short": b"s\xff\x38",
    "uint16": b"u\xff\x38",
    "int": b"I\x00\x01\x86\xa0",
    "uint32": b"i\xff\xff\xff\xff",
    "long": b"l\x00\x00\x01\x9a\xb0\xa3\xc7\x80",
    "double": b"d" + struct.pack(">d", 3.14),
    "float": b"f" + struct.pack(">f", 1.5),
    "decimal": b"D\xff\xff\xff\xff\xff",
    "milliseconds": b"T" + struct.pack(">Q", MILLISECONDS),
    "Buffer": b"x" + long(b""),
    "null": b"V",
    "Object": b"F" + table(k=b"A" + long(b"A" + long(b""))),
}
OTHERS = {
    "unsigned long": b"L\x00\x00\x00\x00\x00\x00\x00\x05",
    "text that is none": b"S" + long(b"\xff\xfe"),
    "last moment": b"T" + b"\xff" * 8,
}
VALUES = [
    pytest.param(octets, id=f"{client}-{name}")
    for client, values in {"pika": PIKA, "amqplib": AMQPLIB, "others": OTHERS}.items()
    for name, octets in values.items()
]


@pytest.mark.parametrize("value", VALUES)
def test_headers_are_delivered_as_the_octets_they_came_in(value: bytes) -> None:
    talk = Talk().open()
    headers = table(k=value)
    answer = octets_of(talk, declare("q", table()) + publish("q", headers) + GET)
    assert struct.pack(">HHQH", 60, 0, 1, 1 << 13) + headers in answer


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", VALUES)
def test_headers_are_kept_by_a_dead_letter(value: bytes, version: str) -> None:
    talk = Talk(new_node(rabbitmq_version=version)).open()
    to_dead = table(x_dead_letter_exchange=text(""), x_dead_letter_routing_key=text("dead"))
    talk.raw(declare("dead", table()) + declare("q", to_dead) + publish("q", table(k=value)))
    octets_of(talk, method(70, b"\0\0", short("q"), b"\0", group=60))
    talk.say(1, Basic.Reject(1, False))
    answer = octets_of(talk, method(70, b"\0\0", short("dead"), b"\x01", group=60))
    assert short("k") + value in answer
    assert short("x-death") + b"A" in answer


@pytest.mark.parametrize("value", VALUES)
def test_arguments_of_any_type_are_kept_and_alike_the_second_time(value: bytes) -> None:
    talk = Talk().open()
    arguments = table(mine=value)
    seen = talk.raw(
        declare("q", arguments) * 2 + method(20, b"\0\0", short("q"), short("c"), b"\2", arguments, group=60)
    )
    assert methods(seen) == ["Queue.DeclareOk", "Queue.DeclareOk", "Basic.ConsumeOk"]


@pytest.mark.parametrize("value", VALUES)
def test_a_binding_matches_the_header_it_names_and_is_found_again(value: bytes) -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "h", "headers"))
    talk.raw(declare("q", table()) + bind("q", "h", table(k=value)) + publish("", table(k=value), exchange="h"))
    assert talk.node.queue_depths() == {"q": 1}
    talk.raw(method(50, b"\0\0", short("q"), short("h"), short(""), table(k=value), group=50))
    talk.raw(publish("", table(k=value), exchange="h"))
    assert talk.node.queue_depths() == {"q": 1}


FIVE = [b"b\x05", b"B\x05", b"s\x00\x05", b"u\x00\x05", b"I\x00\x00\x00\x05", b"i\x00\x00\x00\x05"]
FIVE += [kind + b"\x00" * 7 + b"\x05" for kind in (b"l", b"L")]


@pytest.mark.parametrize("written", FIVE)
def test_a_number_is_the_same_in_every_width(written: bytes) -> None:
    """pika writes 5 in four octets, amqplib in one, pamqp in one, the Java client in four or eight."""
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "h", "headers"))
    seen = talk.raw(declare("q", table(x_max_length=written)) + declare("q", table(x_max_length=FIVE[4])))
    assert methods(seen) == ["Queue.DeclareOk", "Queue.DeclareOk"]
    talk.raw(bind("q", "h", table(k=written)) + publish("", table(k=FIVE[4]), exchange="h"))
    assert talk.bodies(1, "q") == [b"x"]


@pytest.mark.parametrize(
    ("bound", "sent"),
    [(text("v"), b"x" + long(b"v")), (b"x" + long(b"v"), text("v"))],
    ids=["text-octets", "octets-text"],
)
def test_a_buffer_matches_the_text_of_the_same_octets(bound: bytes, sent: bytes) -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "h", "headers"))
    talk.raw(declare("q", table()) + bind("q", "h", table(k=bound)) + publish("", table(k=sent), exchange="h"))
    assert talk.bodies(1, "q") == [b"x"]


def test_true_is_not_one() -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "h", "headers"))
    talk.raw(declare("q", table()) + bind("q", "h", table(k=b"t\x01")) + publish("", table(k=b"b\x01"), exchange="h"))
    assert talk.bodies(1, "q") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_broker_counts_deaths_in_64_bits(version: str) -> None:
    """The Java client casts what it reads to Long, and fails on anything smaller."""
    talk = Talk(new_node(rabbitmq_version=version)).open()
    talk.raw(declare("q", table(x_dead_letter_exchange=text(""), x_dead_letter_routing_key=text("q"))))
    talk.publish(1, "q")
    talk.say(1, Basic.Get(0, "q"), Basic.Reject(1, False))
    assert short("count") + b"l\x00\x00\x00\x00\x00\x00\x00\x01" in octets_of(talk, GET)


# From hello to the first channel

AMQPLIB_PROPERTIES = table(
    product=text("amqplib"),
    version=text("2.0.1"),
    platform=text("Node.JS v20.20.2"),
    information=text("http://amqp-node.github.io/amqplib/"),
    capabilities=b"F"
    + long(b"".join(short(name) + b"t\x01" for name in ("publisher_confirms", "basic.nack", "connection.blocked"))),
)


def start_ok(mechanism: str, response: bytes, properties: bytes = AMQPLIB_PROPERTIES) -> bytes:
    return method(11, properties, short(mechanism), long(response), short("en_US"), group=10, channel=0)


def tune_ok(channel_max: int, frame_max: int, heartbeat: int) -> bytes:
    return method(31, struct.pack(">HIH", channel_max, frame_max, heartbeat), group=10, channel=0)


CONNECTION_OPEN = method(40, short("/"), short(""), b"\0", group=10, channel=0)
CHANNEL_OPEN = method(10, short(""), group=20)
LOGIN = short("LOGIN") + text("user")
PASSWORD = short("PASSWORD") + text("secret")


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0user\0secret"),
        ("AMQPLAIN", LOGIN + PASSWORD),
        ("AMQPLAIN", short("Z") + b"T" + b"\xff" * 8 + PASSWORD + LOGIN),
    ],
)
@pytest.mark.parametrize("tuned", [(2047, 131_072, 60), (2047, 4096, 0), (1, 131_072, 580)])
def test_a_client_may_say_hello_before_it_is_asked(
    mechanism: str, response: bytes, tuned: tuple[int, int, int]
) -> None:
    """Several methods in one packet, with nothing heard in between; capabilities and limits as clients send them."""
    talk = Talk()
    seen = talk.raw(PROTOCOL_HEADER + start_ok(mechanism, response) + tune_ok(*tuned) + CONNECTION_OPEN + CHANNEL_OPEN)
    assert methods(seen) == ["Connection.Start", "Connection.Tune", "Connection.OpenOk", "Channel.OpenOk"]
    assert talk.core.client_properties["product"] == "amqplib"


@pytest.mark.parametrize("value", VALUES)
def test_a_client_may_tell_anything_of_itself(value: bytes) -> None:
    talk = Talk()
    seen = talk.raw(PROTOCOL_HEADER + start_ok("PLAIN", b"\0user\0secret", table(mine=value)))
    assert methods(seen) == ["Connection.Start", "Connection.Tune"]


@pytest.mark.parametrize("capabilities", [text("none"), b"V", b"F" + table()])
def test_capabilities_may_be_no_table(capabilities: bytes) -> None:
    talk = Talk()
    properties = table(capabilities=capabilities)
    seen = talk.raw(PROTOCOL_HEADER + start_ok("PLAIN", b"\0user\0wrong", properties))
    assert methods(seen) == ["Connection.Start"]
    assert talk.core.finished


def test_a_channel_too_many_is_refused_in_the_name_of_no_method() -> None:
    """RabbitMQ finds out in front of the channel, pika logs the ids it is told."""
    talk = Talk()
    talk.raw(PROTOCOL_HEADER + start_ok("PLAIN", b"\0user\0secret") + tune_ok(1, 131_072, 0) + CONNECTION_OPEN)
    talk.raw(CHANNEL_OPEN)
    close = only(talk.raw(method(10, short(""), group=20, channel=2)), Connection.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (530, 0, 0)


# Traffic that is unusual and legal


def test_it_does_not_matter_in_how_many_packets_a_conversation_comes() -> None:
    hello = start_ok("PLAIN", b"\0user\0secret") + tune_ok(2047, 4096, 0) + CONNECTION_OPEN + CHANNEL_OPEN
    many = publish("q", table(**PIKA), body=b"y" * 5) + publish("q", table(**AMQPLIB))
    octets = PROTOCOL_HEADER + hello + declare("q", table()) + many + GET * 3
    whole, torn = Talk(), Talk()
    at_once = octets_of(whole, octets)
    assert b"".join(octets_of(torn, octets[at : at + 1]) for at in range(len(octets))) == at_once
    assert at_once.count(b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x48") == 1  # the third basic.get finds nothing


def content(size: int, *parts: bytes) -> bytes:
    started = method(40, b"\0\0", short(""), short("q"), b"\0", group=60)
    header = frame_of(HEADER, 1, struct.pack(">HHQH", 60, 0, size, 0))
    return started + header + b"".join(frame_of(BODY, 1, part) for part in parts)


@pytest.mark.parametrize(
    ("octets", "body"),
    [
        (content(0), b""),
        (content(2, b"", b"a", b"", b"b"), b"ab"),
        (content(3, b"a", b"b", b"c"), b"abc"),
    ],
    ids=["no frame", "empty frames", "one octet each"],
)
def test_a_body_may_come_in_any_frames(octets: bytes, body: bytes) -> None:
    talk = Talk().open()
    talk.raw(declare("q", table()) + octets)
    assert talk.bodies(1, "q") == [body]


def test_frames_of_other_channels_may_come_in_the_middle_of_a_message() -> None:
    """amqplib sends its channels in turns, frame by frame."""
    talk = Talk().open(1, 2)
    talk.raw(declare("q", table()))
    head, body = content(1, b"x")[:-9], content(1, b"x")[-9:]
    between = method(10, struct.pack(">IHB", 0, 7, 0), group=60, channel=2)
    assert [channel for channel, _ in talk.raw(head + between + body)] == [2]
    assert talk.bodies(1, "q") == [b"x"]


def test_a_channel_is_not_closed_in_the_middle_of_a_message() -> None:
    talk = Talk().open()
    close = method(40, b"\0\0", short(""), b"\0\0\0\0", group=20)
    text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
    assert closed(talk.raw(content(2, b"a") + close)) == ("connection", 505, text)


def test_the_weight_of_a_content_header_is_zero() -> None:
    talk = Talk().open()
    octets = content(0).replace(struct.pack(">HHQ", 60, 0, 0), struct.pack(">HHQ", 60, 7, 0))
    text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
    assert closed(talk.raw(octets)) == ("connection", 505, text)


@pytest.mark.parametrize("bits", [0b1110_0000, 0b0000_0000])
def test_bits_that_mean_nothing_are_not_looked_at(bits: int) -> None:
    talk = Talk().open()
    seen = talk.raw(method(10, b"\0\7", short("q"), bytes((bits | 2,)), table(), group=50))
    assert methods(seen) == ["Queue.DeclareOk"]


def test_a_channel_may_be_opened_again_under_its_number() -> None:
    """amqplib takes the smallest number that is free."""
    talk = Talk().open()
    talk.say(1, Channel.Close(200, "", 0, 0))
    assert methods(talk.raw(CHANNEL_OPEN) + talk.say(1, Queue.Declare(0, ""))) == ["Channel.OpenOk", "Queue.DeclareOk"]


@pytest.mark.parametrize("arguments", [table(), table(x_queue_type=text("quorum"))], ids=["classic", "quorum"])
def test_who_deletes_a_queue_is_answered_before_its_consumers_are_cancelled(arguments: bytes) -> None:
    """py-amqp raises what it hears first: a consumer that is cancelled is an error, delete-ok is not."""
    talk = Talk().open()
    talk.raw(declare("q", arguments))
    talk.say(1, Basic.Consume(0, "q", "c"))
    assert methods(talk.say(1, Queue.Delete(0, "q"))) == ["Queue.DeleteOk", "Basic.Cancel"]
    assert talk.node.queue_depths() == {}
