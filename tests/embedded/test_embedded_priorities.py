"""Who and what comes first: priorities of messages, priorities of consumers, the single active consumer."""

from typing import Any

import pytest
from pamqp.commands import Basic, Channel, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, closed, deliveries, methods
from tests.embedded.queues import depths, get, publish, with_queues

KINDS = ("classic", "quorum")
OLD, NEW = VERSIONS

# Messages


def test_the_highest_priority_goes_out_first_and_more_than_the_highest_counts_as_that() -> None:
    talk = with_queues(work={"x-max-priority": 3})
    publish(talk, "work", b"none")
    for priority in (9, 3, 1, 0):
        publish(talk, "work", b"%d" % priority, priority=priority)
    assert talk.bodies(1, "work") == [b"9", b"3", b"1", b"none", b"0"]


def test_without_levels_a_priority_means_nothing() -> None:
    talk = with_queues(work={})
    publish(talk, "work", b"low")
    publish(talk, "work", b"high", priority=9)
    assert talk.bodies(1, "work") == [b"low", b"high"]


def test_what_comes_back_stands_at_its_place_within_its_level() -> None:
    talk = with_queues(work={"x-max-priority": 3})
    for body, priority in ((b"a", 1), (b"b", 1), (b"c", 2), (b"d", 1)):
        publish(talk, "work", body, priority=priority)
    for _ in range(3):
        get(talk, "work")
    publish(talk, "work", b"e", priority=2)
    talk.say(1, Basic.Nack(2), Basic.Nack(3), Basic.Nack(1))
    assert talk.bodies(1, "work") == [b"c", b"e", b"a", b"b", b"d"]


def test_a_full_queue_drops_the_oldest_of_the_highest_priority() -> None:
    # That is how it is: the head of the queue goes, and that is where the highest priority stands.
    talk = with_queues(work={"x-max-priority": 3, "x-max-length": 2})
    for priority in (0, 3, 1):
        publish(talk, "work", b"%d" % priority, priority=priority)
    assert talk.bodies(1, "work") == [b"1", b"0"]


def test_what_waits_behind_a_higher_level_does_not_expire() -> None:
    talk = with_queues(work={"x-max-priority": 3})
    publish(talk, "work", b"high", priority=3)
    publish(talk, "work", b"low", expiration="100")
    talk.wait(1)
    assert depths(talk) == {"work": 2}
    talk.say(1, Basic.Get(0, "work", True))
    assert depths(talk) == {"work": 0}


def test_purge_empties_all_levels() -> None:
    talk = with_queues(work={"x-max-priority": 3})
    for priority in range(4):
        publish(talk, "work", b"m", priority=priority)
    assert talk.say(1, Queue.Purge(0, "work"))[0][1].message_count == 4
    assert depths(talk) == {"work": 0}


# Consumers


def consume(talk: Talk, tag: str, prefetch: int = 0, priority: int | None = None, queue: str = "work") -> None:
    arguments: FieldTable = {} if priority is None else {"x-priority": priority}
    talk.say(1, Basic.Qos(0, prefetch), Basic.Consume(0, queue, tag, arguments=arguments))


def receivers(talk: Talk, count: int) -> list[str]:
    heard = [talk.publish(1, "work", b"m") for _ in range(count)]
    return [tag for each in heard for tag, _, _, _ in deliveries(each)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_highest_priority_is_served_while_it_has_credit(kind: str) -> None:
    talk = with_queues(work={"x-queue-type": kind})
    consume(talk, "low", 2, -1)
    consume(talk, "none", 2)
    consume(talk, "high", 2, 5)
    consume(talk, "other", 2, 5)
    assert receivers(talk, 9) == ["high", "other", "high", "other", "none", "none", "low", "low"]
    assert deliveries(talk.say(1, Basic.Ack(1)))[0][0] == "high"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_first_one_gives_back_comes_to_it_again(kind: str) -> None:
    talk = with_queues(work={"x-queue-type": kind})
    consume(talk, "high", 1, 5)
    consume(talk, "low", 5)
    assert receivers(talk, 1) == ["high"]
    assert [tag for tag, *_ in deliveries(talk.say(1, Basic.Nack(1)))] == ["high"]


def test_a_consumer_that_was_cancelled_without_credit_gets_nothing_when_it_settles() -> None:
    talk = with_queues(work={})
    consume(talk, "c", 1)
    publish(talk, "work", b"1", b"2")
    talk.say(1, Basic.Cancel("c"))
    assert methods(talk.say(1, Basic.Ack(1))) == []
    assert depths(talk) == {"work": 1}


def test_an_exclusive_consumer_is_alone_and_comes_only_where_nobody_is() -> None:
    talk = with_queues(work={}, other={})
    talk.say(2, Channel.Open())
    talk.say(1, Basic.Consume(0, "work", "a", exclusive=True), Basic.Consume(0, "other", "b"))
    refused = ("channel", 403, "ACCESS_REFUSED - queue 'work' in vhost '/' in exclusive use")
    assert closed(talk.say(2, Basic.Consume(0, "work", "c"))) == refused
    other = Talk(talk.node).open()
    assert closed(other.say(1, Basic.Consume(0, "other", "d", exclusive=True)))[:2] == ("channel", 403)


# The single active consumer


def with_single(kind: str, version: str = NEW, **more: Any) -> Talk:
    single: dict[str, Any] = {"x-single-active-consumer": True, "x-queue-type": kind, **more}
    return with_queues(rabbitmq_version=version, work=single)


@pytest.mark.parametrize("kind", KINDS)
def test_one_consumer_gets_all_although_others_have_credit(kind: str) -> None:
    talk = with_single(kind)
    for tag in ("one", "two"):
        consume(talk, tag, 2)
    assert receivers(talk, 4) == ["one", "one"]
    assert [tag for tag, *_ in deliveries(talk.say(1, Basic.Ack(1)))] == ["one"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_one_takes_over_when_it_is_cancelled(kind: str) -> None:
    talk = with_single(kind)
    for tag in ("one", "two", "three"):
        consume(talk, tag, 2)
    receivers(talk, 5)
    assert [tag for tag, *_ in deliveries(talk.say(1, Basic.Cancel("one")))] == ["two", "two"]


def test_in_3_10_it_waits_until_something_else_happens() -> None:
    talk = with_single("classic", OLD)
    for tag in ("one", "two"):
        consume(talk, tag, 1)
    receivers(talk, 2)
    assert methods(talk.say(1, Basic.Cancel("one"))) == ["Basic.CancelOk"]
    assert methods(talk.say(1, Basic.Ack(1))) == []
    assert receivers(talk, 1) == ["two"]


@pytest.mark.parametrize("no_ack", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_one_takes_over_when_its_channel_ends(kind: str, version: str, no_ack: bool) -> None:
    talk = with_single(kind, version)
    other = Talk(talk.node).open()
    other.say(1, Basic.Consume(0, "work", "one", False, no_ack))
    consume(talk, "two", 5)
    publish(talk, "work", b"m")
    other.core.lost()
    assert [tag for tag, *_ in deliveries(talk.heard())] == ([] if no_ack else ["two"])
    assert receivers(talk, 1) == ["two"]


def test_an_exclusive_consumer_is_refused() -> None:
    assert closed(with_single("classic").say(1, Basic.Consume(0, "work", "c", exclusive=True)))[1] == 403
    assert methods(with_single("quorum").say(1, Basic.Consume(0, "work", "c", exclusive=True))) == ["Basic.ConsumeOk"]


@pytest.mark.parametrize(
    ("kind", "version", "follows"),
    [("classic", OLD, "high"), ("classic", NEW, "high"), ("quorum", OLD, "early"), ("quorum", NEW, "high")],
)
def test_who_follows(kind: str, version: str, follows: str) -> None:
    talk = with_single(kind, version)
    for tag, priority in (("active", 9), ("early", None), ("high", 3), ("late", 3)):
        consume(talk, tag, 5, priority)
    talk.say(1, Basic.Cancel("active"))
    assert receivers(talk, 1) == [follows]


def test_of_the_same_priority_the_one_follows_that_may_have_more_in_hand() -> None:
    talk = with_single("quorum")
    for tag, prefetch in (("active", 1), ("few", 2), ("many", 50), ("late", 50)):
        consume(talk, tag, prefetch)
    talk.say(1, Basic.Cancel("active"))
    assert receivers(talk, 1) == ["many"]


@pytest.mark.parametrize(("kind", "version"), [("classic", OLD), ("classic", NEW), ("quorum", OLD)])
def test_the_active_one_stays_whoever_comes(kind: str, version: str) -> None:
    talk = with_single(kind, version)
    consume(talk, "first", 5)
    consume(talk, "high", 5, 9)
    assert receivers(talk, 2) == ["first", "first"]


def test_in_quorum_queues_since_4_it_yields_to_a_higher_priority() -> None:
    talk = with_single("quorum")
    consume(talk, "first", 5)
    consume(talk, "high", 5, 9)
    assert receivers(talk, 1) == ["high"]


def test_before_it_does_it_settles_what_it_has_and_gets_nothing_more() -> None:
    talk = with_single("quorum")
    consume(talk, "first", 5)
    assert receivers(talk, 2) == ["first", "first"]
    consume(talk, "high", 5, 9)
    assert receivers(talk, 1) == []
    assert deliveries(talk.say(1, Basic.Ack(1))) == []
    assert [tag for tag, *_ in deliveries(talk.say(1, Basic.Ack(2)))] == ["high"]


def test_it_yields_even_if_the_other_one_has_gone_meanwhile() -> None:
    talk = with_single("quorum")
    consume(talk, "first", 5)
    receivers(talk, 1)
    consume(talk, "high", 5, 9)
    receivers(talk, 1)
    assert deliveries(talk.say(1, Basic.Cancel("high"))) == []
    assert [tag for tag, *_ in deliveries(talk.say(1, Basic.Ack(1)))] == ["first"]
