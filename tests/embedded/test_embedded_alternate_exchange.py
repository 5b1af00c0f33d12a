"""Alternate exchanges: where a message goes for which an exchange has no destination."""

import pytest
from pamqp.commands import Basic, Confirm, Exchange, Queue

from tests.embedded.conversation import Talk, closed, methods, publishing


def with_exchanges(**alternates: str) -> Talk:
    """Direct exchanges by name, each with its alternate; and a queue `q`, not bound to any of them."""
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Confirm.Select())
    for name, alternate in alternates.items():
        talk.say(1, Exchange.Declare(0, name, arguments={"alternate-exchange": alternate} if alternate else {}))
    return talk


def bind(talk: Talk, exchange: str, key: str = "k", queue: str = "q") -> None:
    assert methods(talk.say(1, Queue.Bind(0, queue, exchange, key))) == ["Queue.BindOk"]


def test_what_goes_nowhere_goes_there() -> None:
    talk = with_exchanges(first="second", second="")
    bind(talk, "second")
    assert methods(talk.publish(1, "k", exchange="first", mandatory=True)) == ["Basic.Ack"]
    message = talk.say(1, Basic.Get(0, "q", True))[0][1]
    assert (message.exchange, message.routing_key) == ("first", "k")


def test_what_goes_somewhere_does_not() -> None:
    talk = with_exchanges(first="amq.fanout")
    talk.say(1, Queue.Declare(0, "other", durable=True))
    bind(talk, "first")
    bind(talk, "amq.fanout", queue="other")
    talk.publish(1, "k", exchange="first")
    assert talk.node.queue_depths() == {"q": 1, "other": 0}
    talk.publish(1, "else", exchange="first")
    assert talk.node.queue_depths() == {"q": 1, "other": 1}


def test_a_chain_is_followed_to_the_first_that_has_a_destination() -> None:
    talk = with_exchanges(a="b", b="c", c="")
    bind(talk, "c")
    talk.publish(1, "k", exchange="a")
    assert talk.node.queue_depths() == {"q": 1}
    talk.say(1, Queue.Declare(0, "nearer", durable=True))
    bind(talk, "b", queue="nearer")
    talk.publish(1, "k", exchange="a")
    assert talk.node.queue_depths() == {"q": 1, "nearer": 1}


@pytest.mark.parametrize("alternates", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_a_circle_ends(alternates: dict[str, str]) -> None:
    talk = with_exchanges(**alternates)
    assert methods(talk.publish(1, "k", exchange="a")) == ["Basic.Ack"]
    assert methods(talk.publish(1, "k", exchange="a", mandatory=True)) == ["Basic.Return", "Basic.Ack"]


@pytest.mark.parametrize("alternate", ["nowhere", ""])
def test_one_that_is_missing_takes_nothing(alternate: str) -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Confirm.Select())
    talk.say(1, Exchange.Declare(0, "a", arguments={"alternate-exchange": alternate}))
    # the default exchange as an alternate has no bindings, whatever queue the key names
    assert methods(talk.publish(1, "q", exchange="a")) == ["Basic.Ack"]
    assert methods(talk.publish(1, "q", exchange="a", mandatory=True)) == ["Basic.Return", "Basic.Ack"]
    assert talk.node.queue_depths() == {"q": 0}


def test_one_that_comes_later_takes_what_comes_later() -> None:
    talk = with_exchanges(a="b")
    talk.publish(1, "k", exchange="a")
    talk.say(1, Exchange.Declare(0, "b", "fanout"))
    bind(talk, "b")
    talk.publish(1, "k", exchange="a")
    assert talk.node.queue_depths() == {"q": 1}
    talk.say(1, Exchange.Delete(0, "b"))
    talk.publish(1, "k", exchange="a")
    assert talk.node.queue_depths() == {"q": 1}


def test_an_internal_exchange_may_be_one() -> None:
    talk = with_exchanges(a="inside")
    talk.say(1, Exchange.Declare(0, "inside", "fanout", internal=True))
    bind(talk, "inside")
    talk.publish(1, "k", exchange="a")
    assert talk.node.queue_depths() == {"q": 1}


def test_each_exchange_on_the_way_has_its_own() -> None:
    talk = with_exchanges(near="for_near", far="for_far", for_near="", for_far="")
    talk.say(1, Queue.Declare(0, "of_near", durable=True), Exchange.Bind(0, "far", "near", "k"))
    bind(talk, "for_near", queue="of_near")
    bind(talk, "for_far")
    # a destination that leads nowhere is a destination: near's own alternate gets nothing
    talk.publish(1, "k", exchange="near")
    assert talk.node.queue_depths() == {"q": 1, "of_near": 0}


def test_dead_letters_take_the_same_way() -> None:
    talk = with_exchanges(dead="spare", spare="")
    talk.say(1, Queue.Declare(0, "work", durable=True, arguments={"x-dead-letter-exchange": "dead"}))
    bind(talk, "spare", "work")
    talk.publish(1, "work")
    talk.say(1, Basic.Get(0, "work"), Basic.Reject(1, False))
    assert talk.node.queue_depths() == {"q": 1, "work": 0}


def test_publishing_to_a_missing_exchange_is_refused_all_the_same() -> None:
    talk = with_exchanges(a="b")
    heard = talk.say(1, *publishing("k", exchange="a"), *publishing("k", exchange="b"))
    assert methods(heard) == ["Basic.Ack", "Channel.Close"]
    assert closed(heard) == ("channel", 404, "NOT_FOUND - no exchange 'b' in vhost '/'")


def test_it_is_compared_when_an_exchange_is_declared_again() -> None:
    talk = with_exchanges(a="b")
    same = Exchange.Declare(0, "a", arguments={"alternate-exchange": "b"})
    assert methods(talk.say(1, same)) == ["Exchange.DeclareOk"]
    other = Exchange.Declare(0, "a", arguments={"alternate-exchange": "c"})
    text = "inequivalent arg 'alternate-exchange' for exchange 'a' in vhost '/': received 'c' but current is 'b'"
    assert closed(talk.say(1, other)) == ("channel", 406, f"PRECONDITION_FAILED - {text}")
