"""Delayed retry of quorum queues in RabbitMQ 4.3: what came back waits, longer with each failure."""

import pytest
from pamqp.commands import Basic, Confirm, Queue
from pamqp.common import FieldTable

from tests.embedded.conversation import Talk, deliveries, only
from tests.embedded.queues import depths, get, publish, to_queue, with_queues


def delayed(kind: str = "all", most: int | None = 2500) -> FieldTable:
    found: FieldTable = {"x-queue-type": "quorum", "x-delayed-retry-type": kind, "x-delayed-retry-min": 1000}
    return found if most is None else {**found, "x-delayed-retry-max": most}


def ready(talk: Talk) -> int:
    count = only(talk.say(1, Queue.Declare(0, "work", passive=True)), Queue.DeclareOk).message_count
    assert isinstance(count, int)
    return count


def test_each_failure_makes_it_wait_longer_up_to_the_most() -> None:
    talk = with_queues(work=delayed())
    publish(talk, "work", b"m")
    for seconds in (1, 2, 2.5, 2.5):
        talk.say(1, Basic.Reject(get(talk, "work"), True))
        talk.wait(seconds - 0.001)
        assert (ready(talk), depths(talk)) == (0, {"work": 1})
        talk.wait(0.001)
        assert ready(talk) == 1


def test_without_a_most_the_least_is_both() -> None:
    talk = with_queues(work=delayed(most=None))
    publish(talk, "work", b"m")
    for _ in range(3):
        talk.say(1, Basic.Reject(get(talk, "work"), True))
        talk.wait(1)
        assert ready(talk) == 1


@pytest.mark.parametrize(
    ("kind", "after_nack", "after_reject"), [("all", 0, 0), ("failed", 1, 0), ("returned", 0, 1), ("disabled", 1, 1)]
)
def test_what_waits(kind: str, after_nack: int, after_reject: int) -> None:
    talk = with_queues(work=delayed(kind))
    publish(talk, "work", b"m")
    talk.say(1, Basic.Nack(get(talk, "work")))
    assert ready(talk) == after_nack
    talk.wait(3)
    talk.say(1, Basic.Reject(get(talk, "work"), True))
    assert ready(talk) == after_reject


def test_those_behind_it_do_not_wait() -> None:
    talk = with_queues(work=delayed())
    talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "work", "c"))
    publish(talk, "work", b"1", b"2")
    assert [body for *_, body in deliveries(talk.say(1, Basic.Nack(1)))] == [b"2"]
    assert [body for *_, body in deliveries(talk.say(1, Basic.Ack(2)))] == []
    assert [body for *_, body in deliveries(talk.wait(1))] == [b"1"]


def test_they_come_in_the_order_in_which_they_are_ready() -> None:
    talk = with_queues(work=delayed())
    publish(talk, "work", b"1", b"2", b"3")
    tags = [get(talk, "work") for _ in range(2)]
    talk.say(1, Basic.Nack(tags[1]))
    talk.wait(0.5)
    talk.say(1, Basic.Nack(tags[0]))
    talk.wait(1)
    assert talk.bodies(1, "work") == [b"2", b"1", b"3"]


def test_what_expires_meanwhile_is_dead_when_it_would_be_ready() -> None:
    talk = with_queues(work={**to_queue("dead"), **delayed(), "x-message-ttl": 600}, dead={})
    publish(talk, "work", b"m")
    talk.say(1, Basic.Nack(get(talk, "work")))
    talk.wait(0.999)
    assert depths(talk) == {"work": 1, "dead": 0}
    talk.wait(0.001)
    assert depths(talk) == {"work": 0, "dead": 1}


def test_what_waits_counts_towards_the_limit_and_is_purged() -> None:
    talk = with_queues(work={**delayed(), "x-max-length": 1, "x-overflow": "reject-publish"})
    talk.say(1, Confirm.Select())
    publish(talk, "work", b"1")
    talk.say(1, Basic.Nack(get(talk, "work")))
    assert [answer.name for _ in range(2) for _, answer in talk.publish(1, "work")] == ["Basic.Ack", "Basic.Nack"]
    assert talk.say(1, Queue.Purge(0, "work"))[0][1].message_count == 2
    talk.wait(5)
    assert depths(talk) == {"work": 0}
    assert talk.node.memory.used == 0


def test_the_delivery_limit_comes_first() -> None:
    talk = with_queues(work={**to_queue("dead"), **delayed(), "x-delivery-limit": 0}, dead={})
    publish(talk, "work", b"m")
    talk.say(1, Basic.Reject(get(talk, "work"), True))
    assert depths(talk) == {"work": 0, "dead": 1}
