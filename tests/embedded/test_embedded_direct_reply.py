"""Direct reply-to: asking, answering, and the answers that nobody waits for any more."""

import re
from typing import Any

import pytest
from pamqp import body, header
from pamqp.commands import Basic, Channel, Confirm, Queue, Tx

from pipeline.embedded.channels import direct_reply
from pipeline.embedded.ground.journal import Event
from pipeline.embedded.ground.versions import VERSIONS
from pipeline.embedded.vhosts.node import Node
from pipeline.embedded.vhosts.reply_names import GENERIC, may_have_been, new_name
from pipeline.embedded.wire import outbox
from tests.embedded.conversation import Talk, closed, deliveries, headers, methods, new_node, only, publishing


def pair(version: str = "4.3") -> tuple[Talk, Talk]:
    """A client that asks, and a server with its queue `rpc`."""
    node = new_node(rabbitmq_version=version)
    client, server = Talk(node).open(1, 2), Talk(node).open(1, 2)
    server.say(1, Queue.Declare(0, "rpc", durable=True))
    return client, server


def listen(client: Talk, tag: str = "replies") -> None:
    assert only(client.say(1, Basic.Consume(0, GENERIC, tag, no_ack=True)), Basic.ConsumeOk).consumer_tag == tag


def ask(client: Talk, server: Talk, channel: int = 1) -> str:
    """The name under which the answer is awaited."""
    assert client.publish(channel, "rpc", reply_to=GENERIC, correlation_id="7") == []
    properties: Basic.Properties = only(server.say(1, Basic.Get(0, "rpc", True)), header.ContentHeader).properties
    assert properties.correlation_id == "7"
    assert properties.reply_to is not None
    return properties.reply_to


@pytest.mark.parametrize("version", VERSIONS)
def test_ask_and_answer(version: str) -> None:
    client, server = pair(version)
    listen(client)
    name = ask(client, server)
    assert server.publish(1, name, b"one", correlation_id="7") == []
    heard = client.heard()
    assert deliveries(heard) == [("replies", 1, False, b"one")]
    deliver = only(heard, Basic.Deliver)
    assert (deliver.exchange, deliver.routing_key) == ("", name)
    server.publish(1, name, b"two")
    # 3.10 counts no reply: each has the tag that the next delivery would get
    assert deliveries(client.heard()) == [("replies", 1 if version == "3.10" else 2, False, b"two")]
    assert server.node.queue_depths() == {"rpc": 0}


def test_names_are_shaped_as_rabbitmqs_and_cannot_be_guessed() -> None:
    client, server = pair()
    listen(client)
    name = ask(client, server)
    assert re.fullmatch(r"amq\.rabbitmq\.reply-to\.g1h2[A-Za-z0-9+/]+=*\.[A-Za-z0-9+/]{22}==", name)
    assert ask(client, server) == name
    assert len({new_name() for _ in range(100)}) == 100
    assert may_have_been(name)
    for other in (GENERIC, f"{GENERIC}.", f"{GENERIC}.abc", f"{GENERIC}.abcd.efgh", "abcd", name[len(GENERIC) + 1 :]):
        assert not may_have_been(other)


def test_it_is_for_one_channel() -> None:
    client, server = pair()
    listen(client)
    text = "PRECONDITION_FAILED - fast reply consumer does not exist"
    assert closed(client.publish(2, "rpc", reply_to=GENERIC)) == ("channel", 406, text)
    assert closed(server.publish(2, "rpc", reply_to=GENERIC)) == ("channel", 406, text)
    assert server.node.queue_depths() == {"rpc": 0}
    assert client.publish(1, "rpc", reply_to="another") == []
    properties = only(server.say(1, Basic.Get(0, "rpc", True)), header.ContentHeader).properties
    assert properties.reply_to == "another"


def test_properties_around_it_stay_what_they_are() -> None:
    client, server = pair()
    listen(client)
    client.publish(1, "rpc", reply_to=GENERIC, headers={"a": 1}, message_id="m", app_id="app", delivery_mode=2)
    properties = only(server.say(1, Basic.Get(0, "rpc", True)), header.ContentHeader).properties
    assert (properties.headers, properties.message_id, properties.app_id) == ({"a": 1}, "m", "app")
    assert properties.delivery_mode == 2


# Refused


def refused(version: str, *said: Any) -> tuple[str, int, str]:
    client, _ = pair(version)
    return closed(client.say(1, *said))


def consume(tag: str, *, no_ack: bool = True, queue: str = GENERIC) -> Basic.Consume:
    return Basic.Consume(0, queue, tag, no_ack=no_ack)


@pytest.mark.parametrize("version", VERSIONS)
def test_how_one_may_not_listen(version: str) -> None:
    text = "PRECONDITION_FAILED - reply consumer cannot acknowledge"
    assert refused(version, consume("a", no_ack=False)) == ("channel", 406, text)
    assert refused(version, consume("a"), consume("b", no_ack=False)) == ("channel", 406, text)
    text = "PRECONDITION_FAILED - reply consumer already set"
    assert refused(version, consume("a"), consume("b")) == ("channel", 406, text)
    text = "NOT_ALLOWED - attempt to reuse consumer tag 'a'"
    assert refused(version, consume("a", queue="rpc"), consume("a")) == ("connection", 530, text)


@pytest.mark.parametrize(
    "said",
    [
        Basic.Get(0, GENERIC, True),
        Queue.Purge(0, GENERIC),
        Queue.Bind(0, GENERIC, "amq.direct", "k"),
        Queue.Declare(0, f"{GENERIC}.abc", passive=True),
    ],
)
def test_otherwise_it_is_no_queue(said: Any) -> None:
    name = said.queue
    assert refused("4.3", said) == ("channel", 404, f"NOT_FOUND - no queue '{name}' in vhost '/'")


def test_names_of_requesters_are_not_bound() -> None:
    bind, unbind = (method(0, f"{GENERIC}.abc", "amq.direct", "k") for method in (Queue.Bind, Queue.Unbind))
    text = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue"
    assert refused("4.3", bind) == ("channel", 403, text)
    assert refused("4.3", unbind) == ("channel", 403, text)
    assert refused("3.10", bind) == ("channel", 404, f"NOT_FOUND - no queue '{GENERIC}.abc' in vhost '/'")
    client, _ = pair("3.10")
    assert methods(client.say(1, unbind)) == ["Queue.UnbindOk"]


# Whether somebody waits


def test_declaring_tells_whether_somebody_waits() -> None:
    client, server = pair()
    listen(client)
    name = ask(client, server)
    for declare in (Queue.Declare(0, GENERIC, passive=True), Queue.Declare(0, GENERIC, exclusive=True)):
        ok = only(server.say(1, declare), Queue.DeclareOk)
        assert (ok.queue, ok.message_count, ok.consumer_count) == (GENERIC, 0, 1)
    assert declared(server, name)
    client.say(1, Basic.Cancel("replies"))
    assert not declared(server, name)


def declared(server: Talk, name: str) -> bool:
    """By hand: pamqp does not send such names."""
    octets = name.encode()
    payload = b"\x00\x32\x00\x0a\x00\x00" + bytes((len(octets),)) + octets + b"\x01" + bytes(4)
    heard = server.raw(b"\x01\x00\x02" + len(payload).to_bytes(4) + payload + b"\xce")
    if methods(heard) == ["Queue.DeclareOk"]:
        return True
    assert closed(heard) == ("channel", 404, f"NOT_FOUND - no queue '{name}' in vhost '/'")
    return False


ENDS: dict[str, list[Any]] = {
    "cancelled": [Basic.Cancel("replies")],
    "cancelled without an answer": [Basic.Cancel("replies", True)],
    "channel closed": [Channel.Close(200, "", 0, 0)],
    "channel refused": [Basic.Ack(9)],
    "connection refused": [Basic.Qos(1, 1)],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("version", "answer"), [("3.10", ["Basic.Return", "Basic.Ack"]), ("4.3", ["Basic.Ack"])])
def test_an_answer_to_one_who_is_gone_is_dropped(version: str, answer: list[str], end: str) -> None:
    client, server = pair(version)
    listen(client)
    name = ask(client, server)
    client.say(1, *ENDS[end])
    server.say(1, Confirm.Select())
    assert methods(server.publish(1, name, mandatory=True)) == answer
    assert methods(server.publish(1, name)) == ["Basic.Ack"]
    assert client.heard() == []


def test_a_cut_line_ends_it_too() -> None:
    client, server = pair()
    listen(client)
    name = ask(client, server)
    client.core.lost()
    server.publish(1, name)
    assert not declared(server, name)


def test_after_a_cancel_one_may_listen_again_under_another_name() -> None:
    client, server = pair()
    listen(client)
    before = ask(client, server)
    client.say(1, Basic.Cancel("replies"))
    listen(client, "again")
    server.publish(1, before, b"late")
    server.publish(1, ask(client, server), b"new")
    assert deliveries(client.heard()) == [("again", 1, False, b"new")]


def test_cancelling_another_tag_leaves_it() -> None:
    client, server = pair()
    listen(client)
    name = ask(client, server)
    client.say(1, Basic.Cancel("other"))
    server.publish(1, name, b"still")
    assert deliveries(client.heard()) == [("replies", 1, False, b"still")]


def test_the_server_makes_a_tag_where_there_is_none() -> None:
    client, _ = pair()
    tag = only(client.say(1, Basic.Consume(0, GENERIC, no_ack=True)), Basic.ConsumeOk).consumer_tag
    assert tag.startswith("amq.ctag-")
    assert client.say(1, Basic.Cancel(tag), Basic.Consume(0, GENERIC, "n", no_ack=True, nowait=True)) != []


# Answers


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_that_must_be_routable(version: str) -> None:
    client, server = pair(version)
    listen(client)
    name = ask(client, server)
    server.say(1, Confirm.Select())
    # 3.10 hands the answer over and returns it all the same
    expected = {"3.10": ["Basic.Return", "Basic.Ack"], "4.3": ["Basic.Ack"]}[version]
    assert methods(server.publish(1, name, b"here", mandatory=True)) == expected
    assert deliveries(client.heard()) == [("replies", 1, False, b"here")]
    for nobody in (GENERIC, f"{GENERIC}.abc", f"{GENERIC}.abcd.efgh"):
        assert methods(server.publish(1, nobody, mandatory=True)) == ["Basic.Return", "Basic.Ack"]


def test_copies_reach_requesters_and_queues() -> None:
    client, server = pair()
    listen(client)
    name = ask(client, server)
    server.publish(1, "rpc", headers={"BCC": [name], "k": 1})
    assert headers(client.heard()) == {"k": 1}
    assert server.node.queue_depths() == {"rpc": 1}


def test_only_the_default_exchange_leads_there() -> None:
    client, server = pair()
    listen(client)
    server.publish(1, ask(client, server), exchange="amq.direct")
    assert client.heard() == []


@pytest.mark.parametrize(("version", "when"), [("3.10", "at once"), ("4.3", "at the commit")])
def test_an_answer_in_a_transaction(version: str, when: str) -> None:
    client, server = pair(version)
    listen(client)
    name = ask(client, server)
    server.say(1, Tx.Select(), *publishing(name, b"answer"))
    assert bool(client.heard()) is (when == "at once")
    server.say(1, Tx.Commit())
    assert bool(client.heard()) is (when == "at the commit")


def test_prefetch_and_flow_do_not_hold_answers_back() -> None:
    client, server = pair()
    client.say(1, Basic.Qos(0, 1))
    listen(client)
    name = ask(client, server)
    for _ in range(5):
        server.publish(1, name)
    assert len(deliveries(client.heard())) == 5


def test_who_does_not_read_answers_loses_those_that_are_too_many() -> None:
    client, server = pair()
    listen(client)
    name = ask(client, server)
    large = bytes(100_000)
    for _ in range(outbox.TOO_MUCH // len(large) + 20):
        server.publish(1, name, large)
    assert client.core.outbox.size < outbox.TOO_MUCH + 2 * len(large)
    got = sum(isinstance(each, body.ContentBody) for _, each in client.heard())
    assert 0 < got <= outbox.TOO_MUCH // len(large) + 1
    server.publish(1, name, b"small")
    assert deliveries(client.heard())[0][3] == b"small"


def test_the_journal_tells_of_requesters_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = pair()
    told: list[Event] = []
    client.node.journal.listen(told.append)
    listen(client)
    name = ask(client, server)
    server.publish(1, name, b"one")
    client.heard()
    monkeypatch.setattr(direct_reply, "TOO_MUCH", 0)
    server.publish(1, name, b"two")
    client.say(1, Basic.Cancel("replies"))
    of_it = [(each.kind, each.consumer, each.body, each.reason) for each in told if each.queue == name]
    assert of_it == [
        ("consumer added", "replies", b"", ""),
        ("delivered", "replies", b"one", ""),
        ("dropped", "replies", b"two", "the client does not read its answers"),
        ("consumer cancelled", "replies", b"", "by the client"),
    ]


def test_virtual_hosts_do_not_answer_each_other() -> None:
    node = Node(username="user", password="secret", vhosts=("/", "other"))
    client, server = Talk(node).open(), Talk(node).open(vhost="other")
    listen(client)
    client.say(1, Queue.Declare(0, "rpc", durable=True))
    name = ask(client, client)
    server.publish(1, name)
    assert client.heard() == []
