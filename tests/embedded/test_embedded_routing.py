"""Which destinations a message reaches: a table per type of exchange, then exchanges behind exchanges."""

from typing import Any

import pytest
from pamqp.commands import Basic, Exchange, Queue
from pamqp.common import FieldTable

from pipeline.embedded import content, frames
from pipeline.embedded import exchange as exchanges
from pipeline.embedded.content import Message
from tests.embedded.conversation import Talk, closed, methods, only

BARE = b"\x00\x3c\x00\x00" + bytes(8) + b"\x00\x00"  # a content header without properties


def message(routing_key: str, headers: FieldTable | None = None) -> Message:
    header = BARE if headers is None else content.rewrite(BARE, headers)
    return Message("e", routing_key, frames.short("e") + frames.short(routing_key), header, b"")


def routes(type: str, key: str, bindings: list[tuple[str, str]]) -> set[object]:
    exchange = exchanges.Exchange(name="e", type=type)
    for destination, binding_key in bindings:
        exchange.bind(exchanges.Binding(destination=destination, routing_key=binding_key))
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
    exchange = exchanges.Exchange(name="e", type="topic")
    first = exchanges.Binding(destination="first", routing_key="a.#.c")
    second = exchanges.Binding(destination="second", routing_key="a.#")
    assert set(exchange.route(message("a.b.c"))) == set()
    exchange.bind(first)
    exchange.bind(second)
    assert set(exchange.route(message("a.b.c"))) == {"first", "second"}
    assert exchange.unbind(first)
    assert not exchange.unbind(first)
    assert set(exchange.route(message("a.b.c"))) == {"second"}


def test_a_topic_does_not_remember_keys_without_end() -> None:
    exchange = exchanges.Exchange(name="e", type="topic")
    exchange.bind(exchanges.Binding(destination="q", routing_key="#"))
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
    exchange = exchanges.Exchange(name="e", type="headers")
    exchange.bind(exchanges.Binding(destination="q", routing_key="", arguments=wanted))
    assert bool(exchange.route(message("", headers))) is agrees


def test_bindings_that_differ_in_arguments_only_are_two() -> None:
    exchange = exchanges.Exchange(name="e", type="headers")
    first = exchanges.Binding(destination="q", routing_key="", arguments={"a": 1})
    second = exchanges.Binding(destination="q", routing_key="", arguments={"a": 2})
    exchange.bind(first)
    exchange.bind(second)
    exchange.bind(exchanges.Binding(destination="q", routing_key="", arguments={"a": 2}))
    assert len(exchange.bindings) == 2
    exchange.unbind(first)
    assert list(exchange.route(message("", {"a": 2}))) == ["q"]
    assert list(exchange.route(message("", {"a": 1}))) == []


# On a virtual host


def test_the_default_exchange_reaches_each_queue_by_its_name() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"))
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
    talk.say(1, Queue.Declare(0, "q"))
    for key in ("a.*", "#", "a.b"):
        talk.say(1, Queue.Bind(0, "q", "amq.topic", key))
    talk.publish(1, "a.b", exchange="amq.topic")
    assert talk.bodies(1, "q") == [b"x"]


def test_exchanges_behind_exchanges_and_no_way_round_in_a_circle() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"), Queue.Declare(0, "far"))
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
    talk.say(1, Queue.Declare(0, "q"), *(Exchange.Declare(0, name, "fanout") for name in names))
    for source, destination in (("first", "second"), ("second", "third"), ("third", "second")):
        talk.say(1, Exchange.Bind(0, destination, source, ""))
    talk.say(1, Queue.Bind(0, "q", "third", ""))
    talk.publish(1, "", exchange="first")
    assert talk.bodies(1, "q") == [b"x"]


def test_bind_and_unbind_are_idempotent() -> None:
    talk = Talk().open()
    bind, unbind = Queue.Bind(0, "q", "amq.direct", "k"), Queue.Unbind(0, "q", "amq.direct", "k")
    talk.say(1, Queue.Declare(0, "q"))
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
    talk.say(1, Queue.Declare(0, "q"))
    assert methods(talk.say(1, unbind)) in (["Queue.UnbindOk"], ["Exchange.UnbindOk"])


def test_with_both_names_empty_the_key_is_the_name_of_the_last_queue() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"), Queue.Bind(0, "", "amq.direct", ""))
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
    talk.say(1, Queue.Declare(0, "q"))
    refused = talk.say(1, Queue.Bind(0, "q", "amq.headers", "", arguments={"x-match": match}))
    assert closed(refused) == ("channel", 406, f"PRECONDITION_FAILED - {text}")


def test_a_deleted_queue_takes_its_bindings_and_auto_delete_exchanges_along() -> None:
    talk = Talk().open()
    talk.say(
        1,
        Exchange.Declare(0, "first", "fanout", auto_delete=True),
        Exchange.Declare(0, "second", "fanout", auto_delete=True),
        Exchange.Declare(0, "stays", "fanout"),
        Queue.Declare(0, "q"),
        Exchange.Bind(0, "second", "first", ""),
        Queue.Bind(0, "q", "second", ""),
        Queue.Bind(0, "q", "stays", ""),
    )
    assert only(talk.say(1, Queue.Delete(0, "q")), Queue.DeleteOk).message_count == 0
    assert set(talk.node.vhosts["/"].exchanges) & {"first", "second", "stays"} == {"stays"}
    assert not talk.node.vhosts["/"].exchanges["stays"].bindings


def test_an_internal_exchange_is_reached_through_others_only() -> None:
    talk = Talk().open()
    talk.say(1, Exchange.Declare(0, "inside", "fanout", internal=True), Queue.Declare(0, "q"))
    talk.say(1, Exchange.Bind(0, "inside", "amq.direct", "k"), Queue.Bind(0, "q", "inside", ""))
    talk.publish(1, "k", exchange="amq.direct")
    assert talk.bodies(1, "q") == [b"x"]
    assert closed(talk.publish(1, "k", exchange="inside")) == (
        "channel",
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'",
    )


def test_headers_that_cannot_be_read_match_nothing() -> None:
    # Given a table in a table that does not add up, which only a look into it would show
    inner = b"\x01aF\0\0\0\x02\xff\xff"
    properties = b"\x20\x00" + len(inner).to_bytes(4) + inner
    broken = Message("e", "", b"\x01e\x00", BARE[:12] + properties, b"")
    content.check(broken.header)
    exchange = exchanges.Exchange(name="e", type="headers")
    exchange.bind(exchanges.Binding(destination="q", routing_key="", arguments={"a": None}))
    assert not exchange.route(broken)


def test_the_default_exchange_cannot_be_bound() -> None:
    talk = Talk().open(1, 2, 3)
    talk.say(1, Queue.Declare(0, "q"))
    text = "ACCESS_REFUSED - operation not permitted on the default exchange"
    assert closed(talk.say(1, Queue.Bind(0, "q", "", "k"))) == ("channel", 403, text)
    assert closed(talk.say(2, Queue.Unbind(0, "q", "", "k"))) == ("channel", 403, text)
    assert closed(talk.say(3, Exchange.Bind(0, "", "amq.direct", "k"))) == ("channel", 403, text)


def test_unroutable_is_dropped_in_silence_unless_mandatory() -> None:
    talk = Talk().open()
    assert talk.publish(1, "nowhere") == []
    assert methods(talk.publish(1, "nowhere", mandatory=True)) == ["Basic.Return"]
    assert methods(talk.say(1, Basic.Qos(0, 1))) == ["Basic.QosOk"]
