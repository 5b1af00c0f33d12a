"""What is looked at when a message is published, and in what the versions differ there."""

from typing import Any

import pytest
from pamqp import header
from pamqp.commands import Basic, Confirm, Exchange, Queue

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, closed, methods, new_node, only, publishing

Frames = list[Any]


def talking(version: str) -> Talk:
    talk = Talk(new_node(rabbitmq_version=version)).open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Confirm.Select())
    return talk


def announcing(size: int) -> Frames:
    """A message of that size, without its body."""
    return [Basic.Publish(0, "", "q"), header.ContentHeader(0, size, Basic.Properties())]


def properties(talk: Talk) -> Basic.Properties:
    """Of the message in `q`."""
    found: Basic.Properties = only(talk.say(1, Basic.Get(0, "q", True)), header.ContentHeader).properties
    return found


@pytest.mark.parametrize(("version", "limit"), [("3.10", 128 * 1024 * 1024), ("4.3", 16 * 1024 * 1024)])
def test_the_largest_message(version: str, limit: int) -> None:
    assert talking(version).say(1, *announcing(limit)) == []
    text = f"PRECONDITION_FAILED - message size {limit + 1} is larger than configured max size {limit}"
    assert closed(talking(version).say(1, *announcing(limit + 1))) == ("channel", 406, text)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exchange_is_looked_at_before_the_properties(version: str) -> None:
    wrong: dict[str, Any] = {
        "user_id": "bob",
        "expiration": "x",
        "headers": {"CC": "x"},
        "reply_to": "amq.rabbitmq.reply-to",
    }
    end = closed(talking(version).publish(1, "q", exchange="nope", **wrong))
    assert end == ("channel", 404, "NOT_FOUND - no exchange 'nope' in vhost '/'")
    talk = talking(version)
    talk.say(1, Exchange.Declare(0, "inside", "fanout", internal=True))
    text = "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'"
    assert closed(talk.publish(1, "q", exchange="inside", **wrong)) == ("channel", 403, text)


@pytest.mark.parametrize("version", VERSIONS)
def test_immediate_is_looked_at_first(version: str) -> None:
    frames = publishing("q", exchange="nope")
    frames[0] = Basic.Publish(0, "nope", "q", False, True)
    assert closed(talking(version).say(1, *frames)) == ("connection", 540, "NOT_IMPLEMENTED - immediate=true")


@pytest.mark.parametrize(("version", "taken"), [("3.10", [1, 2]), ("4.3", [0, 1, 2, 3, 255])])
def test_delivery_modes(version: str, taken: list[int]) -> None:
    for mode in (0, 1, 2, 3, 255):
        talk = talking(version)
        frames = publishing("q", message_id="m")
        assert isinstance(frames[1], header.ContentHeader)
        frames[1].properties.delivery_mode = mode  # pamqp would check it earlier
        heard = talk.say(1, *frames)
        if mode in taken:
            assert methods(heard) == ["Basic.Ack"]
            assert (properties(talk).delivery_mode, talk.node.queue_depths()) == (mode, {"q": 0})
        else:
            text = f"PRECONDITION_FAILED - invalid message: {{delivery_mode_unknown,{mode}}}"
            assert closed(heard) == ("channel", 406, text)


@pytest.mark.parametrize(("version", "delivered"), [("3.10", ["060000", "+60000"]), ("4.3", ["60000", "60000"])])
def test_an_expiration_is_delivered_as_it_came_or_as_its_number(version: str, delivered: list[str]) -> None:
    talk = talking(version)
    for expiration in ("060000", "+60000"):
        talk.publish(1, "q", expiration=expiration, message_id="m", user_id="user", message_type="t")
    found = [properties(talk), properties(talk)]
    assert [each.expiration for each in found] == delivered
    assert all((each.message_id, each.user_id, each.message_type) == ("m", "user", "t") for each in found)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_message_is_a_message(version: str) -> None:
    talk = talking(version)
    assert methods(talk.publish(1, "q", b"")) == ["Basic.Ack"]
    assert methods(talk.publish(1, "nowhere", b"", mandatory=True)) == ["Basic.Return", "Basic.Ack"]
    assert talk.bodies(1, "q") == [b""]


@pytest.mark.parametrize("version", VERSIONS)
def test_recover_always_requeues(version: str) -> None:
    end = closed(talking(version).say(1, Basic.Recover(False)))
    assert end == ("connection", 540, "NOT_IMPLEMENTED - requeue=false")
    # recover-async by hand: pamqp warns of it
    recover_async = b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x64"
    assert closed(talking(version).raw(recover_async + b"\x00\xce")) == end
    talk = talking(version)
    talk.publish(1, "q", b"m")
    talk.say(1, Basic.Get(0, "q"))
    assert talk.raw(recover_async + b"\x01\xce") == []
    heard = talk.say(1, Basic.Get(0, "q"), Basic.Recover(True), Basic.Get(0, "q"))
    assert methods(heard) == ["Basic.GetOk", "Basic.RecoverOk", "Basic.GetOk"]
    assert all(each.redelivered for _, each in heard if isinstance(each, Basic.GetOk))
