"""Publisher confirms with refusals: which messages are nacked, in which order, and in how few methods."""

from typing import Any

from pamqp.commands import Basic, Channel, Confirm, Queue
from pamqp.common import FieldTable

from tests.embedded.conversation import Seen, Talk, methods, publishing

FULL: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}


def with_a_full_queue(*channels: int) -> Talk:
    """`full` has room for nothing more, `free` for everything; both are bound to amq.fanout."""
    talk = Talk().open(*channels)
    talk.say(1, Queue.Declare(0, "full", durable=True, arguments=FULL), Queue.Declare(0, "free", durable=True))
    talk.publish(1, "full")
    talk.say(1, Queue.Bind(0, "full", "amq.fanout", ""), Queue.Bind(0, "free", "amq.fanout", ""))
    talk.say(1, Confirm.Select())
    return talk


def confirms(seen: list[Seen]) -> list[tuple[str, int | None, bool]]:
    return [
        ("nack" if isinstance(each, Basic.Nack) else "ack", each.delivery_tag, bool(each.multiple))
        for _, each in seen
        if isinstance(each, Basic.Ack | Basic.Nack)
    ]


def to(*queues: str) -> list[Any]:
    return [each for queue in queues for each in publishing(queue)]


def test_a_message_that_a_queue_does_not_take_is_nacked() -> None:
    talk = with_a_full_queue()
    assert confirms(talk.publish(1, "full")) == [("nack", 1, False)]
    assert confirms(talk.publish(1, "free")) == [("ack", 2, False)]
    assert talk.node.queue_depths() == {"full": 1, "free": 1}


def test_one_queue_that_refuses_is_enough_and_the_others_have_it() -> None:
    talk = with_a_full_queue()
    assert confirms(talk.publish(1, "", exchange="amq.fanout")) == [("nack", 1, False)]
    assert talk.node.queue_depths() == {"full": 1, "free": 1}


def test_it_is_neither_unroutable_nor_returned() -> None:
    talk = with_a_full_queue()
    assert methods(talk.publish(1, "full", mandatory=True)) == ["Basic.Nack"]


def test_acks_and_nacks_come_in_order_and_together_where_they_may() -> None:
    talk = with_a_full_queue()
    heard = talk.say(1, *to("free", "free", "full", "free", "full", "full", "full", "free", "free"))
    assert confirms(heard) == [
        ("ack", 2, True),
        ("nack", 3, False),
        ("ack", 4, False),
        ("nack", 7, True),
        ("ack", 9, True),
    ]
    assert confirms(talk.say(1, *to("full", "full"))) == [("nack", 11, True)]
    assert confirms(talk.say(1, *to("free", "free"))) == [("ack", 13, True)]


def test_each_channel_has_its_own() -> None:
    talk = with_a_full_queue(1, 2)
    talk.say(2, Confirm.Select())
    assert confirms(talk.say(1, *to("free", "full"))) == [("ack", 1, False), ("nack", 2, False)]
    assert confirms(talk.say(2, *to("full", "free"))) == [("nack", 1, False), ("ack", 2, False)]


def test_room_may_come_between_two_messages() -> None:
    talk = with_a_full_queue()
    heard = talk.say(1, *to("full"), Basic.Get(0, "full", True), *to("full", "full"))
    assert confirms(heard) == [("nack", 1, False), ("ack", 2, False), ("nack", 3, False)]


def test_without_confirms_nobody_hears_of_it() -> None:
    talk = with_a_full_queue(1, 2)
    assert talk.publish(2, "full") == []
    assert talk.node.queue_depths() == {"full": 1, "free": 0}


def test_a_queue_that_was_deleted_takes_nothing_and_refuses_nothing() -> None:
    talk = with_a_full_queue()
    heard = talk.say(1, *to("full"), Queue.Delete(0, "full"), *to("full"))
    assert confirms(heard) == [("nack", 1, False), ("ack", 2, False)]


def test_what_is_refused_in_a_step_is_told_before_the_channel_goes() -> None:
    talk = with_a_full_queue()
    heard = talk.say(1, *to("free", "full"), Basic.Ack(7))
    assert methods(heard) == ["Basic.Ack", "Basic.Nack", "Channel.Close"]
    heard = talk.say(1, Channel.CloseOk(), Channel.Open(), Confirm.Select(), *to("full"), Channel.Close(200, "", 0, 0))
    assert methods(heard) == ["Channel.OpenOk", "Confirm.SelectOk", "Basic.Nack", "Channel.CloseOk"]
