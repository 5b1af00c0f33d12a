"""CC and BCC: more routing keys in a message's headers. Who gets it, what they see of it, and what is refused."""

from typing import Any

import pytest
from pamqp import header
from pamqp.commands import Basic, Confirm, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from pipeline.embedded.wire import content
from pipeline.embedded.wire.copies import with_copies
from tests.embedded.conversation import Talk, closed, headers, methods, publishing
from tests.embedded.queues import with_queues


def seen_in(talk: Talk, queue: str) -> dict[str, Any]:
    return headers(talk.say(1, Basic.Get(0, queue, True)))


def test_each_key_gets_a_copy_and_nobody_sees_the_blind_ones() -> None:
    talk = with_queues("a", "b", "c", "d")
    talk.publish(1, "a", headers={"CC": ["b"], "BCC": ["c"], "k": "v"})
    for queue in ("a", "b", "c"):
        assert seen_in(talk, queue) == {"CC": ["b"], "k": "v"}
    assert talk.bodies(1, "d") == []


def test_a_queue_gets_one_however_many_keys_name_it() -> None:
    talk = with_queues("a")
    talk.publish(1, "a", headers={"CC": ["a", "a"], "BCC": ["a"]})
    assert talk.node.queue_depths() == {"a": 1}


@pytest.mark.parametrize("exchange", ["amq.direct", "amq.topic"])
def test_exchanges_that_route_by_key_look_at_all_of_them(exchange: str) -> None:
    talk = with_queues("a", "b", "c", "d")
    for name in ("a", "b", "c", "d"):
        talk.say(1, Queue.Bind(0, name, exchange, f"key.{name}"))
    talk.publish(1, "key.a", exchange=exchange, headers={"CC": ["key.b"], "BCC": ["key.c", "nowhere"]})
    assert talk.node.queue_depths() == {"a": 1, "b": 1, "c": 1, "d": 0}


def test_the_other_exchanges_do_not_care() -> None:
    talk = with_queues("a", "b")
    talk.say(1, Queue.Bind(0, "a", "amq.fanout", ""))
    talk.publish(1, "", exchange="amq.fanout", headers={"CC": ["b"]})
    assert talk.node.queue_depths() == {"a": 1, "b": 0}


def test_what_is_no_string_is_no_key_and_octets_stay_what_they_are() -> None:
    talk = with_queues("a", "5")
    talk.publish(1, "nowhere", headers={"CC": [5, None, "a"]})
    assert seen_in(talk, "a") == {"CC": [5, None, "a"]}
    octets = content.rewrite(b"\x00\x3c\x00\x00" + bytes(8) + b"\x00\x00", {"CC": [b"\xff", "é"], "BCC": ["b"]})
    message = with_copies(content.Message("", "k", b"", octets, b""))
    assert message.keys == ("k", "\udcff", "é", "b")
    assert message.named_keys == ("k", "\udcff", "é")
    assert content.headers(message.header) == {"CC": [b"\xff", "é"]}


def test_a_header_that_only_looks_like_it_is_none() -> None:
    talk = with_queues("a", "b")
    talk.publish(1, "a", headers={"XCC": ["b"], "CCX": "b", "k": "CC"})
    assert talk.node.queue_depths() == {"a": 1, "b": 0}


def test_one_of_the_keys_is_enough_to_be_routable() -> None:
    talk = with_queues("a")
    talk.say(1, Confirm.Select())
    assert methods(talk.publish(1, "nowhere", mandatory=True, headers={"BCC": ["a"]})) == ["Basic.Ack"]
    heard = talk.publish(1, "nowhere", mandatory=True, headers={"CC": ["no"], "BCC": ["either"]})
    assert methods(heard) == ["Basic.Return", "Basic.Ack"]
    assert headers(heard) == {"CC": ["no"]}


@pytest.mark.parametrize("name", ["CC", "BCC"])
@pytest.mark.parametrize(
    ("value", "kind"), [("a", "longstr"), (5, "byte"), (None, "void"), (True, "bool"), ({}, "table")]
)
def test_keys_that_are_no_array_cost_the_channel(name: str, value: Any, kind: str) -> None:
    talk = with_queues("a")
    text = f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
    assert closed(talk.publish(1, "a", headers={name: value})) == ("channel", 406, text)
    assert talk.node.queue_depths() == {"a": 0}


@pytest.mark.parametrize(
    ("version", "wrong", "first"),
    [
        ("3.10", {"user_id": "bob", "expiration": "x"}, "user_id property"),
        ("3.10", {"expiration": "x", "headers": {"CC": "a"}}, "invalid expiration"),
        ("3.10", {"delivery_mode": 3, "headers": {"CC": "a"}}, "invalid message: {unacceptable_type_in_header"),
        ("4.3", {"user_id": "bob", "expiration": "x"}, "invalid expiration"),
        ("4.3", {"user_id": "bob", "headers": {"CC": "a"}}, "invalid message"),
    ],
)
def test_the_first_thing_that_is_wrong_is_the_one_that_is_named(
    version: str, wrong: dict[str, Any], first: str
) -> None:
    talk = with_queues("a", rabbitmq_version=version)
    frames = publishing("a", **(wrong | {"delivery_mode": None}))
    assert isinstance(frames[1], header.ContentHeader)
    frames[1].properties.delivery_mode = wrong.get("delivery_mode")  # pamqp would check it earlier
    _, code, text = closed(talk.say(1, *frames))
    assert code == 406
    assert text.startswith(f"PRECONDITION_FAILED - {first}")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dead_letter_goes_on_with_all_its_keys(version: str) -> None:
    talk = with_queues("dead", "copy", "blind", rabbitmq_version=version)
    for name in ("dead", "copy", "blind"):
        talk.say(1, Queue.Bind(0, name, "amq.direct", f"to.{name}"))
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments={"x-dead-letter-exchange": "amq.direct"}))
    talk.publish(1, "q", headers={"CC": ["to.copy"], "BCC": ["to.blind"]})
    talk.say(1, Basic.Get(0, "q"), Basic.Reject(1, False))
    assert talk.node.queue_depths() == {"dead": 0, "copy": 1, "blind": 1, "q": 0}
    assert seen_in(talk, "blind")["x-death"][0]["routing-keys"] == ["q", "to.copy"]


@pytest.mark.parametrize(("version", "kept"), [("3.10", False), ("4.3", True)])
def test_a_key_of_the_queues_own_ends_the_others(version: str, kept: bool) -> None:
    talk = with_queues("dead", "copy", rabbitmq_version=version)
    arguments: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments=arguments))
    talk.publish(1, "q", headers={"CC": ["copy"]})
    talk.bodies(1, "copy")
    talk.say(1, Basic.Get(0, "q"))
    talk.say(1, Basic.Reject(2, False))
    assert talk.node.queue_depths() == {"dead": 1, "copy": 0, "q": 0}
    assert ("CC" in seen_in(talk, "dead")) is kept
