"""When messages and queues expire: by the queue's TTL, by their own expiration, at the head only, by a timer; and
what counts as use of a queue that expires."""

from typing import Any

import pytest
from pamqp.commands import Basic, Exchange, Queue

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, closed, deliveries, headers, methods, only
from tests.embedded.queues import depths, get, next_headers, publish, reasons, to_queue, with_queues

KINDS = ("classic", "quorum")


def ttl(milliseconds: int, kind: str = "classic", **more: Any) -> dict[str, Any]:
    return {"x-queue-type": kind, "x-message-ttl": milliseconds, **more}


# A queue's TTL


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_expires_without_a_consumer_and_when_its_time_has_come(kind: str, version: str) -> None:
    talk = with_queues(rabbitmq_version=version, wait=to_queue("work", **ttl(500, kind)), work={})
    publish(talk, "wait", b"m")
    talk.wait(0.499)
    assert depths(talk) == {"wait": 1, "work": 0}
    talk.wait(0.001)
    assert depths(talk) == {"wait": 0, "work": 1}
    found = next_headers(talk, "work")
    assert reasons(found) == [("wait", "expired", 1)]
    assert "original-expiration" not in found["x-death"][0]


def test_without_a_dead_letter_exchange_it_is_gone() -> None:
    talk = with_queues(wait=ttl(500))
    publish(talk, "wait", b"m")
    talk.wait(0.5)
    assert depths(talk) == {"wait": 0}


def test_what_expires_is_delivered_to_who_waits_for_it() -> None:
    talk = with_queues(wait=to_queue("work", **ttl(500)), work={})
    talk.say(1, Basic.Consume(0, "work", "c"))
    publish(talk, "wait", b"1", b"2")
    assert [body for _, _, _, body in deliveries(talk.wait(0.5))] == [b"1", b"2"]


def test_each_message_has_its_own_time() -> None:
    talk = with_queues(wait=ttl(500))
    publish(talk, "wait", b"1")
    talk.wait(0.3)
    publish(talk, "wait", b"2")
    talk.wait(0.3)
    assert depths(talk) == {"wait": 1}
    talk.wait(0.2)
    assert depths(talk) == {"wait": 0}


def test_a_leap_of_time_ends_where_steps_would_have_ended() -> None:
    talk = with_queues(a=to_queue("b", **ttl(100)), b=to_queue("c", **ttl(100)), c={})
    publish(talk, "a", b"m")
    talk.wait(10)
    deaths = next_headers(talk, "c")["x-death"]
    assert [death["queue"] for death in deaths] == ["b", "a"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_hand_does_not_expire_and_keeps_its_end(kind: str) -> None:
    talk = with_queues(wait=ttl(500, kind))
    publish(talk, "wait", b"m")
    tag = get(talk, "wait")
    talk.wait(0.3)
    talk.say(1, Basic.Nack(tag))
    assert depths(talk) == {"wait": 1}
    tag = get(talk, "wait")
    talk.wait(0.3)
    assert depths(talk) == {"wait": 1}  # in hand
    talk.say(1, Basic.Nack(tag))
    assert depths(talk) == {"wait": 0}


def test_what_has_expired_on_the_way_back_goes_to_nobody() -> None:
    talk = with_queues(wait=to_queue("dead", **ttl(100)), dead={})
    talk.say(1, Basic.Consume(0, "wait", "c"))
    publish(talk, "wait", b"m")
    talk.wait(0.2)
    assert methods(talk.say(1, Basic.Nack(1))) == []
    assert depths(talk) == {"wait": 0, "dead": 1}


# A TTL of zero


def test_a_ttl_of_zero_delivers_to_who_is_ready_and_to_nobody_else() -> None:
    talk = with_queues(work=to_queue("dead", **ttl(0)), dead={})
    publish(talk, "work", b"early")
    talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "work", "c"))
    assert [body for _, _, _, body in deliveries(talk.publish(1, "work", b"1"))] == [b"1"]
    assert methods(talk.publish(1, "work", b"2")) == []
    assert talk.bodies(1, "dead") == [b"early", b"2"]


def test_a_quorum_queue_gives_such_a_message_a_millisecond() -> None:
    talk = with_queues(work=ttl(0, "quorum"))
    publish(talk, "work", b"m")
    assert depths(talk) == {"work": 1}
    talk.wait(0.001)
    assert depths(talk) == {"work": 0}


# A message's own expiration


@pytest.mark.parametrize(
    ("of_queue", "of_message", "lives"), [(900, "200", 0.2), (200, "900", 0.2), (None, "200", 0.2)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_shorter_time_wins(kind: str, of_queue: int | None, of_message: str, lives: float) -> None:
    arguments = {"x-queue-type": kind} if of_queue is None else ttl(of_queue, kind)
    talk = with_queues(work=to_queue("dead", **arguments), dead={})
    publish(talk, "work", b"m", expiration=of_message)
    talk.wait(lives - 0.001)
    assert depths(talk) == {"work": 1, "dead": 0}
    talk.wait(0.001)
    heard = talk.say(1, Basic.Get(0, "dead"))
    assert headers(heard)["x-death"][0]["original-expiration"] == of_message
    assert heard[1][1].properties.expiration in (None, "")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_head_expires(kind: str) -> None:
    talk = with_queues(work=to_queue("dead", **{"x-queue-type": kind}), dead={})
    publish(talk, "work", b"long", expiration="10000")
    publish(talk, "work", b"short", expiration="100")
    talk.wait(5)
    assert depths(talk) == {"work": 2, "dead": 0}
    talk.wait(5)
    assert talk.bodies(1, "dead") == [b"long", b"short"]


def test_what_has_expired_behind_the_head_is_never_delivered() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    publish(talk, "work", b"head")
    publish(talk, "work", b"short", expiration="100")
    publish(talk, "work", b"last")
    talk.wait(1)
    heard = talk.say(1, Basic.Consume(0, "work", "c", False, True))
    assert [body for _, _, _, body in deliveries(heard)] == [b"head", b"last"]
    assert talk.bodies(1, "dead") == [b"short"]


def test_after_the_head_was_taken_the_timer_is_that_of_the_next() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    publish(talk, "work", b"head", expiration="10000")
    publish(talk, "work", b"next", expiration="500")
    get(talk, "work")
    talk.wait(0.5)
    assert depths(talk) == {"work": 1, "dead": 1}


def test_a_quorum_queue_still_counts_what_has_expired_behind_basic_get() -> None:
    left = {}
    for kind in KINDS:
        talk = with_queues(work={"x-queue-type": kind})
        publish(talk, "work", b"head")
        publish(talk, "work", b"short", expiration="100")
        talk.wait(1)
        left[kind] = only(talk.say(1, Basic.Get(0, "work")), Basic.GetOk).message_count
        talk.wait(0.001)
        assert depths(talk) == {"work": 1}
    assert left == {"classic": 0, "quorum": 1}


# Queues


def expiring(**more: Any) -> Talk:
    return with_queues(work={"x-expires": 1000, **more})


def is_there(talk: Talk) -> bool:
    return "work" in depths(talk)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unused_queue_is_deleted_with_what_it_holds(kind: str) -> None:
    talk = with_queues(work=to_queue("dead", **{"x-expires": 1000, "x-queue-type": kind}), dead={})
    publish(talk, "work", b"m")
    talk.wait(0.999)
    assert is_there(talk)
    publish(talk, "work", b"m")  # is no use
    talk.wait(0.001)
    assert depths(talk) == {"dead": 0}
    assert closed(talk.say(1, Queue.Declare(0, "work", passive=True)))[1] == 404


def test_its_bindings_go_with_it() -> None:
    talk = expiring()
    talk.say(1, Exchange.Declare(0, "x", "fanout", auto_delete=True), Queue.Bind(0, "work", "x", ""))
    talk.wait(1)
    assert "x" not in talk.node.vhosts["/"].exchanges


@pytest.mark.parametrize(
    "use",
    [
        Basic.Get(0, "work"),
        Queue.Declare(0, "work", passive=True),
        Queue.Declare(0, "work", durable=True, arguments={"x-expires": 1000}),
    ],
)
def test_what_counts_as_use(use: Any) -> None:
    talk = expiring()
    for _ in range(3):
        talk.wait(0.7)
        talk.say(1, use)
    assert is_there(talk)
    talk.wait(1)
    assert not is_there(talk)


@pytest.mark.parametrize("idle", [Queue.Bind(0, "work", "amq.topic", "k"), Queue.Purge(0, "work")])
def test_what_does_not(idle: Any) -> None:
    talk = expiring()
    talk.wait(0.7)
    talk.say(1, idle)
    talk.wait(0.3)
    assert not is_there(talk)


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_keeps_it_and_its_time_begins_when_the_last_one_goes(kind: str) -> None:
    talk = expiring(**{"x-queue-type": kind})
    talk.say(1, Basic.Consume(0, "work", "c"))
    talk.wait(5)
    assert is_there(talk)
    talk.say(1, Basic.Cancel("c"))
    talk.wait(0.999)
    assert is_there(talk)
    talk.wait(0.001)
    assert not is_there(talk)


def test_declaring_is_no_use_of_a_quorum_queue() -> None:
    talk = expiring(**{"x-queue-type": "quorum"})
    talk.wait(0.7)
    talk.say(1, Queue.Declare(0, "work", passive=True))
    talk.wait(0.3)
    assert not is_there(talk)


def test_what_is_in_hand_keeps_a_quorum_queue() -> None:
    talk = expiring(**{"x-queue-type": "quorum"})
    publish(talk, "work", b"m")
    tag = get(talk, "work")
    talk.wait(5)
    assert is_there(talk)
    talk.say(1, Basic.Ack(tag))
    talk.wait(1)
    assert not is_there(talk)


def test_a_queue_that_was_deleted_does_not_expire_once_more() -> None:
    talk = expiring()
    talk.say(1, Queue.Delete(0, "work"), Queue.Declare(0, "work", durable=True))
    talk.wait(5)
    assert is_there(talk)
