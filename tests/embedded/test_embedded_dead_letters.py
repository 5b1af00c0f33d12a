"""Where rejected messages go, what their history says, and what a quorum queue counts."""

from datetime import UTC, datetime
from typing import Any

from pamqp.commands import Basic, Channel, Exchange, Queue
from pamqp.common import FieldTable

from tests.embedded.conversation import Talk, headers, methods, only

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def at(talk: Talk, when: datetime) -> None:
    talk.node.timeline.time = when.timestamp()


def with_queues(**dead_letters_of: FieldTable) -> Talk:
    talk = Talk().open()
    at(talk, NOON)
    for name, arguments in dead_letters_of.items():
        talk.say(1, Queue.Declare(0, name, durable=True, arguments=arguments))
    return talk


def to_queue(name: str) -> FieldTable:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}


def reject_next(talk: Talk, queue: str) -> None:
    tag = only(talk.say(1, Basic.Get(0, queue)), Basic.GetOk).delivery_tag
    talk.say(1, Basic.Reject(tag, False))


def test_a_rejected_message_goes_to_the_dead_letter_exchange_with_its_history() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    talk.publish(1, "work", b"poison", message_id="m", headers={"mine": 1})

    reject_next(talk, "work")

    heard = talk.say(1, Basic.Get(0, "dead"))
    got = only(heard, Basic.GetOk)
    assert (got.exchange, got.routing_key, got.redelivered) == ("", "dead", False)
    assert heard[1][1].properties.message_id == "m"
    assert heard[2][1].value == b"poison"
    assert headers(heard) == {
        "mine": 1,
        "x-death": [
            {
                "count": 1,
                "reason": "rejected",
                "queue": "work",
                "time": NOON,
                "exchange": "",
                "routing-keys": ["work"],
            }
        ],
        "x-first-death-reason": "rejected",
        "x-first-death-queue": "work",
        "x-first-death-exchange": "",
    }


def test_without_a_routing_key_the_message_keeps_its_own() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "dlx"}, dead={})
    talk.say(1, Exchange.Declare(0, "dlx", "topic"), Queue.Bind(0, "dead", "dlx", "orders.#"))
    talk.say(1, Queue.Bind(0, "work", "amq.topic", "orders.new"))
    talk.publish(1, "orders.new", exchange="amq.topic")
    reject_next(talk, "work")
    got = talk.say(1, Basic.Get(0, "dead"))
    assert only(got, Basic.GetOk).routing_key == "orders.new"
    assert headers(got)["x-first-death-exchange"] == "amq.topic"


def test_the_newest_death_stands_first_and_the_first_one_is_remembered() -> None:
    talk = with_queues(work=to_queue("second"), second=to_queue("dead"), dead={})
    talk.publish(1, "work")
    reject_next(talk, "work")
    at(talk, NOON.replace(hour=13))
    reject_next(talk, "second")

    found: dict[str, Any] = headers(talk.say(1, Basic.Get(0, "dead")))

    assert [(death["queue"], death["count"], death["time"].hour) for death in found["x-death"]] == [
        ("second", 1, 13),
        ("work", 1, 12),
    ]
    assert found["x-first-death-queue"] == "work"


def test_dying_again_in_the_same_queue_for_the_same_reason_counts_on() -> None:
    talk = with_queues(work=to_queue("other"), other=to_queue("work"))
    talk.publish(1, "work")
    for queue in ("work", "other", "work"):
        reject_next(talk, queue)
        at(talk, NOON.replace(hour=14))
    found: dict[str, Any] = headers(talk.say(1, Basic.Get(0, "other")))
    assert [(death["queue"], death["count"], death["time"].hour) for death in found["x-death"]] == [
        ("work", 2, 12),
        ("other", 1, 14),
    ]


def test_a_rejection_never_counts_as_a_circle() -> None:
    talk = with_queues(work=to_queue("work"))
    talk.publish(1, "work")
    for _ in range(3):
        reject_next(talk, "work")
    assert headers(talk.say(1, Basic.Get(0, "work")))["x-death"][0]["count"] == 3


def test_the_expiration_is_taken_off_and_told() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    talk.publish(1, "work", expiration="60000")
    reject_next(talk, "work")
    heard = talk.say(1, Basic.Get(0, "dead"))
    assert heard[1][1].properties.expiration in (None, "")
    assert headers(heard)["x-death"][0]["original-expiration"] == "60000"


def test_a_history_that_is_none_is_started_anew() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    talk.publish(1, "work", headers={"x-death": "long ago", "x-first-death-reason": "mine"})
    reject_next(talk, "work")
    found: dict[str, Any] = headers(talk.say(1, Basic.Get(0, "dead")))
    assert [death["queue"] for death in found["x-death"]] == ["work"]
    assert found["x-first-death-reason"] == "mine"
    assert "x-first-death-queue" not in found


def test_a_history_with_octets_that_are_not_text_goes_on() -> None:
    # Given an x-death of one table with a string that is not UTF-8
    table = b"\x05queueS\0\0\0\x01\xff"
    array = b"F" + len(table).to_bytes(4) + table
    field = b"\x07x-deathA" + len(array).to_bytes(4) + array
    properties = b"\x20\x00" + len(field).to_bytes(4) + field
    talk = with_queues(work=to_queue("dead"), dead={})
    header = b"\x00\x3c\x00\x00" + bytes(8) + properties
    publish = b"\x00\x3c\x00\x28\0\0\0\x04work\0"
    for kind, payload in ((1, publish), (2, header)):
        talk.raw(bytes((kind, 0, 1)) + len(payload).to_bytes(4) + payload + b"\xce")
    # When it is rejected, then it arrives with both deaths
    reject_next(talk, "work")
    found: dict[str, Any] = headers(talk.say(1, Basic.Get(0, "dead")))
    assert [death["queue"] for death in found["x-death"]] == ["work", bytearray(b"\xff")]


def test_a_dead_letter_exchange_that_is_not_there_loses_the_message() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "nope"})
    talk.publish(1, "work")
    reject_next(talk, "work")
    assert talk.node.queue_depths() == {"work": 0}


def test_dead_letters_may_go_through_an_internal_exchange() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "dlx"}, dead={})
    talk.say(1, Exchange.Declare(0, "dlx", "fanout", internal=True), Queue.Bind(0, "dead", "dlx", ""))
    talk.publish(1, "work")
    reject_next(talk, "work")
    assert talk.node.queue_depths() == {"work": 0, "dead": 1}


def test_a_dead_letter_is_delivered_at_once() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    talk.say(1, Basic.Consume(0, "dead", "undertaker"), Basic.Consume(0, "work", "worker"))
    talk.publish(1, "work")
    assert only(talk.say(1, Basic.Nack(1, False, False)), Basic.Deliver).consumer_tag == "undertaker"


# Quorum queues


def quorum(limit: int | None = None, **more: Any) -> FieldTable:
    counted: FieldTable = {} if limit is None else {"x-delivery-limit": limit}
    return {"x-queue-type": "quorum", **counted, **more}


def test_a_quorum_queue_tells_how_often_a_message_came_back() -> None:
    talk = with_queues(work=quorum())
    talk.publish(1, "work", headers={"mine": 1})
    assert headers(talk.say(1, Basic.Get(0, "work"))) == {"mine": 1}
    talk.say(1, Basic.Nack(1))
    assert headers(talk.say(1, Basic.Get(0, "work"))) == {"mine": 1, "x-delivery-count": 1}
    talk.say(1, Basic.Reject(2, True))
    talk.say(1, Basic.Consume(0, "work", "c"))
    talk.core.lost()
    other = Talk(talk.node).open()
    heard = other.say(1, Basic.Get(0, "work"))
    assert headers(heard) == {"mine": 1, "x-delivery-count": 3}
    assert only(heard, Basic.GetOk).redelivered is True


def test_a_lost_connection_is_counted_once_whoever_else_consumes_on_it() -> None:
    # Given two channels of one connection that consume from the same queue
    talk = with_queues(work=quorum())
    talk.say(2, Channel.Open())
    talk.say(1, Basic.Consume(0, "work", "a"))
    talk.publish(1, "work")
    talk.say(2, Basic.Consume(0, "work", "b"))
    # When the connection is lost, then the message does not go to the other channel first
    talk.core.lost()
    other = Talk(talk.node).open()
    assert headers(other.say(1, Basic.Get(0, "work"))) == {"x-delivery-count": 1}


def test_a_classic_queue_does_not_count() -> None:
    talk = with_queues(work={})
    talk.publish(1, "work")
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(1))
    assert headers(talk.say(1, Basic.Get(0, "work"))) == {}


def test_a_limit_of_two_is_three_deliveries_and_then_the_dead_letter_exchange() -> None:
    talk = with_queues(work=quorum(2, **to_queue("dead")), dead={})
    talk.publish(1, "work")
    talk.say(1, Basic.Consume(0, "work", "c"))
    delivered = 1
    while methods(talk.say(1, Basic.Nack(delivered))) == ["Basic.Deliver"]:
        delivered += 1
    assert delivered == 3
    found: dict[str, Any] = headers(talk.say(1, Basic.Get(0, "dead")))
    assert (found["x-death"][0]["reason"], found["x-death"][0]["count"]) == ("delivery_limit", 1)
    assert "x-delivery-count" not in found


def test_a_limit_without_a_dead_letter_exchange_drops() -> None:
    talk = with_queues(work=quorum(0))
    talk.publish(1, "work")
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(1))
    assert talk.node.queue_depths() == {"work": 0}


def test_a_circle_with_no_rejection_in_it_ends() -> None:
    # Given a queue whose worn-out messages come back to it
    talk = with_queues(work=quorum(0, **to_queue("work")))
    talk.publish(1, "work")
    # When one is worn out, then it would come back for ever, so it is dropped
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(1))
    assert talk.node.queue_depths() == {"work": 0}


def test_a_circle_with_a_rejection_in_it_goes_on() -> None:
    talk = with_queues(work=quorum(0, **to_queue("other")), other=to_queue("work"))
    talk.publish(1, "work")
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(1))
    reject_next(talk, "other")
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(3))
    assert talk.node.queue_depths() == {"work": 0, "other": 1}


def test_the_worn_out_leave_the_others_in_their_order() -> None:
    talk = with_queues(work=quorum(1, **to_queue("dead")), dead={})
    talk.publish(1, "work", b"0")
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(1))
    for number in (b"1", b"2"):
        talk.publish(1, "work", number)
    for _ in range(3):
        talk.say(1, Basic.Get(0, "work"))
    talk.say(1, Basic.Nack(0, True, True))
    assert talk.bodies(1, "work") == [b"1", b"2"]
    assert talk.bodies(1, "dead") == [b"0"]
