"""What differs between the versions of RabbitMQ where queues are declared and connections are made. Each text was read
off RabbitMQ 3.10.8 and 4.3.6."""

from typing import Any

import pytest
from pamqp import frame
from pamqp.commands import Basic, Connection, Exchange, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import PROTOCOL_HEADER, Talk, closed, methods, new_node, only, publishing

OLD, NEW = VERSIONS
QUORUM: FieldTable = {"x-queue-type": "quorum"}
DEPRECATED = (
    "INTERNAL_ERROR - Feature `{}` is deprecated.\nBy default, this feature is not permitted anymore.\n"
    "The feature will be removed from a future major RabbitMQ version, regardless of the configuration; "
    "actual version to be determined.\n"
)


def opened(version: str) -> Talk:
    return Talk(new_node(rabbitmq_version=version)).open(1, 2)


def declare(version: str, arguments: FieldTable, **flags: Any) -> str:
    """How a durable queue `q` is answered: with nothing, or with a text."""
    heard = opened(version).say(1, Queue.Declare(0, "q", arguments=arguments, **{"durable": True, **flags}))
    return "" if methods(heard) == ["Queue.DeclareOk"] else closed(heard)[2].partition(" - ")[2]


# Queues that are neither durable nor exclusive


@pytest.mark.parametrize(
    "method",
    [
        Queue.Declare(0, "q"),
        Queue.Declare(0, "q", auto_delete=True),
        Queue.Declare(0, ""),
        Queue.Declare(0, "q", arguments={"x-queue-type": "classic"}),
    ],
)
def test_4_3_refuses_a_transient_queue_with_the_connection(method: Queue.Declare) -> None:
    assert methods(opened(OLD).say(1, method)) == ["Queue.DeclareOk"]
    what, code, text = closed(opened(NEW).say(1, method))
    assert (what, code) == ("connection", 541)
    # as much of it as a reply text holds
    assert text == DEPRECATED.format("transient_nonexcl_queues") + "To..."
    assert len(text) == 255


@pytest.mark.parametrize("version", VERSIONS)
def test_exclusive_queues_may_be_transient_and_count_as_that(version: str) -> None:
    talk = opened(version)
    for durable in (False, True):
        assert methods(talk.say(1, Queue.Declare(0, "q", exclusive=True, durable=durable))) == ["Queue.DeclareOk"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_wrong_besides_is_said_first(version: str) -> None:
    assert declare(version, {"x-message-ttl": "a"}, durable=False).startswith("invalid arg 'x-message-ttl'")
    talk = opened(version)
    talk.say(1, Queue.Declare(0, "q", durable=True))
    assert "inequivalent arg 'durable'" in closed(talk.say(1, Queue.Declare(0, "q")))[2]


# Arguments

OTHER_TYPE = "invalid arg '{}' for queue 'q' in vhost '/' of queue type rabbit_{}_queue"
INVALID = "invalid arg '{}' for queue 'q' in vhost '/': {}"

# What is said by 3.10, and by 4.3.
ARGUMENTS: list[tuple[FieldTable, str, str]] = [
    ({"x-queue-mode": "foo"}, INVALID.format("x-queue-mode", "\"unsupported queue mode 'foo'\""), ""),
    ({"x-queue-mode": "lazy"}, "", ""),
    ({"x-queue-version": 1}, "", INVALID.format("x-queue-version", "\"unsupported queue version '1'\"")),
    ({"x-queue-version": 2}, "", ""),
    ({"x-queue-type": ""}, INVALID.format("x-queue-type", "\"unsupported queue type ''\""), ""),
    ({"x-queue-type": "undefined"}, INVALID.format("x-queue-type", "\"unsupported queue type 'undefined'\""), ""),
    ({"x-queue-leader-locator": "balanced"}, OTHER_TYPE.format("x-queue-leader-locator", "classic"), ""),
    (
        {"x-queue-leader-locator": "foo"},
        OTHER_TYPE.format("x-queue-leader-locator", "classic"),
        INVALID.format("x-queue-leader-locator", "invalid_queue_locator_arg"),
    ),
    ({"x-consumer-timeout": 5}, "", OTHER_TYPE.format("x-consumer-timeout", "classic")),
    ({"x-delayed-retry-type": "all"}, "", OTHER_TYPE.format("x-delayed-retry-type", "classic")),
    ({"x-stream-filter-size-bytes": 5}, "", OTHER_TYPE.format("x-stream-filter-size-bytes", "classic")),
    ({**QUORUM, "x-consumer-timeout": -1}, "", INVALID.format("x-consumer-timeout", "{value_negative,-1}")),
    ({**QUORUM, "x-consumer-timeout": 5, "x-delayed-retry-min": "a"}, "", ""),
    ({**QUORUM, "x-delivery-limit": -1}, "", ""),
]


@pytest.mark.parametrize(("arguments", "old", "new"), ARGUMENTS)
def test_each_version_has_arguments_of_its_own(arguments: FieldTable, old: str, new: str) -> None:
    assert (declare(OLD, arguments), declare(NEW, arguments)) == (old, new)


def test_4_3_refuses_to_place_a_queue_by_the_old_argument() -> None:
    locator: FieldTable = {"x-queue-master-locator": "min-masters"}
    assert declare(OLD, locator) == ""
    what, code, text = closed(opened(NEW).say(1, Queue.Declare(0, "q", durable=True, arguments=locator)))
    assert (what, code, text) == ("connection", 541, DEPRECATED.format("queue_master_locator") + "To con...")


WRONG: FieldTable = {
    "x-expires": "a",
    "x-message-ttl": "a",
    "x-dead-letter-exchange": 5,
    "x-dead-letter-routing-key": 5,
    "x-dead-letter-strategy": 5,
    "x-max-length": "a",
    "x-max-length-bytes": "a",
    "x-max-in-memory-length": "a",
    "x-max-in-memory-bytes": "a",
    "x-max-priority": "a",
    "x-overflow": 5,
    "x-queue-mode": 5,
    "x-queue-version": "a",
    "x-single-active-consumer": 5,
    "x-quorum-initial-group-size": "a",
    "x-queue-leader-locator": 5,
    "x-consumer-timeout": "a",
}
ORDERS = {
    (OLD, "classic"): (
        "dead-letter-exchange expires message-ttl dead-letter-routing-key max-length max-length-bytes max-priority "
        "overflow queue-mode queue-version single-active-consumer dead-letter-strategy max-in-memory-bytes "
        "max-in-memory-length queue-leader-locator quorum-initial-group-size"
    ),
    (NEW, "classic"): (
        "dead-letter-exchange expires message-ttl dead-letter-routing-key max-length max-length-bytes max-priority "
        "overflow queue-version single-active-consumer queue-leader-locator consumer-timeout dead-letter-strategy "
        "max-in-memory-bytes max-in-memory-length quorum-initial-group-size"
    ),
    (OLD, "quorum"): (
        "dead-letter-exchange expires message-ttl dead-letter-routing-key dead-letter-strategy max-length "
        "max-length-bytes max-in-memory-length max-in-memory-bytes overflow single-active-consumer "
        "quorum-initial-group-size queue-leader-locator max-priority queue-mode queue-version"
    ),
    (NEW, "quorum"): (
        "dead-letter-exchange expires message-ttl dead-letter-routing-key dead-letter-strategy max-length "
        "max-length-bytes max-in-memory-length max-in-memory-bytes overflow single-active-consumer consumer-timeout "
        "quorum-initial-group-size queue-leader-locator max-priority queue-mode queue-version"
    ),
}


@pytest.mark.parametrize(("version", "kind"), ORDERS)
def test_of_several_wrong_arguments_the_same_one_is_named_as_by_rabbitmq(version: str, kind: str) -> None:
    left, named = {**WRONG, "x-queue-type": kind}, []
    while said := declare(version, left):
        name = said.split("arg '")[1].partition("'")[0]
        named.append(name.removeprefix("x-"))
        del left[name]
    assert " ".join(named) == ORDERS[version, kind]


# Declared again

LEFT_OUT = "received none but current is the value '{0}' of type 'longstr'"
ADDED = "received the value '{0}' of type 'longstr' but current is none"
AGAIN: list[tuple[FieldTable, FieldTable, str, str]] = [
    ({}, QUORUM, ADDED.format("quorum"), "received 'quorum' but current is 'classic'"),
    (QUORUM, {}, LEFT_OUT.format("quorum"), "received 'classic' but current is 'quorum'"),
    ({}, {"x-queue-type": "foo"}, ADDED.format("foo"), "received 'foo' but current is 'classic'"),
    ({}, {"x-queue-type": "stream"}, ADDED.format("stream"), "received 'stream' but current is 'classic'"),
    ({}, {"x-queue-type": "classic"}, "", ""),
    ({"x-queue-type": "classic"}, {}, "", ""),
]


@pytest.mark.parametrize(("first", "again", "old", "new"), AGAIN)
def test_another_type_is_told_as_each_version_tells_it(
    first: FieldTable, again: FieldTable, old: str, new: str
) -> None:
    for version, text in ((OLD, old), (NEW, new)):
        talk = opened(version)
        talk.say(1, Queue.Declare(0, "q", durable=True, arguments=first))
        heard = talk.say(1, Queue.Declare(0, "q", durable=True, arguments=again))
        if text:
            told = f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': {text}"
            assert closed(heard)[2] == told
        else:
            assert methods(heard) == ["Queue.DeclareOk"]


COMPARED: list[tuple[str, FieldTable, str | None]] = [
    (NEW, {"x-queue-leader-locator": "balanced"}, "x-queue-leader-locator"),
    (NEW, {"x-queue-mode": "lazy"}, "x-queue-mode"),
    (OLD, {**QUORUM, "x-consumer-timeout": 5000}, None),
    (NEW, {**QUORUM, "x-consumer-timeout": 5000}, "x-consumer-timeout"),
    (NEW, {**QUORUM, "x-delayed-retry-min": 5, "x-message-ttl": 5}, "x-message-ttl"),
    (NEW, {"x-max-length": 5, "x-unknown": 1}, "x-max-length"),
]


@pytest.mark.parametrize(("version", "first", "name"), COMPARED)
def test_each_version_compares_the_arguments_it_knows(version: str, first: FieldTable, name: str | None) -> None:
    talk = opened(version)
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments=first))
    without: FieldTable = {key: value for key, value in first.items() if key == "x-queue-type"}
    heard = talk.say(1, Queue.Declare(0, "q", durable=True, arguments=without))
    if name is None:
        assert methods(heard) == ["Queue.DeclareOk"]
    else:
        assert f"inequivalent arg '{name}'" in closed(heard)[2]


def test_an_argument_without_a_value_is_none() -> None:
    talk = opened(NEW)
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments={"x-max-length": 5}))
    assert closed(talk.say(1, Queue.Declare(0, "q", durable=True, arguments={"x-max-length": None})))[2].endswith(
        "'x-max-length' for queue 'q' in vhost '/': received none but current is '5'"
    )


# Alike in both


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flag", ["if_unused", "if_empty"])
def test_a_quorum_queue_is_not_deleted_on_a_condition(version: str, flag: str) -> None:
    talk = opened(version)
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments=QUORUM))
    assert closed(talk.say(1, Queue.Delete(0, "q", **{flag: True}))) == (
        "connection",
        540,
        f"NOT_IMPLEMENTED - cannot delete queue 'q' in vhost '/'. queue.delete operations with "
        f"{flag.replace('_', '-')} flag set are not supported by quorum queues",
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"auto_delete": True, "exclusive": True}, "auto-delete"),
        ({"exclusive": True}, "exclusive-owner"),
    ],
)
def test_of_several_wrong_flags_of_a_quorum_queue_one_is_named(
    version: str, flags: dict[str, bool], named: str
) -> None:
    assert declare(version, QUORUM, **flags) == f"invalid property '{named}' for queue 'q' in vhost '/'"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_quorum_queue_without_a_name_is_refused_before_all_else(version: str) -> None:
    wrong = Queue.Declare(0, "", durable=True, arguments={**QUORUM, "x-max-priority": 5})
    assert closed(opened(version).say(1, wrong))[2] == (
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Queue.Bind(0, "nope", "", "k"), "ACCESS_REFUSED - operation not permitted on the default exchange"),
        (Exchange.Bind(0, "nope", "", "k"), "ACCESS_REFUSED - operation not permitted on the default exchange"),
        (Exchange.Bind(0, "", "nope", "k"), "ACCESS_REFUSED - operation not permitted on the default exchange"),
        (Exchange.Unbind(0, "", "amq.direct", "k"), "ACCESS_REFUSED - operation not permitted on the default exchange"),
        (Exchange.Bind(0, "here", "there", "k"), "NOT_FOUND - no exchange 'there' in vhost '/'"),
    ],
)
def test_of_two_ends_that_cannot_be_bound_one_is_named(version: str, method: Any, text: str) -> None:
    assert closed(opened(version).say(1, method))[2] == text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_consumer_tag_is_looked_at_before_the_queue(version: str) -> None:
    talk = opened(version)
    talk.say(1, Queue.Declare(0, "q", durable=True), Basic.Consume(0, "q", "c"))
    text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'"
    assert closed(talk.say(1, Basic.Consume(0, "missing", "c"))) == ("connection", 530, text)


# Connections


@pytest.mark.parametrize(("version", "full"), [(OLD, "3.10.8"), (NEW, "4.3.6")])
def test_a_client_is_told_which_version_it_may_expect(version: str, full: str) -> None:
    start = only(Talk(new_node(rabbitmq_version=version)).greet(), Connection.Start)
    properties = start.server_properties
    assert (properties["product"], properties["version"]) == ("RabbitMQ", full)
    assert properties["platform"] == "piperun embedded broker"


@pytest.mark.parametrize(
    ("octets", "new"),
    [
        (b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"),
        (b"GET / HTTP/1.1\r\n", b"AMQP\x03\x01\x00\x00"),
        (b"AMQP\x00\x00\x09\x02", PROTOCOL_HEADER),
    ],
)
def test_a_wrong_protocol_header_is_answered_with_the_best_that_is_spoken(octets: bytes, new: bytes) -> None:
    for version, best in ((OLD, PROTOCOL_HEADER), (NEW, new)):
        talk = Talk(new_node(rabbitmq_version=version))
        assert talk.raw(octets) == [(0, best)]
        assert talk.core.finished


@pytest.mark.parametrize("version", VERSIONS)
def test_the_header_of_old_clients_is_taken(version: str) -> None:
    talk = Talk(new_node(rabbitmq_version=version))
    assert [method for octet in b"AMQP\x01\x01\x00\x09" for method in methods(talk.raw(bytes((octet,))))] == [
        "Connection.Start"
    ]


@pytest.mark.parametrize(("version", "least"), [(OLD, 4096), (NEW, 8192)])
def test_the_smallest_frames_are_larger_in_4_3(version: str, least: int) -> None:
    assert Talk(new_node(rabbitmq_version=version)).open(frame_max=least).core.channels
    talk = Talk(new_node(rabbitmq_version=version))
    talk.greet()
    talk.log_in()
    talk.say(0, Connection.TuneOk(2047, least - 1, 0))
    assert talk.core.finished


@pytest.mark.parametrize(("version", "goes_on"), [(OLD, False), (NEW, True)])
def test_the_first_frame_may_be_as_large_as_the_smallest_maximum(version: str, goes_on: bool) -> None:
    talk = Talk(new_node(rabbitmq_version=version))
    talk.greet()
    properties: FieldTable = {"capabilities": {}, "comment": "x" * 5000}
    heard = talk.raw(frame.marshal(Connection.StartOk(properties, "PLAIN", "\0user\0secret", "en_US"), 0))
    assert (methods(heard) == ["Connection.Tune"]) is goes_on


@pytest.mark.parametrize(("version", "first"), [(OLD, 1), (NEW, 2)])
def test_4_3_takes_a_global_prefetch_for_that_of_each_consumer(version: str, first: int) -> None:
    talk = opened(version)
    talk.say(1, Queue.Declare(0, "q", durable=True))
    talk.say(1, Basic.Qos(0, 1, True), Basic.Consume(0, "q", "a"), Basic.Consume(0, "q", "b"))
    heard = talk.say(2, *publishing("q"), *publishing("q"))
    assert methods(heard).count("Basic.Deliver") == first
