"""What goes on for long or comes in large numbers: letters that never rest, chains, deliveries that come back one by
one, and what those leave behind who come and go."""

from collections.abc import Callable

import pytest
from pamqp.commands import Basic, Exchange, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from pipeline.embedded.vhosts import dead_letters
from tests.embedded.conversation import Talk, closed, methods, new_node
from tests.embedded.queues import depths, get, next_headers, publish, reject_next, to_queue, with_queues

OLD, NEW = VERSIONS
DAY = 86_400_000  # milliseconds


# Dead letters


def rejected_into_a_circle() -> Talk:
    """Of two queues that keep nothing. RabbitMQ 3.10 sends it round 13,000 times a second, 4.3 drops it."""
    talk = with_queues(
        rabbitmq_version=OLD,
        work=to_queue("a"),
        a=to_queue("b", **{"x-message-ttl": 0}),
        b=to_queue("a", **{"x-message-ttl": 0}),
    )
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    return talk


def test_a_letter_that_goes_round_for_ever_leaves_time_for_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a letter that has been on its way for as long as it may
    monkeypatch.setattr(dead_letters, "MOST_AT_ONCE", 100)
    talk = rejected_into_a_circle()
    # Then all others go on, and it does when it has rested
    publish(talk, "work", b"n")
    assert depths(talk) == {"work": 1, "a": 0, "b": 0}
    talk.say(1, Queue.Delete(0, "b"), Queue.Declare(0, "b", durable=True))
    talk.wait(dead_letters.PAUSE_SECONDS)
    assert depths(talk) == {"work": 1, "a": 0, "b": 1}


def test_very_many_may_die_at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MOST_AT_ONCE", 10)
    talk = with_queues(q=to_queue("dead", **{"x-message-ttl": 1000}), dead={})
    publish(talk, "q", *[b"m"] * 25)
    talk.wait(1)
    assert depths(talk) == {"q": 0, "dead": 25}


def test_a_history_that_a_client_made_up_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    place = dead_letters._place

    def counted(death: FieldTable) -> tuple[str, str]:
        nonlocal asked
        asked += 1
        return place(death)

    monkeypatch.setattr(dead_letters, "_place", counted)
    talk = with_queues(rabbitmq_version=OLD, q=to_queue("dead", **{"x-message-ttl": 0}), dead={})
    publish(talk, "q", b"m", headers={"x-death": [{"queue": str(number)} for number in range(500)]})
    assert len(next_headers(talk, "dead")["x-death"]) == 501
    assert asked < 10 * 500


# Chains


def test_a_chain_of_auto_delete_exchanges_may_be_longer_than_the_stack_is_deep() -> None:
    talk = with_queues(q={})
    names = [f"e{number}" for number in range(400)]
    before = len(talk.node.vhosts["/"].exchanges)
    for name in names:
        talk.say(1, Exchange.Declare(0, name, "fanout", auto_delete=True))
    talk.say(1, Queue.Bind(0, "q", "e0"))
    for source, destination in zip(names[1:], names, strict=False):
        talk.say(1, Exchange.Bind(0, destination, source))
    assert methods(talk.say(1, Queue.Delete(0, "q"))) == ["Queue.DeleteOk"]
    assert len(talk.node.vhosts["/"].exchanges) == before


# Deliveries that come back


@pytest.mark.parametrize("order", [list, reversed])
def test_deliveries_that_come_back_one_by_one_stand_where_they_were(
    order: Callable[[list[int]], list[int]],
) -> None:
    talk = with_queues(q={})
    bodies = [bytes([number]) for number in range(50)]
    publish(talk, "q", *bodies)
    tags = [get(talk, "q") for _ in range(40)]
    for tag in order(tags[::2]):
        talk.say(1, Basic.Nack(tag))
    talk.say(1, Basic.Nack(0, True))  # and the others together
    assert talk.bodies(1, "q") == bodies


# What stays behind


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-message-ttl": DAY},
        {"x-queue-type": "quorum", "x-delayed-retry-type": "all", "x-delayed-retry-min": DAY},
        {
            "x-queue-type": "quorum",
            "x-message-ttl": 1,
            "x-dead-letter-strategy": "at-least-once",
            "x-dead-letter-exchange": "missing",
            "x-overflow": "reject-publish",
        },
    ],
)
def test_a_queue_that_is_deleted_leaves_nothing_due(arguments: FieldTable) -> None:
    talk = Talk(new_node(rabbitmq_version=NEW)).open()
    talk.say(1, Queue.Declare(0, "q", durable=True, arguments=arguments))
    publish(talk, "q", b"m")
    if "x-delayed-retry-type" in arguments:
        other = Talk(talk.node).open()
        other.say(1, Basic.Nack(get(other, "q")))
        other.core.lost()
    talk.wait(1)
    assert talk.node.timeline.next_due is not None
    talk.say(1, Queue.Delete(0, "q"))
    assert talk.node.timeline.next_due is None
    assert talk.node.memory.used == 0


def test_consumers_that_are_lost_with_something_in_hand_are_forgotten() -> None:
    talk = with_queues(q={"x-queue-type": "quorum", "x-delivery-limit": -1})
    publish(talk, "q", b"m")
    queue = talk.node.queue("q")
    for _ in range(20):
        other = Talk(talk.node).open()
        other.say(1, Basic.Consume(0, "q", "c"))
        other.core.lost()
    assert len(vars(queue)["_leaving"]) == 1  # the last one, until another one goes


def test_priorities_that_no_consumer_has_any_more_are_forgotten() -> None:
    talk = with_queues(q={})
    for priority in range(20):
        talk.say(1, Basic.Consume(0, "q", "c", arguments={"x-priority": priority}), Basic.Cancel("c"))
    queue = talk.node.queue("q")
    assert queue is not None
    assert vars(queue.turns)["_levels"] == []


@pytest.mark.parametrize("how", ["consume", "get"])
def test_nobody_waits_for_the_answer_to_what_came_from_a_queue_that_is_deleted(how: str) -> None:
    # As RabbitMQ 4.3, which leaves the channel open
    talk = with_queues(q={"x-queue-type": "quorum"})
    publish(talk, "q", b"m")
    talk.say(1, Basic.Consume(0, "q", "c") if how == "consume" else Basic.Get(0, "q"))
    talk.say(1, Queue.Delete(0, "q"))
    assert talk.wait(10_000) == []
    assert methods(talk.say(1, Basic.Ack(1), Basic.Qos(0, 1))) == ["Basic.QosOk"]
    assert talk.node.memory.used == 0
    assert closed(talk.say(1, Basic.Ack(1)))[1] == 406


# Limits


@pytest.mark.parametrize("limit", [{"x-max-length": 1}, {"x-max-length-bytes": 250}])
def test_what_waits_for_being_ready_again_counts_towards_the_limit(limit: FieldTable) -> None:
    # As RabbitMQ 4.3: the newer one goes, since it is all that is ready
    delayed: FieldTable = {"x-queue-type": "quorum", "x-delayed-retry-type": "all", "x-delayed-retry-min": 2000}
    talk = with_queues(q={**delayed, **limit})
    publish(talk, "q", b"a" * 150)
    talk.say(1, Basic.Nack(get(talk, "q")))
    publish(talk, "q", b"b" * 100)
    assert talk.bodies(1, "q") == []
    talk.wait(2)
    assert talk.bodies(1, "q") == [b"a" * 150]
