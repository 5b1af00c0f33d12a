"""From what a handler or a source gives to a message on its way: what the file's `publish` says, and what a message
carries itself."""

from typing import Any, cast

import pytest

from pipeline.codec import EncodeError
from pipeline.message import Message
from pipeline.runtime.outgoing import Stamp, outgoing
from tests.models import a_publish

PUBLISH = a_publish(
    exchange="orders",
    routing_key="order.created",
    delivery_mode="transient",
    headers={"origin": "file", "region": "eu"},
    content_type="text/x-order",
    content_encoding="identity",
    priority=1,
    expiration=1.5,
    correlation_id="c-file",
    reply_to="r-file",
    type="t-file",
    app_id="a-file",
)
FROM_FILE: dict[str, Any] = {
    "content_type": "text/x-order",
    "content_encoding": "identity",
    "delivery_mode": "transient",
    "priority": 1,
    "expiration": 1500,
    "correlation_id": "c-file",
    "reply_to": "r-file",
    "type": "t-file",
    "app_id": "a-file",
    "message_id": "id-1",
    "timestamp": None,
    "user_id": None,
}
OWN: dict[str, Any] = {
    "content_type": "text/own",
    "content_encoding": "gzip",
    "delivery_mode": "persistent",
    "priority": 0,
    "expiration": 0,
    "correlation_id": "c-own",
    "reply_to": "r-own",
    "type": "t-own",
    "app_id": "a-own",
    "message_id": "own",
    "timestamp": 7,
    "user_id": "app",
}


def carried(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in FROM_FILE}


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        (b"\x00", b"\x00", None),
        ("grüße", "grüße".encode(), "text/plain; charset=utf-8"),
        ({"id": 7}, b'{"id":7}', "application/json"),
        ([1, 2], b"[1,2]", "application/json"),
        (Message({"id": 7}), b'{"id":7}', "application/json"),
        (Message("x", content_type="text/own"), b"x", "text/own"),
    ],
)
def test_a_value_becomes_a_body_and_says_what_it_is(value: object, body: bytes, content_type: str | None) -> None:
    out = outgoing(value, a_publish(), message_id="id-1")
    assert (out.message.body, out.message.content_type) == (body, content_type)


def test_a_plain_value_goes_where_the_file_says_and_as_it_says() -> None:
    out = outgoing("x", PUBLISH, message_id="id-1")
    assert (out.exchange, out.routing_key, out.mandatory) == ("orders", "order.created", True)
    assert carried(out.message) == FROM_FILE
    assert out.message.headers == {"origin": "file", "region": "eu"}
    assert not outgoing("x", a_publish(mandatory=False), message_id="id-1").mandatory


@pytest.mark.parametrize("name", list(OWN))
def test_what_a_message_carries_itself_overrules(name: str) -> None:
    out = outgoing(Message("x", **{name: OWN[name]}), PUBLISH, message_id="id-1")
    assert carried(out.message) == {**FROM_FILE, name: OWN[name]}


@pytest.mark.parametrize(
    ("exchange", "routing_key", "target"),
    [
        (None, None, ("orders", "order.created")),
        (None, "order.paid", ("orders", "order.paid")),
        ("audit", None, ("audit", "order.created")),
        ("", "invoices", ("", "invoices")),
        ("fanout", "", ("fanout", "")),
    ],
)
def test_a_message_may_say_where_it_goes(
    exchange: str | None, routing_key: str | None, target: tuple[str, str]
) -> None:
    out = outgoing(Message("x", exchange=exchange, routing_key=routing_key), PUBLISH, message_id="id-1")
    assert (out.exchange, out.routing_key) == target


def test_a_message_that_was_received_is_passed_on_and_not_sent_back() -> None:
    received = Message(
        b"x", exchange="", routing_key="billing", queue="billing", user_id="somebody", message_id="m-1", priority=5
    )
    out = outgoing(received, PUBLISH, message_id="id-1")
    assert (out.exchange, out.routing_key) == ("orders", "order.created")
    assert (out.message.message_id, out.message.priority, out.message.user_id) == ("m-1", 5, None)


def test_how_often_a_message_failed_is_left_behind_where_it_is_passed_on() -> None:
    headers = {"x-piperun-attempt": 3, "x-piperun-reason": "max_attempts", "region": "eu"}
    passed_on = outgoing(Message(b"", headers=headers, queue="billing"), a_publish(), message_id="o-1").message
    assert passed_on.headers == {"x-piperun-reason": "max_attempts", "region": "eu"}
    made = outgoing(Message(b"", headers=headers), a_publish(), message_id="o-1").message
    assert made.headers == headers


def test_headers_are_those_of_the_file_and_its_own_which_win() -> None:
    own = Message("x", headers={"region": "us", "n": 1})
    out = outgoing(own, PUBLISH, message_id="id-1")
    assert out.message.headers == {"origin": "file", "region": "us", "n": 1}
    out.properties.like.headers["later"] = True
    assert own.headers == {"region": "us", "n": 1}
    assert PUBLISH.headers == {"origin": "file", "region": "eu"}


def test_what_cannot_be_a_body_is_told() -> None:
    with pytest.raises(EncodeError):
        outgoing(object(), PUBLISH, message_id="id-1")


def test_an_id_that_is_no_text_is_told() -> None:
    with pytest.raises(EncodeError, match="its message_id is of type int, and AMQP's is text"):
        outgoing(Message("x", message_id=cast(str, 7)), PUBLISH, message_id="id-1")


# The same, with what `publish` says gathered once


@pytest.mark.parametrize("publish", [PUBLISH, a_publish(), a_publish(priority=0, expiration=0.0, mandatory=False)])
@pytest.mark.parametrize("value", [b"x", "x", {"id": 7}, Message("x"), Message("x", headers={"own": 1}, priority=7)])
def test_a_stamp_makes_the_same(publish: Any, value: object) -> None:
    plain = outgoing(value, publish, message_id="id-1")
    stamped = Stamp(publish).outgoing(value, "id-1")
    assert (stamped.exchange, stamped.routing_key, stamped.mandatory) == (
        plain.exchange,
        plain.routing_key,
        plain.mandatory,
    )
    names = [name for name in Message.__slots__ if name != "_settle"]
    assert {name: getattr(stamped.message, name) for name in names} == {
        name: getattr(plain.message, name) for name in names
    }


def test_messages_of_one_stamp_share_no_headers() -> None:
    stamp = Stamp(PUBLISH)
    first, second = stamp.outgoing("a", "id-1"), stamp.outgoing("b", "id-2")
    first.message.headers["own"] = 1  # a message of its own, made when it is asked for
    assert second.message.headers == {"origin": "file", "region": "eu"}
    with pytest.raises(EncodeError):
        stamp.outgoing(object(), "id-3")
