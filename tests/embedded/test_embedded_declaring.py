"""Exchanges and queues come and go: who may, when it is the same declaration, and RabbitMQ's words where not."""

from typing import Any

import pytest
from pamqp.commands import Basic, Channel, Confirm, Exchange, Queue
from pamqp.common import FieldTable

from tests.embedded.conversation import Talk, closed, methods, only

Declare = Queue.Declare


def refused(talk: Talk, method: Any) -> str:
    """The text that closes channel 1, which is opened again."""
    what, _, text = closed(talk.say(1, method))
    assert what == "channel"
    talk.say(1, Channel.CloseOk(), Channel.Open())
    return text


# Queues


def test_declaring_twice_is_declaring_once_and_tells_what_is_there() -> None:
    talk = Talk().open()
    declare = Declare(0, "q", durable=True)
    assert only(talk.say(1, declare), Queue.DeclareOk).queue == "q"
    talk.publish(1, "q")
    talk.publish(1, "q")
    talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "q"))
    ok = only(talk.say(1, declare), Queue.DeclareOk)
    assert (ok.message_count, ok.consumer_count) == (1, 1)


def test_a_server_made_name_can_be_used_at_once() -> None:
    talk = Talk().open()
    name = only(talk.say(1, Declare(0, "", exclusive=True)), Queue.DeclareOk).queue
    assert name.startswith("amq.gen-")
    other = only(talk.say(1, Declare(0, "", exclusive=True)), Queue.DeclareOk).queue
    assert other != name
    assert only(talk.say(1, Declare(0, name, exclusive=True)), Queue.DeclareOk).queue == name
    talk.publish(1, name)
    assert methods(talk.say(1, Basic.Consume(0, ""))) == ["Basic.ConsumeOk", "Basic.Deliver"]


@pytest.mark.parametrize("name", ["заказы", "a*b?c", "x" * 255])
def test_a_queue_may_have_any_name(name: str) -> None:
    # pamqp would not send such names, so the frame is written from the specification
    octets = name.encode()
    payload = b"\x00\x32\x00\x0a\0\0" + bytes((len(octets),)) + octets + b"\x04" + bytes(4)
    talk = Talk().open()
    heard = talk.raw(b"\x01\x00\x01" + len(payload).to_bytes(4) + payload + b"\xce")
    assert only(heard, Queue.DeclareOk).queue == name
    assert talk.node.queue_depths() == {name: 0}


def test_passive_checks_the_name_and_nothing_else() -> None:
    talk = Talk().open()
    talk.say(1, Declare(0, "q", durable=True))
    other: FieldTable = {"x-max-length": 5}
    assert methods(talk.say(1, Declare(0, "q", passive=True, arguments=other))) == ["Queue.DeclareOk"]
    assert refused(talk, Declare(0, "nope", passive=True)) == "NOT_FOUND - no queue 'nope' in vhost '/'"
    assert refused(talk, Declare(0, "", passive=True)) == "NOT_FOUND - no queue '' in vhost '/'"


@pytest.mark.parametrize(
    "method",
    [
        Queue.Bind(0, "", "amq.direct", "k"),
        Basic.Consume(0, ""),
        Basic.Get(0, ""),
        Queue.Purge(0, ""),
        Queue.Delete(0, ""),
    ],
)
def test_an_empty_name_needs_a_queue_before_it(method: Any) -> None:
    assert refused(Talk().open(), method) == "NOT_FOUND - no previously declared queue"


@pytest.mark.parametrize(
    "method",
    [Queue.Bind(0, "nope", "amq.direct", "k"), Basic.Consume(0, "nope"), Basic.Get(0, "nope"), Queue.Purge(0, "nope")],
)
def test_a_queue_that_is_not_there(method: Any) -> None:
    assert refused(Talk().open(), method) == "NOT_FOUND - no queue 'nope' in vhost '/'"


def test_with_neither_end_there_it_is_the_exchange_that_is_missing() -> None:
    assert refused(Talk().open(), Queue.Bind(0, "nope", "none", "k")) == "NOT_FOUND - no exchange 'none' in vhost '/'"


def test_deleting_what_is_not_there_counts_as_done() -> None:
    heard = Talk().open().say(1, Queue.Delete(0, "nope"), Exchange.Delete(0, "nope"))
    assert methods(heard) == ["Queue.DeleteOk", "Exchange.DeleteOk"]


def test_names_that_begin_with_amq_are_the_brokers() -> None:
    talk = Talk().open()
    assert refused(talk, Declare(0, "amq.x")) == "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'"
    assert refused(talk, Exchange.Declare(0, "amq.x", "direct")) == (
        "ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*'"
    )


def test_purge_and_delete_tell_how_many_were_ready() -> None:
    talk = Talk().open()
    talk.say(1, Declare(0, "q"))
    for _ in range(3):
        talk.publish(1, "q")
    talk.say(1, Basic.Get(0, "q"))
    assert only(talk.say(1, Queue.Purge(0, "q")), Queue.PurgeOk).message_count == 2
    talk.publish(1, "q")
    assert only(talk.say(1, Queue.Delete(0, "q")), Queue.DeleteOk).message_count == 1
    assert methods(talk.say(1, Basic.Ack(1), Basic.Qos(0, 1))) == ["Basic.QosOk"]


def test_delete_if_unused_and_if_empty() -> None:
    talk = Talk().open(1, 2)
    talk.say(2, Declare(0, "q"), Basic.Consume(0, "q", "c"))
    in_use = "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
    assert refused(talk, Queue.Delete(0, "q", if_unused=True)) == in_use
    talk.say(2, Basic.Cancel("c"))
    talk.publish(1, "q")
    not_empty = "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"
    assert refused(talk, Queue.Delete(0, "q", if_empty=True)) == not_empty
    talk.say(1, Queue.Purge(0, "q"))
    assert methods(talk.say(1, Queue.Delete(0, "q", if_unused=True, if_empty=True))) == ["Queue.DeleteOk"]


def test_without_waiting_nothing_is_answered() -> None:
    talk = Talk().open()
    silent = [
        Declare(0, "q", nowait=True),
        Exchange.Declare(0, "e", "fanout", nowait=True),
        Exchange.Bind(0, "amq.topic", "e", "", nowait=True),
        Exchange.Unbind(0, "amq.topic", "e", "", nowait=True),
        Queue.Bind(0, "q", "e", "", nowait=True),
        Basic.Consume(0, "q", "c", nowait=True),
        Basic.Cancel("c", nowait=True),
        Queue.Purge(0, "q", True),
        Confirm.Select(nowait=True),
        Queue.Delete(0, "q", nowait=True),
        Exchange.Delete(0, "e", nowait=True),
    ]
    assert talk.say(1, *silent) == []
    assert talk.node.queue_depths() == {}


# Exclusive and auto-delete


LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. "
    "It could be originally declared on another connection or the exclusive property value "
    "does not match that of the original declaration."
)


def test_an_exclusive_queue_is_locked_for_others_and_gone_with_its_connection() -> None:
    owner = Talk().open(1, 2)
    owner.say(1, Declare(0, "mine", exclusive=True))
    assert methods(owner.say(2, Declare(0, "mine", exclusive=True))) == ["Queue.DeclareOk"]
    other = Talk(owner.node).open()
    for method in (
        Declare(0, "mine", exclusive=True),
        Declare(0, "mine"),
        Declare(0, "mine", passive=True),
        Queue.Bind(0, "mine", "amq.direct", "k"),
        Queue.Purge(0, "mine"),
        Queue.Delete(0, "mine"),
        Basic.Consume(0, "mine"),
        Basic.Get(0, "mine"),
    ):
        assert refused(other, method) == LOCKED
    # anybody may publish to it
    other.publish(1, "mine")
    assert owner.bodies(1, "mine") == [b"x"]
    assert refused(owner, Declare(0, "mine", exclusive=False)) == LOCKED
    owner.core.lost()
    assert methods(other.say(1, Declare(0, "mine"))) == ["Queue.DeclareOk"]


def test_an_auto_delete_queue_goes_with_its_last_consumer() -> None:
    talk = Talk().open(1, 2)
    talk.say(1, Declare(0, "q", auto_delete=True))
    talk.say(1, Basic.Consume(0, "q", "a"))
    talk.say(2, Basic.Consume(0, "q", "b"))
    talk.say(1, Basic.Cancel("a"))
    assert talk.node.queue_depths() == {"q": 0}
    talk.say(2, Channel.Close(200, "", 0, 0))
    assert talk.node.queue_depths() == {}


def test_an_auto_delete_queue_that_was_never_consumed_stays() -> None:
    talk = Talk().open()
    talk.say(1, Declare(0, "q", auto_delete=True))
    talk.core.lost()
    assert talk.node.queue_depths() == {"q": 0}


def test_an_auto_delete_exchange_goes_with_its_last_binding() -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "e", "direct", auto_delete=True), Declare(0, "q"))
    talk.say(1, Queue.Bind(0, "q", "e", "a"), Queue.Bind(0, "q", "e", "b"), Queue.Unbind(0, "q", "e", "a"))
    assert methods(talk.say(1, Exchange.Declare(0, "e", "direct", passive=True))) == ["Exchange.DeclareOk"]
    talk.say(1, Queue.Unbind(0, "q", "e", "b"))
    passive = Exchange.Declare(0, "e", "direct", passive=True)
    assert refused(talk, passive) == "NOT_FOUND - no exchange 'e' in vhost '/'"


# Declared again, otherwise

FLAGS = [
    (
        {},
        {"durable": True},
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    ),
    (
        {"durable": True, "auto_delete": True},
        {"durable": False, "auto_delete": False},
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
    ),
    (
        {},
        {"auto_delete": True},
        "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    ),
]


@pytest.mark.parametrize(("first", "again", "text"), FLAGS)
def test_other_flags_are_named_with_both_values(first: dict[str, bool], again: dict[str, bool], text: str) -> None:
    talk = Talk().open()
    talk.say(1, Declare(0, "q", **first))  # type: ignore[arg-type]  # the flags are keywords of one type each
    assert refused(talk, Declare(0, "q", **again)) == f"PRECONDITION_FAILED - {text}"  # type: ignore[arg-type]


QUORUM: FieldTable = {"x-queue-type": "quorum"}
ALONE = "x-single-active-consumer"
DLX = "x-dead-letter-exchange"
KEY = "x-dead-letter-routing-key"
LIMIT = "x-delivery-limit"

# The argument that is named, and what is said of it; None where the two are the same.
DIFFERENCES: list[tuple[FieldTable, FieldTable, str, str | None]] = [
    ({}, {"x-message-ttl": 5}, "x-message-ttl", "the value '5' of type 'byte' but current is none"),
    ({"x-message-ttl": 500}, {}, "x-message-ttl", "none but current is the value '500' of type 'short'"),
    ({"x-message-ttl": 5}, {"x-message-ttl": 500}, "x-message-ttl", "'500' but current is '5'"),
    ({"x-expires": 70_000}, {"x-expires": 70_000}, "x-expires", None),
    ({ALONE: True}, {ALONE: False}, ALONE, "'false' but current is 'true'"),
    ({ALONE: True}, {ALONE: 1}, ALONE, "'1' but current is 'true'"),
    ({ALONE: True}, {}, ALONE, "none but current is the value 'true' of type 'bool'"),
    (
        {"x-max-priority": 5, "x-message-ttl": 7},
        {},
        "x-message-ttl",
        "none but current is the value '7' of type 'byte'",
    ),
    ({DLX: "a"}, {DLX: "b"}, DLX, "'b' but current is 'a'"),
    ({"x-queue-type": "classic"}, {}, "x-queue-type", None),
    ({}, {"x-queue-type": "classic"}, "x-queue-type", None),
    ({}, QUORUM, "x-queue-type", "the value 'quorum' of type 'longstr' but current is none"),
    (QUORUM, {}, "x-queue-type", "none but current is the value 'quorum' of type 'longstr'"),
    ({**QUORUM, LIMIT: 5}, {**QUORUM, LIMIT: 6}, LIMIT, "'6' but current is '5'"),
    ({}, {"x-message-ttl": "a"}, "x-message-ttl", "the value 'a' of type 'longstr' but current is none"),
    # kept, and never compared by RabbitMQ
    ({"x-unknown": 5}, {"x-unknown": 6}, "x-unknown", None),
    ({"x-unknown": 5}, {}, "x-unknown", None),
]


@pytest.mark.parametrize(("first", "again", "name", "text"), DIFFERENCES)
def test_other_arguments_are_named_with_both_values(
    first: FieldTable, again: FieldTable, name: str, text: str | None
) -> None:
    talk = Talk().open()
    assert methods(talk.say(1, Declare(0, "q", durable=True, arguments=first))) == ["Queue.DeclareOk"]
    declare = Declare(0, "q", durable=True, arguments=again)
    if text is None:
        assert methods(talk.say(1, declare)) == ["Queue.DeclareOk"]
    else:
        expected = f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'q' in vhost '/': received {text}"
        assert refused(talk, declare) == expected


def test_integer_widths_do_not_matter() -> None:
    # Given x-max-length 5 as the 64-bit number other clients send
    talk = Talk().open()
    table = b"\x0cx-max-lengthl" + (5).to_bytes(8)
    payload = b"\x00\x32\x00\x0a\0\0\x01q\0" + len(table).to_bytes(4) + table
    talk.raw(b"\x01\x00\x01" + len(payload).to_bytes(4) + payload + b"\xce")
    # Then the same number in one octet is the same, and another is shown with the width it came in
    assert methods(talk.say(1, Declare(0, "q", arguments={"x-max-length": 5}))) == ["Queue.DeclareOk"]
    assert refused(talk, Declare(0, "q")) == (
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': "
        "received none but current is the value '5' of type 'long'"
    )


INVALID: list[tuple[FieldTable, str]] = [
    ({"x-message-ttl": "5"}, "arg 'x-message-ttl' for {}: \"expected integer, got longstr\""),
    ({"x-message-ttl": True}, "arg 'x-message-ttl' for {}: \"expected integer, got bool\""),
    ({"x-message-ttl": 1.5}, "arg 'x-message-ttl' for {}: \"expected integer, got float\""),
    ({"x-message-ttl": -1}, "arg 'x-message-ttl' for {}: {{value_negative,-1}}"),
    ({"x-message-ttl": 2**40}, "arg 'x-message-ttl' for {}: {{value_too_large,1099511627776}}"),
    ({"x-expires": 0}, "arg 'x-expires' for {}: {{value_zero,0}}"),
    ({"x-max-length": "a"}, "arg 'x-max-length' for {}: \"expected integer, got longstr\""),
    ({"x-max-length-bytes": -1}, "arg 'x-max-length-bytes' for {}: {{value_negative,-1}}"),
    ({"x-max-priority": 256}, "arg 'x-max-priority' for {}: {{max_value_exceeded,256}}"),
    ({"x-dead-letter-exchange": 5}, "type 'byte' for arg 'x-dead-letter-exchange' in {}"),
    ({"x-dead-letter-routing-key": "a"}, "arg 'x-dead-letter-routing-key' for {}: routing_key_but_no_dlx_defined"),
    ({DLX: "", KEY: 5}, "arg 'x-dead-letter-routing-key' for {}: {{unacceptable_type,byte}}"),
    ({"x-dead-letter-exchange": "x" * 256}, "arg 'x-dead-letter-exchange' for {}: \"longer than 255 octets\""),
    ({"x-overflow": "abc"}, "arg 'x-overflow' for {}: invalid_overflow"),
    ({"x-overflow": 5}, "arg 'x-overflow' for {}: {{unacceptable_type,byte}}"),
    ({"x-queue-mode": "abc"}, "arg 'x-queue-mode' for {}: \"unsupported queue mode 'abc'\""),
    ({"x-queue-version": 3}, "arg 'x-queue-version' for {}: \"unsupported queue version '3'\""),
    ({"x-single-active-consumer": 1}, "arg 'x-single-active-consumer' for {}: {{unacceptable_type,byte}}"),
    ({"x-queue-type": "foo"}, "arg 'x-queue-type' for {}: \"unsupported queue type 'foo'\""),
    ({"x-queue-type": 5}, "arg 'x-queue-type' for {}: {{unacceptable_type,byte}}"),
    ({"x-delivery-limit": 5}, "arg 'x-delivery-limit' for {} of queue type rabbit_classic_queue"),
    ({"x-dead-letter-strategy": "foo"}, "arg 'x-dead-letter-strategy' for {} of queue type rabbit_classic_queue"),
    ({"x-max-age": "1D"}, "arg 'x-max-age' for {} of queue type rabbit_classic_queue"),
    ({**QUORUM, "x-max-priority": 4}, "arg 'x-max-priority' for {} of queue type rabbit_quorum_queue"),
    ({**QUORUM, "x-queue-mode": "lazy"}, "arg 'x-queue-mode' for {} of queue type rabbit_quorum_queue"),
    ({**QUORUM, "x-dead-letter-strategy": "foo"}, "arg 'x-dead-letter-strategy' for {}: invalid_dlx_strategy"),
    ({**QUORUM, "x-quorum-initial-group-size": 0}, "arg 'x-quorum-initial-group-size' for {}: {{value_zero,0}}"),
]


@pytest.mark.parametrize(("arguments", "text"), INVALID)
def test_an_argument_that_is_wrong_is_refused_in_rabbitmqs_words(arguments: FieldTable, text: str) -> None:
    talk = Talk().open()
    declare = Declare(0, "q", durable=True, arguments=arguments)
    assert refused(talk, declare) == "PRECONDITION_FAILED - invalid " + text.format("queue 'q' in vhost '/'")
    assert talk.node.queue_depths() == {}


VALID: list[FieldTable] = [
    {"x-message-ttl": 0},
    {"x-message-ttl": 4_294_967_296},
    {"x-max-priority": 0},
    {"x-dead-letter-exchange": ""},
    {"x-overflow": "reject-publish-dlx"},
    {"x-queue-mode": "lazy", "x-queue-version": 2},
    {**QUORUM, "x-delivery-limit": 5, "x-message-ttl": 4, "x-overflow": "reject-publish"},
    {**QUORUM, "x-dead-letter-strategy": "at-least-once", "x-single-active-consumer": True},
]


@pytest.mark.parametrize("arguments", VALID)
def test_an_argument_that_is_right_is_taken(arguments: FieldTable) -> None:
    declare = Declare(0, "q", durable=True, arguments=arguments)
    assert methods(Talk().open().say(1, declare, declare)) == ["Queue.DeclareOk"] * 2


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"durable": False}, "invalid property 'non-durable' for queue 'q' in vhost '/'"),
        ({"durable": True, "auto_delete": True}, "invalid property 'auto-delete' for queue 'q' in vhost '/'"),
        ({"durable": True, "exclusive": True}, "invalid property 'exclusive-owner' for queue 'q' in vhost '/'"),
    ],
)
def test_a_quorum_queue_is_durable_and_shared(flags: dict[str, Any], text: str) -> None:
    assert refused(Talk().open(), Declare(0, "q", arguments=QUORUM, **flags)) == f"PRECONDITION_FAILED - {text}"


def test_a_quorum_queue_has_a_name() -> None:
    assert refused(Talk().open(), Declare(0, "", durable=True, arguments=QUORUM)) == (
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    )


def test_there_are_no_streams() -> None:
    stream: FieldTable = {"x-queue-type": "stream"}
    assert closed(Talk().open().say(1, Declare(0, "q", durable=True, arguments=stream))) == (
        "connection",
        540,
        "NOT_IMPLEMENTED - queue 'q' in vhost '/': streams are not supported by the embedded broker",
    )


# Exchanges


@pytest.mark.parametrize(
    ("again", "text"),
    [
        (
            Exchange.Declare(0, "e", "fanout"),
            "inequivalent arg 'type' for exchange 'e' in vhost '/': received 'fanout' but current is 'direct'",
        ),
        (
            Exchange.Declare(0, "e", "direct", durable=True),
            "inequivalent arg 'durable' for exchange 'e' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            Exchange.Declare(0, "e", "direct", auto_delete=True),
            "inequivalent arg 'auto_delete' for exchange 'e' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            Exchange.Declare(0, "e", "direct", internal=True),
            "inequivalent arg 'internal' for exchange 'e' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            Exchange.Declare(0, "e", "direct", arguments={"alternate-exchange": "a"}),
            "inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': "
            "received the value 'a' of type 'longstr' but current is none",
        ),
        (
            Exchange.Declare(0, "e", "direct", arguments={"alternate-exchange": 5}),
            "inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': "
            "received the value '5' of type 'byte' but current is none",
        ),
    ],
)
def test_an_exchange_declared_otherwise_is_named_with_both_values(again: Any, text: str) -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "e", "direct"))
    assert refused(talk, again) == f"PRECONDITION_FAILED - {text}"


def test_an_exchange_declared_the_same_way_or_passively_is_fine() -> None:
    talk = Talk().open()
    same = Exchange.Declare(0, "e", "direct", arguments={"x-unknown": 1})
    assert methods(talk.say(1, same, same)) == ["Exchange.DeclareOk"] * 2
    passive = Exchange.Declare(0, "e", "fanout", passive=True, durable=True)
    assert methods(talk.say(1, passive)) == ["Exchange.DeclareOk"]
    assert refused(talk, Exchange.Declare(0, "nope", "direct", passive=True)) == (
        "NOT_FOUND - no exchange 'nope' in vhost '/'"
    )


def test_an_exchange_type_must_exist() -> None:
    assert closed(Talk().open().say(1, Exchange.Declare(0, "e", "x-delayed-message"))) == (
        "connection",
        503,
        "COMMAND_INVALID - unknown exchange type 'x-delayed-message'",
    )


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Exchange.Declare(0, "", "direct"), "operation not permitted on the default exchange"),
        (Exchange.Declare(0, "", "direct", passive=True), "operation not permitted on the default exchange"),
        (Exchange.Delete(0, ""), "operation not permitted on the default exchange"),
        (Exchange.Delete(0, "amq.direct"), "deletion of system exchange 'amq.direct' in vhost '/' not allowed"),
    ],
)
def test_the_brokers_own_exchanges_stay(method: Any, text: str) -> None:
    assert refused(Talk().open(), method) == f"ACCESS_REFUSED - {text}"


def test_an_exchange_in_use_is_deleted_only_if_that_is_said() -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "e", "direct"), Declare(0, "q"), Queue.Bind(0, "q", "e", "k"))
    in_use = "PRECONDITION_FAILED - exchange 'e' in vhost '/' in use"
    assert refused(talk, Exchange.Delete(0, "e", if_unused=True)) == in_use
    assert methods(talk.say(1, Exchange.Delete(0, "e"))) == ["Exchange.DeleteOk"]
    assert refused(talk, Queue.Bind(0, "q", "e", "k")) == "NOT_FOUND - no exchange 'e' in vhost '/'"
