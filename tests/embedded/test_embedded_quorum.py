"""Quorum queues: what they count and say of it in each version, where messages stand that came back, and who counts
as a consumer."""

from typing import Any

import pytest
from pamqp.commands import Basic, Channel, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, closed, deliveries, headers, methods, only
from tests.embedded.queues import (
    depths,
    get,
    next_headers,
    publish,
    reasons,
    reject_next,
    to_queue,
    with_queues,
)

OLD, NEW = VERSIONS


def quorum(limit: int | None = None, **more: Any) -> FieldTable:
    counted: FieldTable = {} if limit is None else {"x-delivery-limit": limit}
    return {"x-queue-type": "quorum", **counted, **more}


def give_back(talk: Talk, tag: int, how: str) -> Talk:
    """In one of the ways there are; who goes on."""
    match how:
        case "nack":
            talk.say(1, Basic.Nack(tag))
        case "reject":
            talk.say(1, Basic.Reject(tag, True))
        case "recover":
            talk.say(1, Basic.Recover(True))
        case "lost":
            talk.core.lost()
            return Talk(talk.node).open()
    return talk


WAYS = ("nack", "reject", "recover", "lost")


# What it tells


def test_version_3_10_tells_how_often_a_message_came_back() -> None:
    talk = with_queues(rabbitmq_version=OLD, work=quorum())
    publish(talk, "work", b"m", headers={"mine": 1})
    for count, how in enumerate(WAYS):
        heard = talk.say(1, Basic.Get(0, "work"))
        assert headers(heard) == {"mine": 1, "x-delivery-count": count}
        got = only(heard, Basic.GetOk)
        assert got.redelivered is (count > 0)
        talk = give_back(talk, got.delivery_tag, how)


def test_to_consumers_it_tells_only_what_is_worth_telling() -> None:
    talk = with_queues(rabbitmq_version=OLD, work=quorum())
    talk.say(1, Basic.Consume(0, "work", "c"))
    assert headers(talk.publish(1, "work")) == {}
    assert headers(talk.say(1, Basic.Nack(1))) == {"x-delivery-count": 1}


def test_version_4_tells_failures_and_all_returns_apart() -> None:
    talk = with_queues(work=quorum())
    publish(talk, "work", b"m")
    told = []
    for how in WAYS:
        heard = talk.say(1, Basic.Get(0, "work"))
        told.append(headers(heard))
        talk = give_back(talk, only(heard, Basic.GetOk).delivery_tag, how)
    assert [*told, next_headers(talk, "work")] == [
        {},
        {"x-acquired-count": 1},
        {"x-acquired-count": 2, "x-delivery-count": 1},
        {"x-acquired-count": 3, "x-delivery-count": 1},
        {"x-acquired-count": 4, "x-delivery-count": 2},
    ]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_since_4_a_quorum_queue_goes_on_counting_what_failed_in_the_queue_before(kind: str) -> None:
    talk = with_queues(work=to_queue("dead", **{"x-queue-type": kind}), dead=quorum())
    publish(talk, "work", b"m")
    talk.say(1, Basic.Reject(get(talk, "work"), True))
    reject_next(talk, "work")
    heard = talk.say(1, Basic.Get(0, "dead"))
    assert only(heard, Basic.GetOk).redelivered is True
    counts = {name: value for name, value in headers(heard).items() if name.endswith("-count")}
    assert counts == {"x-acquired-count": 2, "x-delivery-count": 2}


def test_a_classic_queue_tells_nothing() -> None:
    talk = with_queues(work={})
    publish(talk, "work", b"m")
    talk.say(1, Basic.Get(0, "work"), Basic.Nack(1))
    assert next_headers(talk, "work") == {}


def test_a_lost_connection_is_counted_once_whoever_else_consumes_on_it() -> None:
    # Given two channels of one connection that consume from the same queue
    talk = with_queues(rabbitmq_version=OLD, work=quorum())
    talk.say(2, Channel.Open())
    talk.say(1, Basic.Consume(0, "work", "a"))
    publish(talk, "work", b"m")
    talk.say(2, Basic.Consume(0, "work", "b"))
    # When the connection is lost, then the message does not go to the other channel first
    talk.core.lost()
    assert next_headers(Talk(talk.node).open(), "work") == {"x-delivery-count": 1}


# Where they stand that came back


def order_after(version: str, limit: int | None, how: str, *tags: int) -> list[bytes]:
    talk = with_queues(rabbitmq_version=version, work=quorum(limit))
    publish(talk, "work", b"1", b"2", b"3", b"4")
    for _ in range(3):
        get(talk, "work")
    for tag in tags:
        talk = give_back(talk, tag, how)
    return talk.bodies(1, "work")


def test_what_came_back_goes_out_first_in_the_order_it_came_back() -> None:
    assert order_after(OLD, 5, "nack", 2, 1) == [b"2", b"1", b"4"]
    assert order_after(NEW, 5, "nack", 2, 1) == [b"2", b"1", b"4"]
    assert order_after(NEW, -1, "nack", 2, 1) == [b"2", b"1", b"4"]


def test_in_3_10_without_a_limit_it_stands_at_the_end() -> None:
    assert order_after(OLD, None, "nack", 2, 1) == [b"4", b"2", b"1"]
    assert order_after(OLD, None, "recover", 0) == [b"4", b"1", b"2", b"3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_lost_channel_had_stands_in_front(version: str) -> None:
    assert order_after(version, None, "lost", 0) == [b"1", b"2", b"3", b"4"]


# The delivery limit


def deliveries_until_gone(talk: Talk, how: str) -> int:
    publish(talk, "work", b"m")
    for count in range(1, 40):
        talk = give_back(talk, get(talk, "work"), how)
        if not depths(talk)["work"]:
            return count
    return 0


@pytest.mark.parametrize(
    ("version", "limit", "how", "count"),
    [
        *((OLD, 2, how, 3) for how in WAYS),
        (OLD, 0, "nack", 1),
        (OLD, None, "reject", 0),
        (OLD, -1, "nack", 1),  # dropped at once, so it is in RabbitMQ 3.10
        (NEW, 2, "reject", 3),
        (NEW, 2, "lost", 3),
        (NEW, 2, "nack", 0),
        (NEW, 2, "recover", 0),
        (NEW, None, "reject", 21),
        (NEW, -1, "reject", 0),
    ],
)
def test_how_often_a_message_may_come_back(version: str, limit: int | None, how: str, count: int) -> None:
    talk = with_queues(rabbitmq_version=version, work=quorum(limit, **to_queue("dead")), dead={})
    assert deliveries_until_gone(talk, how) == count
    if count:
        assert reasons(next_headers(Talk(talk.node).open(), "dead")) == [("work", "delivery_limit", 1)]


def test_the_worn_out_leave_the_others_in_their_order() -> None:
    talk = with_queues(work=quorum(1, **to_queue("dead")), dead={})
    publish(talk, "work", b"0")
    talk.say(1, Basic.Reject(get(talk, "work"), True))
    publish(talk, "work", b"1", b"2")
    talk.say(1, Basic.Consume(0, "work", "c"))
    talk = give_back(talk, 0, "lost")
    assert talk.bodies(1, "work") == [b"1", b"2"]
    assert talk.bodies(1, "dead") == [b"0"]


def test_a_worn_out_message_may_begin_anew_where_it_was_rejected_on_the_way() -> None:
    talk = with_queues(rabbitmq_version=OLD, work=quorum(0, **to_queue("other")), other=to_queue("work"))
    publish(talk, "work", b"m")
    talk.say(1, Basic.Nack(get(talk, "work")))
    reject_next(talk, "other")
    talk.say(1, Basic.Nack(get(talk, "work")))
    assert depths(talk) == {"work": 0, "other": 1}


def test_a_worn_out_message_does_not_come_back_to_its_queue() -> None:
    talk = with_queues(rabbitmq_version=OLD, work=quorum(0, **to_queue("work")))
    publish(talk, "work", b"m")
    talk.say(1, Basic.Nack(get(talk, "work")))
    assert depths(talk) == {"work": 0}


# Priorities of messages


def test_since_4_there_are_32_strict_levels_of_messages() -> None:
    order = {OLD: [b"none", b"40", b"31", b"4", b"3", b"5"], NEW: [b"40", b"31", b"5", b"none", b"4", b"3"]}
    for version in VERSIONS:
        talk = with_queues(rabbitmq_version=version, work=quorum())
        publish(talk, "work", b"none")
        for priority in (40, 31, 4, 3, 5):
            publish(talk, "work", b"%d" % priority, priority=priority)
        assert talk.bodies(1, "work") == order[version]


def test_what_came_back_goes_before_a_higher_priority() -> None:
    talk = with_queues(work=quorum())
    publish(talk, "work", b"low", priority=1)
    tag = get(talk, "work")
    publish(talk, "work", b"high", priority=9)
    talk.say(1, Basic.Nack(tag))
    assert talk.bodies(1, "work") == [b"low", b"high"]


@pytest.mark.parametrize(("version", "left"), [(OLD, 2), (NEW, 1)])
def test_the_heads_of_all_levels_expire(version: str, left: int) -> None:
    talk = with_queues(rabbitmq_version=version, work=quorum())
    publish(talk, "work", b"high", priority=9)
    publish(talk, "work", b"low", expiration="100")
    talk.wait(0.1)
    assert depths(talk) == {"work": left}


# Consumers


def consumer_count(talk: Talk) -> int:
    count = only(talk.say(1, Queue.Declare(0, "work", passive=True)), Queue.DeclareOk).consumer_count
    assert isinstance(count, int)
    return count


def test_who_has_something_in_hand_counts_as_a_consumer() -> None:
    talk = with_queues(work=quorum())
    publish(talk, "work", b"1", b"2")
    tag = get(talk, "work")
    assert consumer_count(talk) == 1
    talk.say(1, Basic.Consume(0, "work", "c"), Basic.Cancel("c"))
    assert consumer_count(talk) == 2
    talk.say(1, Basic.Ack(tag))
    assert consumer_count(talk) == 1
    talk.say(1, Basic.Nack(tag + 1))
    assert consumer_count(talk) == 0


def test_it_knows_no_exclusive_consumers() -> None:
    talk = with_queues(work=quorum())
    talk.say(1, Basic.Consume(0, "work", "a", exclusive=True))
    assert methods(talk.say(1, Basic.Consume(0, "work", "b", exclusive=True))) == ["Basic.ConsumeOk"]


def test_a_consumer_without_prefetch_has_2000_in_hand_at_most() -> None:
    talk = with_queues(work=quorum(), classic={})
    talk.say(1, Basic.Consume(0, "work", "c"), Basic.Consume(0, "classic", "d"))
    publish(talk, "work", *[b"x"] * 2_001)
    assert depths(talk) == {"work": 2_001, "classic": 0}
    assert len(talk.node.vhosts["/"].queues["work"].ready) == 1
    assert [body for _, _, _, body in deliveries(talk.say(1, Basic.Ack(1)))] == [b"x"]


@pytest.mark.parametrize(("version", "word"), [(OLD, "quorum"), (NEW, '<<"quorum">>')])
def test_basic_get_and_a_single_active_consumer_exclude_each_other(version: str, word: str) -> None:
    talk = with_queues(rabbitmq_version=version, work=quorum(**{"x-single-active-consumer": True}))
    assert closed(talk.say(1, Basic.Get(0, "work"))) == (
        "channel",
        405,
        "RESOURCE_LOCKED - cannot obtain access to locked queue 'work' in vhost '/'. basic.get operations are not "
        f"supported by {word} queues with single active consumer",
    )
