"""How much a queue holds: by number and by octets, what is dropped and what is refused, and who is told."""

from typing import Any

import pytest
from pamqp.commands import Basic, Confirm, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, deliveries
from tests.embedded.queues import depths, get, next_headers, publish, reasons, to_queue, with_queues

KINDS = ("classic", "quorum")


def limited(length: int, overflow: str = "drop-head", kind: str = "classic", **more: Any) -> FieldTable:
    return {"x-max-length": length, "x-overflow": overflow, "x-queue-type": kind, **more}


def confirmed(talk: Talk, queue: str, *bodies: bytes) -> list[str]:
    """Publish them one by one; what is said to each."""
    talk.say(1, Confirm.Select())
    return [answer.name for body in bodies for _, answer in talk.publish(1, queue, body)]


def letters(text: str) -> list[bytes]:
    return [letter.encode() for letter in text]


ACK, NACK = "Basic.Ack", "Basic.Nack"


# The oldest goes


@pytest.mark.parametrize("kind", KINDS)
def test_the_oldest_messages_go_to_the_dead_letter_exchange(kind: str) -> None:
    talk = with_queues(work=to_queue("dead", **limited(2, kind=kind)), dead={})
    assert confirmed(talk, "work", *letters("abcd")) == [ACK] * 4
    assert talk.bodies(1, "work") == letters("cd")
    assert reasons(next_headers(talk, "dead")) == [("work", "maxlen", 1)]
    assert talk.bodies(1, "dead") == [b"b"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_ready_messages_count(kind: str) -> None:
    talk = with_queues(work=limited(2, kind=kind))
    publish(talk, "work", *letters("ab"))
    get(talk, "work")
    publish(talk, "work", b"c")
    assert talk.bodies(1, "work") == letters("bc")


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_to_a_full_queue_is_dropped_first(kind: str) -> None:
    talk = with_queues(work=to_queue("dead", **limited(2, kind=kind)), dead={})
    publish(talk, "work", *letters("ab"))
    for _ in range(2):
        get(talk, "work")
    publish(talk, "work", *letters("cd"))
    talk.say(1, Basic.Nack(0, True))
    assert talk.bodies(1, "work") == letters("cd")
    assert talk.bodies(1, "dead") == letters("ab")


def test_a_limit_of_nothing_leaves_what_is_delivered_at_once() -> None:
    talk = with_queues(work=limited(0))
    publish(talk, "work", b"a")
    talk.say(1, Basic.Consume(0, "work", "c"))
    assert [body for _, _, _, body in deliveries(talk.publish(1, "work", b"b"))] == [b"b"]
    assert depths(talk) == {"work": 1}  # in hand


def test_a_full_queue_drops_before_it_delivers_what_came_back() -> None:
    talk = with_queues(work=limited(1))
    talk.say(1, Basic.Qos(0, 1), Basic.Consume(0, "work", "c"))
    publish(talk, "work", *letters("ab"))
    assert [body for _, _, _, body in deliveries(talk.say(1, Basic.Nack(1)))] == [b"b"]
    assert depths(talk) == {"work": 1}


# Octets


def test_a_classic_queue_weighs_bodies() -> None:
    talk = with_queues(work={"x-max-length-bytes": 100})
    publish(talk, "work", *[b"x" * 10] * 11, headers={"a": "b" * 50})
    assert depths(talk) == {"work": 10}
    publish(talk, "work", b"y" * 101)
    assert depths(talk) == {"work": 0}


@pytest.mark.parametrize(("version", "kept"), [("3.10", [10, 10, 10]), ("4.3", [8, 5, 4])])
def test_quorum_queues_weigh_properties_since_4(version: str, kept: list[int]) -> None:
    weighed: FieldTable = {"x-queue-type": "quorum", "x-max-length-bytes": 100}
    talk = with_queues(rabbitmq_version=version, a=weighed, b=weighed, c=weighed)
    publish(talk, "a", *[b"x" * 10] * 11)
    publish(talk, "b", *[b"x" * 10] * 11, message_id="abcd", delivery_mode=2)
    publish(talk, "c", *[b"x" * 10] * 11, headers={"a": "b"})
    assert list(depths(talk).values()) == kept


def test_octets_are_given_back_however_a_message_leaves() -> None:
    talk = with_queues(work={"x-max-length-bytes": 30, "x-overflow": "reject-publish"})
    talk.say(1, Confirm.Select())
    full = [b"x" * 10] * 3
    for leave in ("get", "purge", "expire", "consume"):
        talk.say(1, Queue.Purge(0, "work"))
        publish(talk, "work", *full, expiration="100" if leave == "expire" else "100000")
        assert confirmed(talk, "work", b"x") == [NACK], leave
        match leave:
            case "get":
                talk.bodies(1, "work")
            case "purge":
                talk.say(1, Queue.Purge(0, "work"))
            case "expire":
                talk.wait(0.1)
            case "consume":
                talk.say(1, Basic.Consume(0, "work", "c"), Basic.Cancel("c"))
        assert confirmed(talk, "work", *full) == [ACK] * 3, leave


# The newest is refused


def test_a_classic_queue_refuses_what_is_more_than_its_limit() -> None:
    talk = with_queues(work=limited(5, "reject-publish"))
    assert confirmed(talk, "work", *letters("abcdefg")) == [ACK] * 5 + [NACK] * 2
    get(talk, "work")
    assert confirmed(talk, "work", *letters("hi")) == [ACK, NACK]
    assert depths(talk) == {"work": 6}


def test_it_refuses_even_what_somebody_waits_for() -> None:
    talk = with_queues(work=limited(0, "reject-publish"))
    talk.say(1, Basic.Consume(0, "work", "c"))
    assert confirmed(talk, "work", b"a") == [NACK]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_quorum_queue_takes_one_more_and_goes_on_when_a_fifth_is_free(version: str) -> None:
    talk = with_queues(rabbitmq_version=version, work=limited(5, "reject-publish", "quorum"))
    assert confirmed(talk, "work", *letters("abcdefgh")) == [ACK] * 6 + [NACK] * 2
    get(talk, "work")  # five are ready
    assert confirmed(talk, "work", b"i") == [NACK]
    get(talk, "work")  # four
    assert confirmed(talk, "work", *letters("jkl")) == [ACK, ACK, NACK]


def test_a_purged_quorum_queue_goes_on() -> None:
    talk = with_queues(work=limited(1, "reject-publish", "quorum"))
    assert confirmed(talk, "work", *letters("abc")) == [ACK, ACK, NACK]
    talk.say(1, Queue.Purge(0, "work"))
    assert confirmed(talk, "work", b"d") == [ACK]


def test_what_is_refused_by_one_queue_is_in_the_others() -> None:
    talk = with_queues(full=limited(0, "reject-publish"), free={})
    for queue in ("full", "free"):
        talk.say(1, Queue.Bind(0, queue, "amq.fanout", ""))
    talk.say(1, Confirm.Select())
    assert [answer.name for _, answer in talk.publish(1, "", b"m", exchange="amq.fanout")] == [NACK]
    assert depths(talk) == {"full": 0, "free": 1}


def test_nothing_is_dropped_when_messages_come_back_to_a_queue_that_refuses() -> None:
    talk = with_queues(work=limited(1, "reject-publish"))
    publish(talk, "work", b"a")
    get(talk, "work")
    publish(talk, "work", b"b")
    talk.say(1, Basic.Nack(1))
    assert talk.bodies(1, "work") == letters("ab")


# Refused, and dead


def test_what_is_refused_may_go_to_the_dead_letter_exchange() -> None:
    talk = with_queues(work=to_queue("dead", **limited(1, "reject-publish-dlx")), dead={})
    assert confirmed(talk, "work", *letters("abc")) == [ACK, NACK, NACK]
    assert talk.bodies(1, "work") == [b"a"]
    assert reasons(next_headers(talk, "dead")) == [("work", "maxlen", 1)]
    assert talk.bodies(1, "dead") == [b"c"]


def test_a_quorum_queue_drops_the_oldest_instead() -> None:
    talk = with_queues(rabbitmq_version="3.10", work=limited(1, "reject-publish-dlx", "quorum"))
    assert confirmed(talk, "work", *letters("ab")) == [ACK, ACK]
    assert talk.bodies(1, "work") == [b"b"]


# Dead letters that come to a full queue


@pytest.mark.parametrize(
    ("kind", "overflow", "kept"),
    [
        ("classic", "drop-head", "cd"),
        ("classic", "reject-publish", "ab"),
        ("quorum", "drop-head", "cd"),
        ("quorum", "reject-publish", "abcd"),
    ],
)
def test_dead_letters_come_to_a_full_queue(kind: str, overflow: str, kept: str) -> None:
    talk = with_queues(work=to_queue("dead", **{"x-message-ttl": 0}), dead=limited(2, overflow, kind))
    publish(talk, "work", *letters("abcd"))
    assert talk.bodies(1, "dead") == letters(kept)


def test_what_falls_out_of_full_queues_falls_on() -> None:
    talk = with_queues(a=to_queue("b", **limited(1)), b=to_queue("c", **limited(1)), c={})
    publish(talk, "a", *letters("1234"))
    assert {name: talk.bodies(1, name) for name in "abc"} == {"a": [b"4"], "b": [b"3"], "c": [b"1", b"2"]}
