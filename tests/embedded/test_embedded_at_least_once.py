"""`x-dead-letter-strategy: at-least-once`: dead letters stay with their quorum queue until somebody has them."""

from typing import Any

import pytest
from pamqp.commands import Basic, Confirm, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk
from tests.embedded.queues import depths, get, next_headers, publish, reject_next, to_queue, with_queues

RETRY = 180.0


def keeping(**more: Any) -> FieldTable:
    strategy = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return to_queue("dead", **{"x-queue-type": "quorum", **strategy, **more})


def declare(talk: Talk, name: str, **arguments: Any) -> None:
    talk.say(1, Queue.Declare(0, name, durable=True, arguments=arguments))


def test_where_there_is_a_queue_it_goes_at_once() -> None:
    talk = with_queues(work=keeping(), dead={})
    publish(talk, "work", b"1")
    reject_next(talk, "work")
    publish(talk, "work", b"2", expiration="100")
    talk.wait(0.1)
    assert depths(talk) == {"work": 0, "dead": 2}


def test_where_there_is_none_it_is_kept_and_tried_again() -> None:
    talk = with_queues(work=keeping())
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    assert depths(talk) == {"work": 1}
    declare(talk, "dead")
    talk.wait(RETRY - 1)
    assert depths(talk) == {"work": 1, "dead": 0}
    talk.wait(1)
    assert depths(talk) == {"work": 0, "dead": 1}


def test_a_full_queue_gets_it_when_it_has_room() -> None:
    talk = with_queues(work=keeping(), dead={"x-max-length": 1, "x-overflow": "reject-publish"})
    publish(talk, "work", b"1", b"2")
    for _ in range(2):
        reject_next(talk, "work")
    assert depths(talk) == {"work": 1, "dead": 1}
    talk.wait(RETRY)
    assert depths(talk) == {"work": 1, "dead": 1}
    assert talk.bodies(1, "dead") == [b"1"]
    talk.wait(RETRY)
    assert talk.bodies(1, "dead") == [b"2"]


def test_who_has_it_does_not_get_it_twice() -> None:
    # Given two queues behind the dead-letter exchange, one of them full
    full: FieldTable = {"x-max-length": 0, "x-overflow": "reject-publish"}
    talk = with_queues(work=keeping(**{"x-dead-letter-exchange": "amq.fanout"}), free={}, full=full)
    for queue in ("free", "full"):
        talk.say(1, Queue.Bind(0, queue, "amq.fanout", ""))
    publish(talk, "work", b"m")
    # When it is tried again and again
    reject_next(talk, "work")
    talk.wait(3 * RETRY)
    assert depths(talk) == {"work": 1, "free": 1, "full": 0}
    # Then it is done as soon as nobody is left who lacks it
    talk.say(1, Queue.Delete(0, "full"))
    talk.wait(RETRY)
    assert depths(talk) == {"work": 0, "free": 1}


def test_what_is_kept_counts_towards_the_limit() -> None:
    talk = with_queues(work=keeping(**{"x-max-length": 3}))
    talk.say(1, Confirm.Select())
    publish(talk, "work", b"dead")
    reject_next(talk, "work")
    answers = [answer.name for _ in range(4) for _, answer in talk.publish(1, "work", b"m")]
    assert answers == ["Basic.Ack"] * 3 + ["Basic.Nack"]


@pytest.mark.parametrize(("version", "purged", "left"), [("3.10", 1, 1), ("4.3", 2, 0)])
def test_since_4_purge_takes_them_away(version: str, purged: int, left: int) -> None:
    talk = with_queues(rabbitmq_version=version, work=keeping())
    publish(talk, "work", b"1", b"2")
    reject_next(talk, "work")
    assert talk.say(1, Queue.Purge(0, "work"))[0][1].message_count == purged
    assert depths(talk) == {"work": left}


def test_they_go_with_their_queue() -> None:
    talk = with_queues(work=keeping())
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    talk.say(1, Queue.Delete(0, "work"))
    declare(talk, "dead")
    talk.wait(RETRY)
    assert depths(talk) == {"dead": 0}
    assert talk.node.memory.used == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_queue_that_drops_the_oldest_falls_back_to_at_most_once(version: str) -> None:
    arguments = keeping(**{"x-overflow": "drop-head", "x-max-length": 1})
    talk = with_queues(rabbitmq_version=version, work=arguments)
    publish(talk, "work", b"1", b"2")
    reject_next(talk, "work")
    assert depths(talk) == {"work": 0}


def test_the_same_letter_is_kept_and_its_time_is_that_of_its_death() -> None:
    talk = with_queues(work=keeping())
    publish(talk, "work", b"m")
    talk.say(1, Basic.Nack(get(talk, "work"), False, False))
    died = talk.node.timeline.time
    declare(talk, "dead")
    talk.wait(RETRY)
    assert next_headers(talk, "dead")["x-death"][0]["time"].timestamp() == int(died)
