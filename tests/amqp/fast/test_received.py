"""A received message is a message like any other: read late, changed, copied and pickled."""

import copy
import pickle
from typing import Any

import pytest

from pipeline.amqp.fast import writing
from pipeline.amqp.fast.received import Received
from pipeline.amqp.outlet import Outgoing
from pipeline.message import Message

SENT: dict[str, Any] = {
    "headers": {"a": 1, "b": ["c", {"d": True}]},
    "content_type": "text/plain",
    "content_encoding": "identity",
    "delivery_mode": "transient",
    "priority": 3,
    "correlation_id": "c-1",
    "reply_to": "answers",
    "expiration": 5000,
    "message_id": "m-1",
    "timestamp": 1_700_000_000,
    "type": "order",
    "user_id": "guest",
    "app_id": "shop",
}


def received() -> Received:
    outgoing = Outgoing.of(Message(b"hello", **SENT), exchange="e", routing_key="k", mandatory=True)
    written, _ = writing.publish(1, outgoing, frame_max=0)
    header = written.index(b"\xce\x02") + 1  # the method frame's end octet, and the header frame's type
    body = written.index(b"\xce\x03", header)
    return Received(b"hello", b"\x01e\x01k\xce" + written[header:body], "q", True)


def told(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in (*SENT, "exchange", "routing_key", "queue", "redelivered", "body")}


def test_it_says_what_was_sent() -> None:
    place = {"exchange": "e", "routing_key": "k", "queue": "q", "redelivered": True, "body": b"hello"}
    assert told(received()) == {**SENT, **place}


@pytest.mark.parametrize("name", [*SENT, "exchange", "routing_key"])
def test_what_is_changed_stays_changed_and_nothing_else_is(name: str) -> None:
    message = received()
    nothing: object = {} if name == "headers" else None
    setattr(message, name, nothing)
    assert getattr(message, name) == nothing
    del (rest := told(message))[name]
    del (before := told(received()))[name]
    assert rest == before


def test_headers_are_the_message_s_own() -> None:
    message = received()
    message.headers["a"] = 2
    assert message.headers == {**SENT["headers"], "a": 2}
    assert received().headers == SENT["headers"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_is_a_plain_message_that_says_the_same(again: Any) -> None:
    message = received()
    assert type(again(message)) is Message
    assert told(again(message)) == told(message)


def test_what_no_message_has_is_missing_here_too() -> None:
    with pytest.raises(AttributeError, match="tag"):
        _ = received().tag  # type: ignore[attr-defined]


def test_a_header_is_mentioned_where_it_is_and_nothing_is_read_for_it() -> None:
    message = received()
    assert message.mentions(b"a") and not message.mentions(b"x-piperun-attempt")
    assert message._found is None
    plain = Message(b"", headers={"x-piperun-attempt": 1})
    assert plain.mentions(b"x-piperun-attempt") and not plain.mentions(b"a")
