"""Which destinations a message reaches: a table per type of exchange, then exchanges behind exchanges."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pamqp.commands import Basic, Exchange, Queue
from pamqp.common import FieldTable

from pipeline.embedded.exchanges import exchange as exchanges
from pipeline.embedded.exchanges.binding import Binding
from pipeline.embedded.ground.versions import NEWEST, VERSIONS, behaviour_of
from pipeline.embedded.wire import content, frames
from pipeline.embedded.wire.content import Message
from tests.embedded.conversation import Talk, closed, methods, new_node, only

BEHAVIOUR = behaviour_of(NEWEST)
BARE = b"\x00\x3c\x00\x00" + bytes(8) + b"\x00\x00"  # a content header without properties


def message(routing_key: str, headers: FieldTable | None = None) -> Message:
    header = BARE if headers is None else content.rewrite(BARE, headers)
    return Message("e", routing_key, frames.short("e") + frames.short(routing_key), header, b"")


def routes(type: str, key: str, bindings: list[tuple[str, str]]) -> set[object]:
    exchange = exchanges.Exchange(name="e", type=type, behaviour=BEHAVIOUR)
    for destination, binding_key in bindings:
        exchange.bind(Binding(destination=destination, routing_key=binding_key))
    return set(exchange.route(message(key)))


def test_direct_takes_the_equal_key() -> None:
    bindings = [("a", "red"), ("b", "red"), ("c", "green"), ("d", "")]
    assert routes("direct", "red", bindings) == {"a", "b"}
    assert routes("direct", "", bindings) == {"d"}
    assert routes("direct", "re", bindings) == set()
    assert routes("direct", "#", bindings) == set()


def test_fanout_takes_everything() -> None:
    assert routes("fanout", "whatever", [("a", "red"), ("b", "")]) == {"a", "b"}


@pytest.mark.parametrize(
    ("binding", "matching", "others"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.bb", "b.a", "a.", ""]),
        ("*", ["a", "*", "#"], ["", "a.b"]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
        ("*.b", ["a.b", ".b"], ["b", "a.b.c"]),
        ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c"]),
        ("#", ["", "a", "a.b.c"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["", "b", "b.a", "ab"]),
        ("#.c", ["c", "a.c", "a.b.c"], ["", "c.a"]),
        ("a.#.c", ["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.c.b"]),
        ("*.#", ["a", "a.b"], [""]),
        ("#.*", ["a", "a.b"], [""]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.a.#", ["a", "x.a", "a.x", "x.a.x"], ["", "x"]),
        ("*.*.#.z", ["a.b.z", "a.b.c.z"], ["a.z", "z"]),
        ("", [""], ["a"]),
    ],
)
def test_topic_matches_words(binding: str, matching: list[str], others: list[str]) -> None:
    assert {key for key in [*matching, *others] if routes("topic", key, [("q", binding)])} == set(matching)


def test_a_topic_with_many_hashes_takes_no_time_to_speak_of() -> None:
    # One way after another this would be more ways than there are atoms; it ends because places are walked, not ways.
    hashes = ".".join(["#.a"] * 40)
    assert routes("topic", ".".join(["a"] * 100 + ["b"]), [("q", hashes)]) == set()
    assert routes("topic", ".".join(["a"] * 100), [("q", hashes)]) == {"q"}


def test_a_topic_forgets_what_it_remembered_when_bindings_change() -> None:
    exchange = exchanges.Exchange(name="e", type="topic", behaviour=BEHAVIOUR)
    first = Binding(destination="first", routing_key="a.#.c")
    second = Binding(destination="second", routing_key="a.#")
    assert set(exchange.route(message("a.b.c"))) == set()
    exchange.bind(first)
    exchange.bind(second)
    assert set(exchange.route(message("a.b.c"))) == {"first", "second"}
    assert exchange.unbind(first)
    assert not exchange.unbind(first)
    assert set(exchange.route(message("a.b.c"))) == {"second"}


def test_a_topic_does_not_remember_keys_without_end() -> None:
    exchange = exchanges.Exchange(name="e", type="topic", behaviour=BEHAVIOUR)
    exchange.bind(Binding(destination="q", routing_key="#"))
    for number in range(10_000):
        assert tuple(exchange.route(message(str(number)))) == ("q",)
    assert len(vars(exchange._router)["_remembered"]) <= 4096


@pytest.mark.parametrize(
    ("wanted", "headers", "agrees"),
    [
        ({}, {}, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "all", "a": 1}, {"a": 2}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"c": 1}, False),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": None}, {"a": "anything"}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": 70_000}, {"a": 70_000}, True),
        ({"x-extra": 1, "a": 1}, {"a": 1}, True),
        ({"x-match": "any", "x-extra": 1}, {"x-extra": 1}, False),
        ({"x-match": "all-with-x", "x-extra": 1, "a": 1}, {"a": 1}, False),
        ({"x-match": "all-with-x", "x-extra": 1}, {"x-extra": 1}, True),
        ({"x-match": "any-with-x", "x-extra": 1, "a": 1}, {"x-extra": 1}, True),
    ],
)
def test_headers_compare_arguments_with_headers(wanted: dict[str, Any], headers: FieldTable, agrees: bool) -> None:
    exchange = exchanges.Exchange(name="e", type="headers", behaviour=BEHAVIOUR)
    exchange.bind(Binding(destination="q", routing_key="", arguments=wanted))
    assert bool(exchange.route(message("", headers))) is agrees


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    ("wanted", "header", "versions"),
    [
        (1, 1.0, ["3.10"]),
        (1.5, 1.5, ["3.10", "4.3"]),
        (1, True, []),
        ("1", bytearray(b"1"), ["3.10", "4.3"]),
        (b"\xff", b"\xff", ["3.10", "4.3"]),
        (MOMENT, SECONDS, ["3.10", "4.3"]),
        (SECONDS, MOMENT, ["3.10"]),
        (MOMENT, MOMENT, ["3.10"]),
        (SECONDS * 1000, MOMENT, ["4.3"]),
        (Decimal("1.5"), Decimal("1.5"), ["3.10", "4.3"]),
        (Decimal("1"), 1, []),
    ],
)
def test_what_is_the_same_to_a_headers_exchange(wanted: Any, header: Any, versions: list[str]) -> None:
    agreeing = []
    for version in VERSIONS:
        exchange = exchanges.Exchange(name="e", type="headers", behaviour=behaviour_of(version))
        exchange.bind(Binding(destination="q", routing_key="", arguments={"k": wanted}))
        if exchange.route(message("", {"k": header})):
            agreeing.append(version)
    assert agreeing == versions


# Types of 4.x


def test_local_random_takes_one_of_its_queues() -> None:
    bindings = [(name, "") for name in "abc"]
    assert {tuple(routes("x-local-random", "k", bindings)) for _ in range(200)} == {("a",), ("b",), ("c",)}
    assert routes("x-local-random", "k", []) == set()


def test_local_random_forgets_what_is_unbound() -> None:
    exchange = exchanges.Exchange(name="e", type="x-local-random", behaviour=BEHAVIOUR)
    first, second = (Binding(destination=name, routing_key="") for name in "ab")
    exchange.bind(first)
    exchange.bind(second)
    exchange.unbind(first)
    assert {tuple(exchange.route(message("k"))) for _ in range(20)} == {("b",)}


def test_modulus_hash_takes_the_same_queue_for_the_same_key() -> None:
    bindings = [(name, "ignored") for name in "abc"]
    ways = {key: routes("x-modulus-hash", key, bindings) for key in map(str, range(50))}
    assert all(len(way) == 1 for way in ways.values())
    assert set().union(*ways.values()) == {"a", "b", "c"}
    assert all(routes("x-modulus-hash", key, bindings) == way for key, way in ways.items())
    assert routes("x-modulus-hash", "k", []) == set()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([Queue.Bind(0, "q", "e", "k")], "Non empty binding 'k' key not permitted"),
        ([Exchange.Bind(0, "amq.fanout", "e", "")], "Destination not found"),
        ([Queue.Bind(0, "qq", "e", "")], "Queue type rabbit_quorum_queue not valid for this exchange type"),
    ],
)
def test_local_random_is_bound_to_classic_queues_without_a_key(said: list[Any], text: str) -> None:
    talk = Talk(new_node(rabbitmq_version="4.3")).open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Exchange.Declare(0, "e", "x-local-random"))
    talk.say(1, Queue.Declare(0, "qq", durable=True, arguments={"x-queue-type": "quorum"}))
    assert methods(talk.say(1, Queue.Bind(0, "q", "e", ""))) == ["Queue.BindOk"]
    assert closed(talk.say(1, *said)) == ("channel", 406, f"PRECONDITION_FAILED - {text}")


@pytest.mark.parametrize(
    ("version", "type", "end"),
    [
        ("3.10", "bogus", ("connection", 503, "COMMAND_INVALID - unknown exchange type 'bogus'")),
        ("3.10", "", ("connection", 503, "COMMAND_INVALID - invalid exchange type ''")),
        ("3.10", "x-local-random", ("connection", 503, "COMMAND_INVALID - unknown exchange type 'x-local-random'")),
        ("4.3", "bogus", ("channel", 406, "PRECONDITION_FAILED - unknown exchange type 'bogus'")),
        ("4.3", "", ("channel", 406, "PRECONDITION_FAILED - invalid exchange type ''")),
    ],
)
def test_a_type_that_there_is_not(version: str, type: str, end: tuple[str, int, str]) -> None:
    talk = Talk(new_node(rabbitmq_version=version)).open()
    assert closed(talk.say(1, Exchange.Declare(0, "e", type))) == end


def test_bindings_that_differ_in_arguments_only_are_two() -> None:
    exchange = exchanges.Exchange(name="e", type="headers", behaviour=BEHAVIOUR)
    first = Binding(destination="q", routing_key="", arguments={"a": 1})
    second = Binding(destination="q", routing_key="", arguments={"a": 2})
    exchange.bind(first)
    exchange.bind(second)
    exchange.bind(Binding(destination="q", routing_key="", arguments={"a": 2}))
    assert len(exchange.bindings) == 2
    exchange.unbind(first)
    assert list(exchange.route(message("", {"a": 2}))) == ["q"]
    assert list(exchange.route(message("", {"a": 1}))) == []


# On a virtual host


def test_the_default_exchange_reaches_each_queue_by_its_name() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    talk.publish(1, "q", b"here")
    assert talk.bodies(1, "q") == [b"here"]


@pytest.mark.parametrize(
    ("exchange", "type"),
    [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ],
)
def test_the_exchanges_that_are_always_there(exchange: str, type: str) -> None:
    talk = Talk().open()
    assert methods(talk.say(1, Exchange.Declare(0, exchange, type, durable=True))) == ["Exchange.DeclareOk"]


def test_one_copy_per_queue_however_many_bindings_match() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    for key in ("a.*", "#", "a.b"):
        talk.say(1, Queue.Bind(0, "q", "amq.topic", key))
    talk.publish(1, "a.b", exchange="amq.topic")
    assert talk.bodies(1, "q") == [b"x"]


def test_exchanges_behind_exchanges_and_no_way_round_in_a_circle() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Queue.Declare(0, "far", durable=True))
    talk.say(
        1,
        Exchange.Declare(0, "near", "fanout"),
        Exchange.Declare(0, "behind", "topic"),
        Exchange.Bind(0, "behind", "near", ""),
        Exchange.Bind(0, "near", "behind", "#"),
        Queue.Bind(0, "far", "behind", "a.*"),
        Queue.Bind(0, "q", "near", ""),
        Queue.Bind(0, "q", "behind", "#"),
    )
    talk.publish(1, "a.b", b"1", exchange="near")
    talk.publish(1, "other", b"2", exchange="near")
    assert talk.bodies(1, "q") == [b"1", b"2"]
    assert talk.bodies(1, "far") == [b"1"]


def test_a_circle_that_does_not_pass_the_first_exchange_ends_too() -> None:
    talk = Talk().open()
    names = ("first", "second", "third")
    talk.say(1, Queue.Declare(0, "q", durable=True), *(Exchange.Declare(0, name, "fanout") for name in names))
    for source, destination in (("first", "second"), ("second", "third"), ("third", "second")):
        talk.say(1, Exchange.Bind(0, destination, source, ""))
    talk.say(1, Queue.Bind(0, "q", "third", ""))
    talk.publish(1, "", exchange="first")
    assert talk.bodies(1, "q") == [b"x"]


def test_bind_and_unbind_are_idempotent() -> None:
    talk = Talk().open()
    bind, unbind = Queue.Bind(0, "q", "amq.direct", "k"), Queue.Unbind(0, "q", "amq.direct", "k")
    talk.say(1, Queue.Declare(0, "q", durable=True))
    assert methods(talk.say(1, bind, bind)) == ["Queue.BindOk"] * 2
    assert methods(talk.say(1, unbind, unbind)) == ["Queue.UnbindOk"] * 2
    talk.publish(1, "k", exchange="amq.direct")
    assert talk.bodies(1, "q") == []


@pytest.mark.parametrize(
    "unbind",
    [
        Queue.Unbind(0, "nope", "amq.direct", "k"),
        Queue.Unbind(0, "q", "nope", "k"),
        Exchange.Unbind(0, "amq.fanout", "nope", "k"),
        Exchange.Unbind(0, "nope", "amq.direct", "k"),
    ],
)
def test_unbinding_what_is_not_there_counts_as_done(unbind: Any) -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    assert methods(talk.say(1, unbind)) in (["Queue.UnbindOk"], ["Exchange.UnbindOk"])


def test_with_both_names_empty_the_key_is_the_name_of_the_last_queue() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Queue.Bind(0, "", "amq.direct", ""))
    talk.publish(1, "q", exchange="amq.direct")
    assert talk.bodies(1, "q") == [b"x"]


@pytest.mark.parametrize(
    ("match", "text"),
    [
        ("some", 'Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'),
        (5, "Invalid x-match field type byte (value 5); expected longstr"),
    ],
)
def test_x_match_is_one_of_four_words(match: Any, text: str) -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    refused = talk.say(1, Queue.Bind(0, "q", "amq.headers", "", arguments={"x-match": match}))
    assert closed(refused) == ("channel", 406, f"PRECONDITION_FAILED - {text}")


def test_a_deleted_queue_takes_its_bindings_and_auto_delete_exchanges_along() -> None:
    talk = Talk().open()
    talk.say(
        1,
        Exchange.Declare(0, "first", "fanout", auto_delete=True),
        Exchange.Declare(0, "second", "fanout", auto_delete=True),
        Exchange.Declare(0, "stays", "fanout"),
        Queue.Declare(0, "q", durable=True),
        Exchange.Bind(0, "second", "first", ""),
        Queue.Bind(0, "q", "second", ""),
        Queue.Bind(0, "q", "stays", ""),
    )
    assert only(talk.say(1, Queue.Delete(0, "q")), Queue.DeleteOk).message_count == 0
    assert set(talk.node.vhosts["/"].exchanges) & {"first", "second", "stays"} == {"stays"}
    assert not talk.node.vhosts["/"].exchanges["stays"].bindings


def test_an_internal_exchange_is_reached_through_others_only() -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "inside", "fanout", internal=True), Queue.Declare(0, "q", durable=True))
    talk.say(1, Exchange.Bind(0, "inside", "amq.direct", "k"), Queue.Bind(0, "q", "inside", ""))
    talk.publish(1, "k", exchange="amq.direct")
    assert talk.bodies(1, "q") == [b"x"]
    assert closed(talk.publish(1, "k", exchange="inside")) == (
        "channel",
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'",
    )


def test_the_default_exchange_cannot_be_bound() -> None:
    talk = Talk().open(1, 2, 3)
    talk.say(1, Queue.Declare(0, "q", durable=True))
    text = "ACCESS_REFUSED - operation not permitted on the default exchange"
    assert closed(talk.say(1, Queue.Bind(0, "q", "", "k"))) == ("channel", 403, text)
    assert closed(talk.say(2, Queue.Unbind(0, "q", "", "k"))) == ("channel", 403, text)
    assert closed(talk.say(3, Exchange.Bind(0, "", "amq.direct", "k"))) == ("channel", 403, text)


def test_unroutable_is_dropped_in_silence_unless_mandatory() -> None:
    talk = Talk().open()
    assert talk.publish(1, "nowhere") == []
    assert methods(talk.publish(1, "nowhere", mandatory=True)) == ["Basic.Return"]
    assert methods(talk.say(1, Basic.Qos(0, 1))) == ["Basic.QosOk"]
