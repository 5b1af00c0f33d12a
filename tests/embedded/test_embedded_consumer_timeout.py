"""Who does not answer a delivery in time: RabbitMQ 3.10 closes the channel, 4.3 takes it back from consumers of quorum
queues. Checked against both; time is moved by hand."""

from typing import Any

import pytest
from pamqp.commands import Basic, Channel, Queue
from pamqp.common import FieldTable

from pipeline.embedded.vhosts.node import Node
from tests.embedded.conversation import CAPABILITIES, Talk, closed, deliveries, headers, methods, only

QUORUM: FieldTable = {"x-queue-type": "quorum"}
HALF_AN_HOUR = 1800.0
TIMED_OUT = (
    "PRECONDITION_FAILED - delivery acknowledgement on channel {} timed out. Timeout value used: {} ms. "
    "This timeout value can be configured, see consumers doc guide to learn more"
)


def talk_with(version: str, arguments: FieldTable | None = None, *, bodies: int = 1, **settings: Any) -> Talk:
    """A durable queue `q` with `m0`, `m1` and so on, and channels 1 and 2."""
    node = Node(username="user", password="secret", vhosts=("/",), rabbitmq_version=version, **settings)
    talk = Talk(node).open(1, 2)
    talk.say(2, Queue.Declare(0, "q", durable=True, arguments=arguments or {}))
    for number in range(bodies):
        talk.publish(2, "q", b"m%d" % number)
    return talk


# 3.10


@pytest.mark.parametrize("arguments", [{}, QUORUM])
def test_3_10_closes_the_channel_when_it_next_looks_after_half_an_hour(arguments: FieldTable) -> None:
    talk = talk_with("3.10", arguments)
    talk.wait(10)
    talk.say(1, Basic.Consume(0, "q", "c"))
    assert talk.wait(HALF_AN_HOUR) == []
    assert closed(talk.wait(60)) == ("channel", 406, TIMED_OUT.format(1, 1_800_000))
    talk.say(1, Channel.CloseOk())
    assert only(talk.say(2, Basic.Get(0, "q")), Basic.GetOk).redelivered is True


def test_3_10_waits_no_longer_for_an_answer_to_basic_get() -> None:
    talk = talk_with("3.10", consumer_timeout=5)
    talk.say(1, Basic.Get(0, "q"))
    assert closed(talk.wait(10)) == ("channel", 406, TIMED_OUT.format(1, 5000))


def test_3_10_looks_at_the_oldest_delivery_only() -> None:
    # Given a consumer that answers each delivery after a minute and a half
    talk = talk_with("3.10", bodies=30)
    talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "q", "c"))
    for tag in range(1, 30):
        assert [each for _, each in talk.wait(90) if isinstance(each, Channel.Close)] == []
        talk.say(1, Basic.Ack(tag))
    # When it keeps the last one: nobody complains before half an hour is over
    assert talk.wait(HALF_AN_HOUR - 60) == []
    assert closed(talk.wait(120))[1] == 406


def test_3_10_does_not_wait_for_consumers_that_need_not_answer() -> None:
    talk = talk_with("3.10")
    talk.say(1, Basic.Consume(0, "q", "c", no_ack=True))
    assert talk.wait(3 * HALF_AN_HOUR) == []


def test_nothing_is_due_when_nobody_is_there() -> None:
    talk = talk_with("3.10")
    talk.core.lost()
    assert talk.node.timeline.next_due is None


# 4.3


def test_4_3_takes_it_back_from_the_consumer_and_does_not_count_that() -> None:
    talk = talk_with("4.3", {**QUORUM, "x-delivery-limit": 1})
    talk.say(1, Basic.Consume(0, "q", "c"))
    assert talk.wait(HALF_AN_HOUR - 1) == []
    cancel = only(talk.wait(1), Basic.Cancel)
    assert (cancel.consumer_tag, cancel.nowait) == ("c", True)

    again = talk.say(2, Basic.Get(0, "q"))
    assert only(again, Basic.GetOk).redelivered is True
    assert headers(again) == {"x-acquired-count": 1}


def test_4_3_takes_back_what_is_overdue_and_leaves_the_rest() -> None:
    talk = talk_with("4.3", {**QUORUM, "x-consumer-timeout": 1500})
    talk.say(1, Basic.Consume(0, "q", "c"))
    talk.wait(1)
    talk.publish(2, "q", b"m1")
    assert methods(talk.wait(0.5)) == ["Basic.Cancel"]
    assert [body for *_, body in deliveries(talk.say(2, Basic.Consume(0, "q", "d")))] == [b"m0"]
    assert methods(talk.wait(1))[0] == "Basic.Cancel"  # for the second one


def test_4_3_gives_nothing_to_a_consumer_before_it_has_answered_for_all_it_has_lost() -> None:
    talk = talk_with("4.3", {**QUORUM, "x-consumer-timeout": 1000}, bodies=3)
    talk.say(1, Basic.Consume(0, "q", "c"), Basic.Ack(1))
    assert methods(talk.wait(1)) == ["Basic.Cancel"]
    assert only(talk.say(2, Queue.Declare(0, "q", passive=True)), Queue.DeclareOk).consumer_count == 1

    # Its late answers are taken, and mean nothing
    assert talk.say(1, Basic.Ack(2)) == []
    assert [(tag, body) for _, tag, _, body in deliveries(talk.say(1, Basic.Nack(3, False, False)))] == [
        (4, b"m1"),
        (5, b"m2"),
    ]
    # and only once
    assert closed(talk.say(1, Basic.Ack(2)))[2] == "PRECONDITION_FAILED - unknown delivery tag 2"


def test_4_3_takes_all_late_answers_at_once() -> None:
    talk = talk_with("4.3", {**QUORUM, "x-consumer-timeout": 1000}, bodies=2)
    talk.say(1, Basic.Consume(0, "q", "c"))
    talk.wait(1)
    assert [body for *_, body in deliveries(talk.say(1, Basic.Ack(0, True)))] == [b"m0", b"m1"]


def test_4_3_closes_the_channel_of_a_client_that_would_not_understand() -> None:
    node = Node(username="user", password="secret", vhosts=("/",), rabbitmq_version="4.3")
    talk = Talk(node).open(1, 2, capabilities={**CAPABILITIES, "consumer_cancel_notify": False})
    talk.say(2, Queue.Declare(0, "q", durable=True, arguments={**QUORUM, "x-consumer-timeout": 1000}))
    talk.publish(2, "q")
    talk.say(1, Basic.Consume(0, "q", "c"))
    assert closed(talk.wait(1)) == ("channel", 406, TIMED_OUT.format(1, -1))


@pytest.mark.parametrize("method", [Basic.Get(0, "q"), Basic.Consume(0, "q", "c")], ids=["get", "cancelled"])
def test_4_3_closes_the_channel_where_there_is_no_consumer_to_tell(method: Any) -> None:
    talk = talk_with("4.3", {**QUORUM, "x-consumer-timeout": 1000})
    talk.say(1, method, Basic.Cancel("c"))
    assert closed(talk.wait(1)) == ("channel", 406, TIMED_OUT.format(1, -1))
    assert only(talk.say(2, Basic.Get(0, "q")), Basic.GetOk).redelivered is True


def test_4_3_asks_the_consumer_before_the_queue_how_long() -> None:
    talk = talk_with("4.3", {**QUORUM, "x-consumer-timeout": 9000})
    talk.say(1, Basic.Consume(0, "q", "c", arguments={"x-consumer-timeout": 1000}))
    assert methods(talk.wait(1)) == ["Basic.Cancel"]


def test_4_3_waits_for_consumers_of_classic_queues_for_ever() -> None:
    talk = talk_with("4.3")
    talk.say(1, Basic.Consume(0, "q", "c"))
    assert talk.wait(10 * HALF_AN_HOUR) == []


def test_4_3_forgets_the_time_with_the_channel() -> None:
    talk = talk_with("4.3", QUORUM)
    talk.say(1, Basic.Consume(0, "q", "c"))
    talk.core.lost()
    assert talk.node.timeline.next_due is None


@pytest.mark.parametrize(
    ("arguments", "value", "text"),
    [
        (QUORUM, "a", "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/': \"expected integer, got longstr\""),
        (QUORUM, -1, "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/': {value_negative,-1}"),
        ({}, 5, "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"),
    ],
)
def test_4_3_knows_the_argument_of_consumers(arguments: FieldTable, value: object, text: str) -> None:
    talk = talk_with("4.3", arguments)
    consume = Basic.Consume(0, "q", "c", arguments={"x-consumer-timeout": value})  # type: ignore[dict-item]  # wrong on purpose
    assert closed(talk.say(1, consume))[2] == f"PRECONDITION_FAILED - {text}"
    assert methods(talk_with("3.10", arguments).say(1, consume))[0] == "Basic.ConsumeOk"
