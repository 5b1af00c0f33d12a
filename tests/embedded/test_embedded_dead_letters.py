"""Where messages go that a queue gets rid of, what their history says in each version, and that circles end."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp.commands import Basic, Exchange, Queue
from pamqp.common import FieldTable

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Talk, headers, only
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

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
OLD, NEW = VERSIONS


def at(talk: Talk, when: datetime) -> None:
    talk.node.timeline.time = when.timestamp()


def at_noon(rabbitmq_version: str, **queues: FieldTable) -> Talk:
    talk = with_queues(rabbitmq_version=rabbitmq_version, **queues)
    at(talk, NOON)
    return talk


FIRST = {"x-first-death-reason": "rejected", "x-first-death-queue": "work", "x-first-death-exchange": ""}
LAST = {"x-last-death-reason": "rejected", "x-last-death-queue": "work", "x-last-death-exchange": ""}


@pytest.mark.parametrize(("version", "written"), [(OLD, FIRST), (NEW, FIRST | LAST)])
def test_a_rejected_message_goes_to_the_dead_letter_exchange_with_its_history(
    version: str, written: dict[str, str]
) -> None:
    talk = at_noon(version, work=to_queue("dead"), dead={})
    talk.publish(1, "work", b"poison", message_id="m", headers={"mine": 1})

    reject_next(talk, "work")

    heard = talk.say(1, Basic.Get(0, "dead"))
    got = only(heard, Basic.GetOk)
    assert (got.exchange, got.routing_key) == ("", "dead")
    assert heard[1][1].properties.message_id == "m"
    assert heard[2][1].value == b"poison"
    death = {
        "count": 1,
        "reason": "rejected",
        "queue": "work",
        "time": NOON,
        "exchange": "",
        "routing-keys": ["work"],
    }
    assert headers(heard) == {"mine": 1, "x-death": [death], **written}


def test_a_count_is_written_with_64_bits() -> None:
    talk = at_noon(NEW, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    header = talk.node.vhosts["/"].queues["dead"].ready.take().message.header
    assert b"\x05countl" + (1).to_bytes(8) in header


@pytest.mark.parametrize(("version", "redelivered"), [(OLD, False), (NEW, True)])
def test_since_4_a_rejection_is_remembered_as_a_failed_delivery(version: str, redelivered: bool) -> None:
    talk = with_queues(rabbitmq_version=version, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    assert only(talk.say(1, Basic.Get(0, "dead")), Basic.GetOk).redelivered is redelivered


def test_basic_nack_is_no_failed_delivery() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    publish(talk, "work", b"m")
    talk.say(1, Basic.Nack(get(talk, "work"), False, False))
    assert only(talk.say(1, Basic.Get(0, "dead")), Basic.GetOk).redelivered is False


def test_without_a_routing_key_the_message_keeps_its_own() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "dlx"}, dead={})
    talk.say(1, Exchange.Declare(0, "dlx", "topic"), Queue.Bind(0, "dead", "dlx", "orders.#"))
    talk.say(1, Queue.Bind(0, "work", "amq.topic", "orders.new"))
    talk.publish(1, "orders.new", exchange="amq.topic")
    reject_next(talk, "work")
    got = talk.say(1, Basic.Get(0, "dead"))
    assert only(got, Basic.GetOk).routing_key == "orders.new"
    assert headers(got)["x-first-death-exchange"] == "amq.topic"


def test_messages_that_are_rejected_together_arrive_in_their_order() -> None:
    for kind in ("classic", "quorum"):
        talk = with_queues(work=to_queue("dead", **{"x-queue-type": kind}), dead={})
        publish(talk, "work", b"1", b"2", b"3")
        for _ in range(3):
            get(talk, "work")
        talk.say(1, Basic.Nack(3, True, False))
        assert talk.bodies(1, "dead") == [b"1", b"2", b"3"]


# The history grows


@pytest.mark.parametrize("version", VERSIONS)
def test_the_newest_death_stands_first_and_the_first_one_is_remembered(version: str) -> None:
    talk = at_noon(version, work=to_queue("second"), second=to_queue("dead"), dead={})
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    at(talk, NOON.replace(hour=13))
    reject_next(talk, "second")

    found = next_headers(talk, "dead")

    assert [(death["queue"], death["count"], death["time"].hour) for death in found["x-death"]] == [
        ("second", 1, 13),
        ("work", 1, 12),
    ]
    assert found["x-first-death-queue"] == "work"
    assert found.get("x-last-death-queue") == (None if version == OLD else "second")


@pytest.mark.parametrize("version", VERSIONS)
def test_dying_again_in_the_same_queue_for_the_same_reason_counts_on(version: str) -> None:
    talk = at_noon(version, work=to_queue("other"), other=to_queue("work"))
    publish(talk, "work", b"m")
    for queue in ("work", "other", "work"):
        reject_next(talk, queue)
        at(talk, NOON.replace(hour=14))
    found = next_headers(talk, "other")
    assert [(death["queue"], death["count"], death["time"].hour) for death in found["x-death"]] == [
        ("work", 2, 12),
        ("other", 1, 14),
    ]


def test_version_3_10_turns_the_older_deaths_round_each_time() -> None:
    expected = {OLD: ["c", "a", "b"], NEW: ["c", "b", "a"]}
    for version in VERSIONS:
        talk = at_noon(version, a=to_queue("b"), b=to_queue("c"), c=to_queue("dead"), dead={})
        publish(talk, "a", b"m")
        for queue in ("a", "b", "c"):
            reject_next(talk, queue)
        found = next_headers(talk, "dead")
        assert [death["queue"] for death in found["x-death"]] == expected[version]


@pytest.mark.parametrize(("version", "told"), [(OLD, "060000"), (NEW, "60000")])
def test_the_expiration_is_taken_off_and_told(version: str, told: str) -> None:
    talk = at_noon(version, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m", expiration="060000")
    reject_next(talk, "work")
    heard = talk.say(1, Basic.Get(0, "dead"))
    assert heard[1][1].properties.expiration in (None, "")
    assert headers(heard)["x-death"][0]["original-expiration"] == told


# A history that a client has published


FORGED = {"x-death": [{"queue": "far", "reason": "rejected", "count": 3}], "x-first-death-reason": "mine"}


def test_version_3_10_goes_on_with_a_published_history() -> None:
    talk = at_noon(OLD, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m", headers=FORGED)
    reject_next(talk, "work")
    found = next_headers(talk, "dead")
    assert reasons(found) == [("work", "rejected", 1), ("far", "rejected", 3)]
    assert found["x-first-death-reason"] == "mine"
    assert "x-first-death-queue" not in found


def test_version_4_passes_a_published_history_on_and_forgets_it_at_the_first_death() -> None:
    talk = at_noon(NEW, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m", b"n", headers=FORGED)
    assert next_headers(talk, "work") == FORGED
    reject_next(talk, "work")
    found = next_headers(talk, "dead")
    assert reasons(found) == [("work", "rejected", 1)]
    assert found["x-first-death-reason"] == "rejected"


@pytest.mark.parametrize(("version", "first_queue"), [(OLD, None), (NEW, "work")])
def test_a_history_that_is_none_is_started_anew(version: str, first_queue: str | None) -> None:
    talk = at_noon(version, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m", headers={"x-death": "long ago", "x-first-death-reason": "mine"})
    reject_next(talk, "work")
    found = next_headers(talk, "dead")
    assert [death["queue"] for death in found["x-death"]] == ["work"]
    assert found.get("x-first-death-queue") == first_queue


def test_version_3_10_gathers_what_was_written_several_times() -> None:
    twice = [{"queue": "work", "reason": "rejected"}, {"queue": "far", "reason": "expired", "count": 7}]
    talk = at_noon(OLD, work=to_queue("dead"), dead={})
    publish(talk, "work", b"m", headers={"x-death": [*twice, *twice]})
    reject_next(talk, "work")
    assert reasons(next_headers(talk, "dead")) == [("work", "rejected", 3), ("far", "expired", 7)]


def test_a_history_with_octets_that_are_not_text_goes_on() -> None:
    # Given an x-death of one table with a string that is not UTF-8
    table = b"\x05queueS\0\0\0\x01\xff"
    array = b"F" + len(table).to_bytes(4) + table
    field = b"\x07x-deathA" + len(array).to_bytes(4) + array
    properties = b"\x20\x00" + len(field).to_bytes(4) + field
    talk = at_noon(OLD, work=to_queue("dead"), dead={})
    header = b"\x00\x3c\x00\x00" + bytes(8) + properties
    message = b"\x00\x3c\x00\x28\0\0\0\x04work\0"
    for kind, payload in ((1, message), (2, header)):
        talk.raw(bytes((kind, 0, 1)) + len(payload).to_bytes(4) + payload + b"\xce")
    # When it is rejected, then it arrives with both deaths
    reject_next(talk, "work")
    found = next_headers(talk, "dead")
    assert [death["queue"] for death in found["x-death"]] == ["work", bytearray(b"\xff")]


# Where they go


def test_a_dead_letter_exchange_that_is_not_there_loses_the_message() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "nope"})
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    assert depths(talk) == {"work": 0}


def test_dead_letters_may_go_through_an_internal_exchange() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "dlx"}, dead={})
    talk.say(1, Exchange.Declare(0, "dlx", "fanout", internal=True), Queue.Bind(0, "dead", "dlx", ""))
    publish(talk, "work", b"m")
    reject_next(talk, "work")
    assert depths(talk) == {"work": 0, "dead": 1}


def test_a_dead_letter_is_delivered_at_once() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    talk.say(1, Basic.Consume(0, "dead", "undertaker"), Basic.Consume(0, "work", "worker"))
    publish(talk, "work", b"m")
    assert only(talk.say(1, Basic.Nack(1, False, False)), Basic.Deliver).consumer_tag == "undertaker"


@pytest.mark.parametrize(("version", "kept"), [(OLD, None), (NEW, ["copied"])])
def test_a_routing_key_of_the_queue_replaces_the_copies(version: str, kept: list[str] | None) -> None:
    talk = with_queues(rabbitmq_version=version, work=to_queue("dead"), dead={}, copied={}, blind={})
    publish(talk, "work", b"m", headers={"CC": ["copied"], "BCC": ["blind"]})
    talk.say(1, Queue.Purge(0, "copied"), Queue.Purge(0, "blind"))
    reject_next(talk, "work")
    assert depths(talk) == {"work": 0, "dead": 1, "copied": 0, "blind": 0}
    found = next_headers(talk, "dead")
    assert found["x-death"][0]["routing-keys"] == ["work", "copied"]
    assert found.get("CC") == kept


def test_without_one_the_dead_letter_goes_where_the_copies_went() -> None:
    talk = with_queues(work={"x-dead-letter-exchange": "amq.direct"}, dead={}, blind={})
    talk.say(1, Queue.Bind(0, "dead", "amq.direct", "copied"), Queue.Bind(0, "blind", "amq.direct", "hidden"))
    publish(talk, "work", b"m", headers={"CC": ["copied"], "BCC": ["hidden"]})
    reject_next(talk, "work")
    assert depths(talk) == {"work": 0, "dead": 1, "blind": 1}


def test_neither_purge_nor_deletion_makes_dead_letters() -> None:
    talk = with_queues(work=to_queue("dead"), dead={})
    publish(talk, "work", b"1", b"2")
    talk.say(1, Queue.Purge(0, "work"))
    publish(talk, "work", b"3")
    talk.say(1, Basic.Get(0, "work"), Queue.Delete(0, "work"))
    assert depths(talk) == {"dead": 0}


# Circles


def test_a_rejection_never_counts_as_a_circle() -> None:
    talk = with_queues(work=to_queue("work"))
    publish(talk, "work", b"m")
    for _ in range(3):
        reject_next(talk, "work")
    assert next_headers(talk, "work")["x-death"][0]["count"] == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_circle_with_no_rejection_in_it_ends(version: str) -> None:
    expiring = {"x-message-ttl": 10}
    talk = with_queues(
        rabbitmq_version=version, a=to_queue("b", **expiring), b=to_queue("c", **expiring), c=to_queue("a", **expiring)
    )
    publish(talk, "a", b"m")
    talk.wait(0.02)
    assert depths(talk) == {"a": 0, "b": 0, "c": 1}
    talk.wait(0.01)
    assert depths(talk) == {"a": 0, "b": 0, "c": 0}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_circle_with_a_rejection_in_it_goes_on(version: str) -> None:
    talk = with_queues(rabbitmq_version=version, work=to_queue("wait"), wait=to_queue("work", **{"x-message-ttl": 10}))
    publish(talk, "work", b"m")
    for _ in range(3):
        reject_next(talk, "work")
        talk.wait(0.01)
    found = next_headers(talk, "work")
    assert sorted(reasons(found)) == [("wait", "expired", 3), ("work", "rejected", 3)]


def test_a_queue_that_buries_in_itself_does_so_once() -> None:
    talk = with_queues(work=to_queue("work", **{"x-message-ttl": 0}))
    publish(talk, "work", b"m")
    assert depths(talk) == {"work": 0}


@pytest.mark.parametrize("how", [{"x-message-ttl": 0}, {"x-max-length": 0}])
def test_a_chain_of_queues_may_be_longer_than_the_stack_is_deep(how: dict[str, Any]) -> None:
    length = 250  # at some four calls for each, one within the other, it would be too deep
    queues = {f"q{number}": to_queue(f"q{number + 1}", **how) for number in range(length)}
    queues[f"q{length}"] = {}
    talk = with_queues(rabbitmq_version=NEW, **queues)
    publish(talk, "q0", b"m")
    assert [name for name, depth in depths(talk).items() if depth] == [f"q{length}"]
    assert len(next_headers(talk, f"q{length}")["x-death"]) == length
