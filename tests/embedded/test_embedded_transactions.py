"""Transactions: what waits for tx.commit, what becomes of it at tx.rollback, and what is refused."""

from typing import Any

import pytest
from pamqp import body
from pamqp.commands import Basic, Channel, Confirm, Exchange, Queue, Tx
from pamqp.common import FieldTable

from pipeline.embedded.channels import session
from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, closed, deliveries, methods, new_node, only, publishing


def in_transaction(count: int = 0, version: str = "4.3") -> Talk:
    """Channel 1 in a transaction; a queue `q` with so many messages. Channel 2 is none."""
    talk = Talk(new_node(rabbitmq_version=version)).open(1, 2)
    talk.say(1, Queue.Declare(0, "q", durable=True))
    for number in range(count):
        talk.publish(2, "q", b"%d" % number)
    assert methods(talk.say(1, Tx.Select())) == ["Tx.SelectOk"]
    return talk


def bodies(seen: list[tuple[int, Any]]) -> list[bytes]:
    return [each.value for _, each in seen if isinstance(each, body.ContentBody)]


# Publishing


def test_what_is_published_is_there_after_the_commit() -> None:
    talk = in_transaction()
    assert talk.say(1, *publishing("q", b"1"), *publishing("q", b"2")) == []
    assert talk.node.queue_depths() == {"q": 0}
    assert methods(talk.say(1, Tx.Commit())) == ["Tx.CommitOk"]
    assert talk.bodies(2, "q") == [b"1", b"2"]


def test_a_rollback_publishes_nothing_and_a_new_transaction_begins() -> None:
    talk = in_transaction()
    assert methods(talk.say(1, *publishing("q", b"1"), Tx.Rollback())) == ["Tx.RollbackOk"]
    assert methods(talk.say(1, *publishing("q", b"2"), Tx.Commit(), Tx.Commit())) == ["Tx.CommitOk"] * 2
    assert talk.bodies(2, "q") == [b"2"]


def test_to_select_again_changes_nothing() -> None:
    talk = in_transaction()
    talk.publish(1, "q", b"1")
    assert methods(talk.say(1, Tx.Select(), Tx.Commit())) == ["Tx.SelectOk", "Tx.CommitOk"]
    assert talk.bodies(2, "q") == [b"1"]


def test_what_is_unroutable_comes_back_at_the_commit() -> None:
    talk = in_transaction()
    assert talk.say(1, *publishing("no", b"1", mandatory=True), *publishing("q"), *publishing("no")) == []
    heard = talk.say(1, Tx.Commit())
    assert methods(heard) == ["Basic.Return", "Tx.CommitOk"]
    assert bodies(heard) == [b"1"]
    assert methods(talk.say(1, *publishing("no", mandatory=True), Tx.Rollback())) == ["Tx.RollbackOk"]


def test_the_way_is_the_one_there_was_when_it_was_published() -> None:
    talk = in_transaction()
    talk.publish(1, "k", b"early", exchange="amq.direct")
    talk.say(1, Queue.Bind(0, "q", "amq.direct", "k"))
    talk.publish(1, "k", b"right", exchange="amq.direct")
    talk.say(1, Queue.Unbind(0, "q", "amq.direct", "k"), Tx.Commit())
    assert talk.bodies(2, "q") == [b"right"]


@pytest.mark.parametrize(
    ("frames", "code", "text"),
    [
        (publishing("k", exchange="nope"), 404, "NOT_FOUND - no exchange 'nope' in vhost '/'"),
        (publishing("q", expiration="x"), 406, "PRECONDITION_FAILED - invalid expiration 'x': no_integer"),
    ],
)
def test_mistakes_are_refused_when_they_are_made_and_nothing_was_done(frames: list[Any], code: int, text: str) -> None:
    talk = in_transaction(1)
    talk.say(1, Basic.Get(0, "q"), Basic.Ack(1))
    assert closed(talk.say(1, *publishing("q"), *frames)) == ("channel", code, text)
    assert talk.bodies(2, "q") == [b"0"]


def test_a_queue_that_refuses_fails_the_commit_and_the_rest_is_done() -> None:
    talk = in_transaction(1)
    full: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}
    talk.say(1, Queue.Declare(0, "full", durable=True, arguments=full), Basic.Get(0, "q"), Basic.Ack(1))
    heard = talk.say(1, *publishing("full", b"1"), *publishing("full", b"2"), *publishing("q", b"3"), Tx.Commit())
    assert closed(heard) == ("channel", 406, "PRECONDITION_FAILED - partial tx completion")
    close = only(heard, Channel.Close)
    assert (close.class_id, close.method_id) == (90, 20)
    assert talk.bodies(2, "full") == [b"1"]
    assert talk.bodies(2, "q") == [b"3"]


def test_a_queue_that_is_gone_by_the_commit() -> None:
    talk = in_transaction(version="4.3")
    heard = talk.say(1, *publishing("q"), Queue.Delete(0, "q"), Tx.Commit())
    text = 'RESOURCE_ERROR - failed to deliver message: {not_found,{resource,<<"/">>,queue,<<"q">>}}'
    assert closed(heard) == ("connection", 506, text)
    talk = in_transaction(version="3.10")
    heard = talk.say(1, *publishing("q", mandatory=True), Queue.Delete(0, "q"), Tx.Commit())
    assert methods(heard) == ["Queue.DeleteOk", "Basic.Return", "Tx.CommitOk"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a" * 8, ['{not_found,{resource,<<"/">>,queue,<<"aaaaaaaa">>}}']),
        ("a" * 12, ["{not_found,", '{resource,<<"/">>,queue,<<"aaaaaaaaaaaa">>}}']),
        ("a" * 30, ["{not_found,", '{resource,<<"/">>,queue,', f'<<"{"a" * 30}">>}}}}']),
    ],
)
def test_its_name_is_told_in_lines_as_erlang_breaks_them(name: str, lines: list[str]) -> None:
    talk = in_transaction()
    talk.say(1, Queue.Declare(0, name, durable=True), *publishing(name))
    _, _, text = closed(talk.say(1, Queue.Delete(0, name), Tx.Commit()))
    assert [line.strip() for line in text.split(": ", 1)[1].split("\n")] == lines


@pytest.mark.parametrize(("version", "found"), [("3.10", [b"1"]), ("4.3", [])])
def test_a_queue_that_comes_before_the_commit(version: str, found: list[bytes]) -> None:
    talk = in_transaction(version=version)
    talk.say(1, *publishing("late", b"1"), Queue.Declare(0, "late", durable=True), Tx.Commit())
    assert talk.bodies(2, "late") == found


def test_there_is_an_end_to_what_may_wait() -> None:
    talk = in_transaction()
    heard = talk.say(1, *(each for _ in range(10_001) for each in publishing("q", b"")))
    text = "PRECONDITION_FAILED - transaction has reached the maximum of 10000 uncommitted publishes"
    assert closed(heard) == ("channel", 406, text)
    old = in_transaction(version="3.10")
    old.say(1, *(each for _ in range(10_001) for each in publishing("q", b"")))
    assert methods(old.say(1, Tx.Commit())) == ["Tx.CommitOk"]
    assert old.node.queue_depths() == {"q": 10_001}


def test_what_waits_is_bounded_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "UNFINISHED_MAX", 100_000)
    talk = in_transaction()
    heard = talk.say(1, *(each for _ in range(10) for each in publishing("q", bytes(10_000))))
    text = "messages that are not whole or not committed yet take more than 100000 octets on this connection"
    assert closed(heard) == ("connection", 506, f"RESOURCE_ERROR - {text}")


@pytest.mark.parametrize("end", [Tx.Commit(), Tx.Rollback(), Channel.Close(200, "", 0, 0), Basic.Ack(9)])
def test_what_does_not_wait_any_more_makes_room(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "UNFINISHED_MAX", 100_000)
    talk = in_transaction()
    talk.say(2, Tx.Select(), *(each for _ in range(8) for each in publishing("q", bytes(10_000))), end)
    heard = talk.say(1, *(each for _ in range(9) for each in publishing("q", bytes(10_000))), Tx.Commit())
    assert methods(heard)[-1] == "Tx.CommitOk"


# Settling


def test_acknowledgements_count_from_the_commit_on() -> None:
    talk = in_transaction(3)
    talk.say(1, Basic.Get(0, "q"), Basic.Get(0, "q"), Basic.Ack(2, True))
    assert talk.node.queue_depths() == {"q": 3}
    talk.say(1, Tx.Commit())
    assert talk.node.queue_depths() == {"q": 1}


def test_a_rollback_brings_them_back_into_the_channels_hands() -> None:
    talk = in_transaction(3)
    talk.say(1, *(Basic.Get(0, "q") for _ in range(3)))
    talk.say(1, Basic.Nack(3, False, True), Basic.Reject(2, False), Basic.Ack(1), Tx.Rollback())
    assert methods(talk.say(2, Basic.Get(0, "q"))) == ["Basic.GetEmpty"]
    # they may be settled again, and `multiple` finds them in their order
    assert methods(talk.say(1, Basic.Ack(2, True), Tx.Commit())) == ["Tx.CommitOk"]
    assert talk.node.queue_depths() == {"q": 1}


def test_what_was_settled_is_not_known_any_more_before_the_commit_either() -> None:
    talk = in_transaction(2)
    talk.say(1, Basic.Get(0, "q"), Basic.Get(0, "q"), Basic.Ack(1))
    assert closed(talk.say(1, Basic.Ack(1))) == ("channel", 406, "PRECONDITION_FAILED - unknown delivery tag 1")
    assert talk.bodies(2, "q") == [b"0", b"1"]


def test_requeueing_waits_too() -> None:
    talk = in_transaction(2)
    talk.say(1, Basic.Get(0, "q"), Basic.Reject(1, True))
    assert bodies(talk.say(2, Basic.Get(0, "q", True))) == [b"1"]
    talk.say(1, Tx.Commit())
    assert bodies(talk.say(2, Basic.Get(0, "q", True))) == [b"0"]


def test_dead_letters_of_a_transaction_go_in_the_order_of_their_delivery() -> None:
    talk = in_transaction()
    arguments: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    talk.say(2, Queue.Declare(0, "work", durable=True, arguments=arguments))
    for number in range(3):
        talk.publish(2, "work", b"%d" % number)
    talk.say(1, *(Basic.Get(0, "work") for _ in range(3)))
    talk.say(1, Basic.Reject(2, False), Basic.Reject(1, False), Basic.Reject(3, False), Tx.Commit())
    assert talk.bodies(2, "q") == [b"0", b"1", b"2"]


def test_prefetch_gets_room_at_the_commit_and_the_answer_comes_first() -> None:
    talk = in_transaction(3)
    assert bodies(talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "q", "c"))) == [b"0"]
    assert talk.say(1, Basic.Ack(1)) == []
    heard = talk.say(1, Tx.Commit())
    assert methods(heard) == ["Tx.CommitOk", "Basic.Deliver"]
    assert deliveries(heard) == [("c", 2, False, b"1")]
    talk.say(1, Basic.Ack(2), Tx.Rollback())
    assert bodies(talk.say(1, Basic.Ack(2), Tx.Commit())) == [b"2"]


def test_recover_brings_back_what_is_not_settled_and_no_more() -> None:
    talk = in_transaction(2)
    talk.say(1, Basic.Get(0, "q"), Basic.Get(0, "q"), Basic.Ack(1), Basic.Recover(True))
    assert bodies(talk.say(2, Basic.Get(0, "q", True))) == [b"1"]
    talk.say(1, Tx.Commit())
    assert talk.node.queue_depths() == {"q": 0}


@pytest.mark.parametrize("how", ["channel", "connection", "line"])
def test_the_end_without_a_commit_is_a_rollback(how: str) -> None:
    node = new_node()
    talk, other = Talk(node).open(), Talk(node).open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    other.publish(1, "q", b"0")
    talk.say(1, Tx.Select(), Basic.Get(0, "q"), Basic.Ack(1), *publishing("q", b"1"))
    if how == "channel":
        talk.say(1, Channel.Close(200, "", 0, 0))
    elif how == "connection":
        assert closed(talk.say(1, Basic.Qos(1, 1)))[0] == "connection"
    else:
        talk.core.lost()
    assert deliveries(other.say(1, Basic.Consume(0, "q", "c"))) == [("c", 1, True, b"0")]


# Refused


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([Tx.Commit()], "channel is not transactional"),
        ([Tx.Rollback()], "channel is not transactional"),
        ([Confirm.Select(), Tx.Select()], "cannot switch from confirm to tx mode"),
        ([Tx.Select(), Confirm.Select()], "cannot switch from tx to confirm mode"),
        ([Tx.Select(), Confirm.Select(True)], "cannot switch from tx to confirm mode"),
    ],
)
def test_a_channel_is_in_one_mode(version: str, said: list[Any], text: str) -> None:
    talk = Talk(new_node(rabbitmq_version=version)).open()
    assert closed(talk.say(1, *said)) == ("channel", 406, f"PRECONDITION_FAILED - {text}")


def test_declaring_does_not_wait() -> None:
    talk = in_transaction()
    assert methods(talk.say(1, Exchange.Declare(0, "e"), Tx.Rollback())) == ["Exchange.DeclareOk", "Tx.RollbackOk"]
    assert methods(talk.say(1, Exchange.Declare(0, "e", passive=True))) == ["Exchange.DeclareOk"]
