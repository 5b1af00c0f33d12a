"""Consuming and settling: order, turns, prefetch, and what ack, nack, reject, recover and a lost channel do."""

from typing import Any

import pytest
from pamqp import frame
from pamqp.commands import Basic, Channel, Confirm, Connection, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import NEWEST
from pipeline.embedded.wire.outbox import ENOUGH, TOO_MUCH
from tests.embedded.conversation import CAPABILITIES, Talk, closed, deliveries, methods, new_node, only, publishing


def with_messages(count: int, *channels: int, version: str = NEWEST) -> Talk:
    """A queue `q` with the messages 0, 1, 2..."""
    talk = Talk(new_node(rabbitmq_version=version)).open(*(channels or (1,)))
    talk.say(1, Queue.Declare(0, "q", durable=True))
    for number in range(count):
        talk.publish(1, "q", str(number).encode())
    return talk


def bodies(heard: list[Any]) -> list[bytes]:
    return [body for *_, body in deliveries(heard)]


# Order and turns


def test_messages_are_delivered_in_the_order_they_came() -> None:
    talk = with_messages(3)
    heard = talk.say(1, Basic.Consume(0, "q", "c"))
    assert methods(heard)[0] == "Basic.ConsumeOk"
    assert deliveries(heard) == [("c", 1, False, b"0"), ("c", 2, False, b"1"), ("c", 3, False, b"2")]
    assert deliveries(talk.publish(1, "q", b"3")) == [("c", 4, False, b"3")]


def test_consumers_take_turns() -> None:
    talk = with_messages(0)
    talk.say(1, Basic.Consume(0, "q", "a"), Basic.Consume(0, "q", "b"), Basic.Consume(0, "q", "c"))
    heard = [each for number in range(7) for each in talk.publish(1, "q", str(number).encode())]
    assert "".join(tag for tag, *_ in deliveries(heard)) == "abcabca"


def test_who_has_no_credit_is_passed_over_and_joins_at_the_end() -> None:
    talk = with_messages(0)
    talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "q", "one"), Basic.Qos(0, 0), Basic.Consume(0, "q", "all"))
    heard = [each for number in range(4) for each in talk.publish(1, "q", str(number).encode())]
    assert [(tag, body) for tag, _, _, body in deliveries(heard)] == [
        ("one", b"0"),
        ("all", b"1"),
        ("all", b"2"),
        ("all", b"3"),
    ]
    talk.say(1, Basic.Ack(1))
    heard = [each for number in range(2) for each in talk.publish(1, "q", str(number).encode())]
    assert [tag for tag, *_ in deliveries(heard)] == ["all", "one"]


# Prefetch


def test_prefetch_bounds_what_one_consumer_has_in_hand() -> None:
    talk = with_messages(5)
    talk.say(1, Basic.Qos(0, 2))
    assert bodies(talk.say(1, Basic.Consume(0, "q", "c"))) == [b"0", b"1"]
    assert bodies(talk.say(1, Basic.Ack(1))) == [b"2"]
    assert bodies(talk.say(1, Basic.Ack(3, True))) == [b"3", b"4"]


def test_qos_is_for_the_consumers_to_come() -> None:
    talk = with_messages(4)
    assert bodies(talk.say(1, Basic.Consume(0, "q", "free"), Basic.Qos(0, 1))) == [b"0", b"1", b"2", b"3"]
    assert bodies(talk.publish(1, "q", b"4")) == [b"4"]


def test_global_qos_bounds_the_channel_and_those_that_are_there() -> None:
    talk = with_messages(0, version="3.10")
    talk.say(1, Queue.Declare(0, "other", durable=True), Basic.Consume(0, "q", "a"), Basic.Consume(0, "other", "b"))
    talk.say(1, Basic.Qos(0, 2, True))
    heard = talk.publish(1, "q", b"0") + talk.publish(1, "other", b"1") + talk.publish(1, "other", b"2")
    assert bodies(heard) == [b"0", b"1"]
    # an acknowledgement of one consumer makes room for the other
    assert bodies(talk.say(1, Basic.Ack(1))) == [b"2"]
    talk.publish(1, "q", b"3")
    assert bodies(talk.say(1, Basic.Qos(0, 0, True))) == [b"3"]


def test_the_newest_takes_global_qos_for_each_consumer() -> None:
    talk = with_messages(4)
    assert bodies(talk.say(1, Basic.Qos(0, 1, True), Basic.Consume(0, "q", "a"))) == [b"0"]
    assert bodies(talk.say(1, Basic.Consume(0, "q", "b"))) == [b"1"]
    quorum: FieldTable = {"x-queue-type": "quorum"}
    talk.say(1, Queue.Declare(0, "qq", durable=True, arguments=quorum))
    assert methods(talk.say(1, Basic.Consume(0, "qq", "c"))) == ["Basic.ConsumeOk"]


def test_qos_for_each_consumer_ends_the_one_for_the_channel() -> None:
    talk = with_messages(4, version="3.10")
    assert bodies(talk.say(1, Basic.Qos(0, 1, True), Basic.Consume(0, "q", "a"))) == [b"0"]
    assert bodies(talk.say(1, Basic.Qos(0, 2))) == [b"1", b"2", b"3"]


def test_prefetch_does_not_count_for_no_ack_nor_for_get() -> None:
    talk = with_messages(4)
    talk.say(1, Basic.Qos(0, 1))
    talk.say(1, Basic.Get(0, "q"))
    talk.say(1, Basic.Get(0, "q"))
    assert bodies(talk.say(1, Basic.Consume(0, "q", "c"))) == [b"2"]
    assert bodies(talk.say(1, Basic.Consume(0, "q", "auto", no_ack=True))) == [b"3"]
    assert bodies(talk.publish(1, "q", b"4")) == [b"4"]
    assert talk.node.queue_depths() == {"q": 3}


def test_a_prefetch_size_is_not_implemented() -> None:
    assert closed(Talk().open().say(1, Basic.Qos(5, 1))) == (
        "connection",
        540,
        "NOT_IMPLEMENTED - prefetch_size!=0 (5)",
    )


def test_a_quorum_queue_is_not_consumed_under_global_qos() -> None:
    talk = Talk(new_node(rabbitmq_version="3.10")).open()
    quorum: FieldTable = {"x-queue-type": "quorum"}
    talk.say(1, Queue.Declare(0, "qq", durable=True, arguments=quorum), Basic.Qos(0, 5, True))
    text = "NOT_IMPLEMENTED - queue 'qq' in vhost '/' does not support global qos"
    assert closed(talk.say(1, Basic.Consume(0, "qq"))) == ("connection", 540, text)


# Slow peers


def test_deliveries_wait_for_a_peer_that_does_not_read_and_go_on_when_it_does() -> None:
    talk = Talk().open()
    big = b"x" * 60_000
    talk.say(1, Queue.Declare(0, "q", durable=True))
    for _ in range(20):
        talk.publish(1, "q", big)
    # When the consumer starts and nothing is read
    talk.core.receive(_octets(Basic.Consume(0, "q", "c", no_ack=True)))
    # Then about as much as the bound is waiting, and the rest is still in the queue
    assert ENOUGH < talk.core.outbox.size < ENOUGH + 2 * len(big)
    assert talk.node.queue_depths()["q"] > 10
    # And each time it is read, some more come, until all are there
    read = 0
    while sizes := [len(each.value) for _, each in talk.heard() if hasattr(each, "value")]:
        read += len(sizes)
    assert read == 20
    assert talk.node.queue_depths() == {"q": 0}


def test_who_does_not_read_the_answers_is_not_listened_to() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    talk.publish(1, "q", b"x" * 100_000)
    get_and_give_back = _octets(Basic.Get(0, "q")) + _octets(Basic.Nack(0, True, True))
    for _ in range(TOO_MUCH // 100_000 + 1):
        talk.core.receive(get_and_give_back)
    assert not talk.core.wants_octets
    talk.heard()
    assert talk.core.wants_octets


def _octets(method: Any) -> bytes:
    return frame.marshal(method, 1)


# Ack


def test_ack_takes_one_or_all_up_to_it() -> None:
    talk = with_messages(5)
    talk.say(1, Basic.Consume(0, "q", "c"), Basic.Ack(2))
    assert talk.node.queue_depths() == {"q": 4}
    talk.say(1, Basic.Ack(4, True))
    assert talk.node.queue_depths() == {"q": 1}
    talk.say(1, Basic.Ack(0, True))
    assert talk.node.queue_depths() == {"q": 0}
    assert methods(talk.say(1, Basic.Ack(0, True), Basic.Qos(0, 1))) == ["Basic.QosOk"]


@pytest.mark.parametrize(
    "method",
    [Basic.Ack(7), Basic.Ack(7, True), Basic.Nack(7), Basic.Nack(7, True), Basic.Reject(7)],
)
def test_an_unknown_delivery_tag_closes_the_channel_and_all_come_back(method: Any) -> None:
    talk = with_messages(2)
    talk.say(1, Basic.Consume(0, "q", "c"))
    text = "PRECONDITION_FAILED - unknown delivery tag 7"
    assert closed(talk.say(1, method)) == ("channel", 406, text)
    assert talk.say(1, Basic.Ack(1)) == []
    talk.say(1, Channel.CloseOk())
    assert methods(talk.say(1, Channel.Open())) == ["Channel.OpenOk"]
    assert deliveries(talk.say(1, Basic.Consume(0, "q", "c"))) == [("c", 1, True, b"0"), ("c", 2, True, b"1")]


def test_a_delivery_is_settled_once() -> None:
    talk = with_messages(1)
    talk.say(1, Basic.Consume(0, "q", "c"), Basic.Ack(1))
    assert closed(talk.say(1, Basic.Ack(1)))[2] == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_tag_0_alone_is_no_delivery() -> None:
    assert closed(Talk().open().say(1, Basic.Ack(0)))[2] == "PRECONDITION_FAILED - unknown delivery tag 0"


def test_delivery_tags_belong_to_their_channel() -> None:
    talk = with_messages(2, 1, 2)
    talk.say(1, Basic.Get(0, "q"))
    assert only(talk.say(2, Basic.Get(0, "q")), Basic.GetOk).delivery_tag == 1
    assert closed(talk.say(2, Basic.Ack(2)))[1] == 406


# Back to the queue


def test_nack_puts_back_to_the_old_place_as_redelivered() -> None:
    talk = with_messages(4)
    talk.say(1, Basic.Qos(0, 3), Basic.Consume(0, "q", "c"))
    # 1 goes back while 3 is still waiting behind it
    assert deliveries(talk.say(1, Basic.Nack(2))) == [("c", 4, True, b"1")]
    assert deliveries(talk.say(1, Basic.Ack(1))) == [("c", 5, False, b"3")]


def test_messages_put_back_one_by_one_stand_in_their_old_order() -> None:
    talk = with_messages(5)
    for _ in range(4):
        talk.say(1, Basic.Get(0, "q"))
    for tag in (3, 1, 4, 2):
        talk.say(1, Basic.Reject(tag, True))
    assert talk.bodies(1, "q") == [b"0", b"1", b"2", b"3", b"4"]


def test_reject_without_requeue_drops_where_there_is_no_dead_letter_exchange() -> None:
    talk = with_messages(2)
    talk.say(1, Basic.Get(0, "q"), Basic.Reject(1, False))
    assert talk.bodies(1, "q") == [b"1"]


def test_nack_of_many_goes_back_at_once() -> None:
    talk = with_messages(4)
    for _ in range(3):
        talk.say(1, Basic.Get(0, "q"))
    talk.say(1, Basic.Nack(2, True, True))
    assert talk.bodies(1, "q") == [b"0", b"1", b"3"]
    talk.say(1, Basic.Nack(0, True, True))
    assert talk.bodies(1, "q") == [b"2"]


def test_recover_gives_back_everything_and_answers_first() -> None:
    talk = with_messages(2)
    talk.say(1, Basic.Consume(0, "q", "c"))
    heard = talk.say(1, Basic.Recover(True))
    assert methods(heard)[0] == "Basic.RecoverOk"
    assert deliveries(heard) == [("c", 3, True, b"0"), ("c", 4, True, b"1")]
    with pytest.warns(DeprecationWarning):
        old = Basic.RecoverAsync(True)
    assert methods(talk.say(1, old)) == ["Basic.Deliver", "Basic.Deliver"]
    text = "NOT_IMPLEMENTED - requeue=false"
    assert closed(talk.say(1, Basic.Recover(False))) == ("connection", 540, text)


@pytest.mark.parametrize("end", ["channel.close", "connection.close", "lost"])
def test_all_that_was_in_hand_comes_back_in_order_for_others(end: str) -> None:
    # Given one connection with messages in hand on two channels, and another that waits for work
    talk = with_messages(6, 1, 2)
    talk.say(1, Basic.Qos(0, 2), Basic.Consume(0, "q", "first"))
    talk.say(2, Basic.Qos(0, 2), Basic.Consume(0, "q", "second"))
    other = Talk(talk.node).open()
    # When the first one ends
    if end == "channel.close":
        assert methods(talk.say(2, Basic.Cancel("second"), Channel.Close(200, "", 0, 0)))[-1] == "Channel.CloseOk"
        talk.say(1, Channel.Close(200, "", 0, 0))
    elif end == "connection.close":
        talk.say(0, Connection.Close(200, "", 0, 0))
    else:
        talk.core.lost()
        talk.core.lost()
    # Then the other gets all of it, in order, and sees what had been delivered before
    heard = deliveries(other.say(1, Basic.Consume(0, "q", "c")))
    assert [body for *_, body in heard] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert [redelivered for _, _, redelivered, _ in heard] == [True] * 4 + [False] * 2
    assert talk.node.queue_depths() == {"q": 6}


def test_what_comes_back_goes_to_whoever_waits() -> None:
    talk = with_messages(2)
    talk.say(1, Basic.Consume(0, "q", "c"))
    other = Talk(talk.node).open()
    other.say(1, Basic.Consume(0, "q", "d"))
    talk.core.lost()
    assert deliveries(other.heard()) == [("d", 1, True, b"0"), ("d", 2, True, b"1")]
    assert other.woken


def test_settling_after_the_queue_is_gone_is_fine() -> None:
    talk = with_messages(3, 1, 2)
    for _ in range(3):
        talk.say(1, Basic.Get(0, "q"))
    talk.say(2, Queue.Delete(0, "q"))
    assert methods(talk.say(1, Basic.Ack(1), Basic.Nack(2), Basic.Reject(3, False), Basic.Qos(0, 1))) == ["Basic.QosOk"]
    assert talk.node.queue_depths() == {}


# Consumers


def test_cancel_keeps_what_is_in_hand() -> None:
    talk = with_messages(1)
    talk.say(1, Basic.Consume(0, "q", "c"))
    assert only(talk.say(1, Basic.Cancel("c")), Basic.CancelOk).consumer_tag == "c"
    assert talk.publish(1, "q", b"1") == []
    assert talk.node.queue_depths() == {"q": 2}
    talk.say(1, Basic.Ack(1))
    assert talk.node.queue_depths() == {"q": 1}
    assert methods(talk.say(1, Basic.Cancel("c"), Basic.Cancel("never was"))) == ["Basic.CancelOk"] * 2


def test_the_server_makes_consumer_tags_and_refuses_to_use_one_twice() -> None:
    talk = with_messages(0)
    tag = only(talk.say(1, Basic.Consume(0, "q", "")), Basic.ConsumeOk).consumer_tag
    assert tag.startswith("amq.ctag-")
    text = f"NOT_ALLOWED - attempt to reuse consumer tag '{tag}'"
    assert closed(talk.say(1, Basic.Consume(0, "q", tag))) == ("connection", 530, text)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_an_exclusive_consumer_is_alone(first: bool, second: bool) -> None:
    talk = with_messages(0, 1, 2)
    talk.say(1, Basic.Consume(0, "q", "a", exclusive=first))
    assert closed(talk.say(2, Basic.Consume(0, "q", "b", exclusive=second))) == (
        "channel",
        403,
        "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
    )


def test_a_consumer_priority_is_a_number() -> None:
    talk = with_messages(0)
    assert closed(talk.say(1, Basic.Consume(0, "q", "a", arguments={"x-priority": "high"}))) == (
        "channel",
        406,
        "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
    )


def test_a_deleted_queue_cancels_its_consumers() -> None:
    talk = with_messages(1, 1, 2)
    talk.say(1, Basic.Consume(0, "q", "c"))
    heard = talk.say(2, Queue.Delete(0, "q"))
    assert only(heard, Basic.Cancel).consumer_tag == "c"
    assert methods(talk.say(1, Basic.Ack(1), Basic.Cancel("c"))) == ["Basic.CancelOk"]


def test_a_client_that_would_not_understand_a_cancel_is_not_told() -> None:
    talk = Talk().open(1, 2, capabilities={**CAPABILITIES, "consumer_cancel_notify": False})
    talk.say(1, Queue.Declare(0, "q", durable=True), Basic.Consume(0, "q", "c"))
    assert methods(talk.say(2, Queue.Delete(0, "q"))) == ["Queue.DeleteOk"]


def test_get_tells_how_many_are_left() -> None:
    talk = with_messages(3)
    assert only(talk.say(1, Basic.Get(0, "q")), Basic.GetOk).message_count == 2
    assert only(talk.say(1, Basic.Get(0, "q", True)), Basic.GetOk).message_count == 1
    assert talk.node.queue_depths() == {"q": 2}
    talk.bodies(1, "q")
    assert methods(talk.say(1, Basic.Get(0, "q"))) == ["Basic.GetEmpty"]


# Confirms and returns


def test_confirms_count_per_channel_and_come_together() -> None:
    talk = with_messages(0, 1, 2)
    assert talk.publish(1, "q") == []
    assert methods(talk.say(1, Confirm.Select(), Confirm.Select())) == ["Confirm.SelectOk"] * 2
    assert talk.say(2, Confirm.Select(nowait=True)) == []
    ack = only(talk.publish(1, "q"), Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (1, False)
    ack = only(talk.say(1, *publishing("q"), *publishing("q"), *publishing("q")), Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (4, True)
    assert only(talk.publish(2, "q"), Basic.Ack).delivery_tag == 1


def test_a_return_comes_before_its_confirm() -> None:
    talk = Talk().open()
    talk.say(1, Confirm.Select())
    heard = talk.publish(1, "nowhere", b"back", exchange="amq.direct", mandatory=True, message_id="m")
    assert methods(heard) == ["Basic.Return", "Basic.Ack"]
    returned = only(heard, Basic.Return)
    assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
    assert (returned.exchange, returned.routing_key) == ("amq.direct", "nowhere")
    assert heard[1][1].properties.message_id == "m"
    assert heard[2][1].value == b"back"
    assert methods(talk.publish(1, "nowhere")) == ["Basic.Ack"]


def test_what_was_published_before_a_mistake_is_confirmed_before_the_channel_goes() -> None:
    talk = with_messages(0)
    talk.say(1, Confirm.Select())
    heard = talk.say(1, *publishing("q"), *publishing("k", exchange="nope"), *publishing("q"))
    assert methods(heard) == ["Basic.Ack", "Channel.Close"]
    assert closed(heard) == ("channel", 404, "NOT_FOUND - no exchange 'nope' in vhost '/'")
    assert (heard[1][1].class_id, heard[1][1].method_id) == (60, 40)
    assert talk.node.queue_depths() == {"q": 1}


def test_immediate_is_not_implemented() -> None:
    talk = Talk().open()
    frames = publishing("q")
    frames[0] = Basic.Publish(0, "", "q", False, True)
    assert closed(talk.say(1, *frames)) == ("connection", 540, "NOT_IMPLEMENTED - immediate=true")


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"user_id": "bob"}, "user_id property set to 'bob' but authenticated user was 'user'"),
        ({"expiration": "abc"}, "invalid expiration 'abc': no_integer"),
        ({"expiration": "1.5"}, "invalid expiration '1.5': {leftover_string,\".5\"}"),
        ({"expiration": "-1"}, "invalid expiration '-1': {value_negative,-1}"),
        ({"expiration": "315360000001"}, "invalid expiration '315360000001': {value_too_large,315360000001}"),
    ],
)
def test_properties_that_lie_cost_the_channel(properties: dict[str, Any], text: str) -> None:
    talk = with_messages(0)
    assert closed(talk.publish(1, "q", **properties)) == ("channel", 406, f"PRECONDITION_FAILED - {text}")
    assert talk.node.queue_depths() == {"q": 0}


def test_properties_that_are_right_pass() -> None:
    talk = with_messages(0)
    talk.publish(1, "q", b"1", user_id="user", expiration="60000")
    assert talk.bodies(1, "q") == [b"1"]


def test_flow_can_be_switched_on_only() -> None:
    talk = Talk().open()
    assert only(talk.say(1, Channel.Flow(True)), Channel.FlowOk).active is True
    assert closed(talk.say(1, Channel.Flow(False))) == ("connection", 540, "NOT_IMPLEMENTED - active=false")


def test_one_message_in_two_queues_is_settled_in_each() -> None:
    talk = Talk().open()
    for name in ("a", "b"):
        talk.say(1, Queue.Declare(0, name, durable=True), Queue.Bind(0, name, "amq.fanout", ""))
    talk.publish(1, "", b"x", exchange="amq.fanout")
    talk.say(1, Basic.Get(0, "a"), Basic.Get(0, "b"), Basic.Ack(1))
    assert talk.node.queue_depths() == {"a": 0, "b": 1}
