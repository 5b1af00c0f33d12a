"""Every event in words: the whole sentence of each, and nothing of a stranger's in it that could pass for ours."""

import logging
from typing import Any, cast, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs

from pipeline import events
from pipeline.events import Event
from pipeline.ledger import CONSUMER_TERMS, DUPLICATES, PRODUCER_TERMS
from pipeline.observe.sentences import describe, shown_body, shown_seconds

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


def failed(**changes: Any) -> events.MessageFailed:
    values: dict[str, Any] = {
        "consumer": "charge",
        "message_id": "m-1",
        "reason": "fatal",
        "error": "Reject: too old",
        "fate": 'it is copied to dead-letter queue "billing.dlq"',
        "dropped": False,
        "frames": (),
        "body": b'{"id": 7}',
    }
    return events.MessageFailed(**{**values, **changes})


def retried(**changes: Any) -> events.MessageRetried:
    values: dict[str, Any] = {"consumer": "charge", "message_id": "m-1", "error": "ValueError: boom", "attempt": 1}
    values |= {"attempts": 4, "after": 5.0, "frames": (), "body": b"{}"}
    return events.MessageRetried(**{**values, **changes})


def died(**changes: Any) -> events.WorkerDied:
    values: dict[str, Any] = {"worker": 2, "pid": 77, "cause": "killed by SIGKILL", "in_hand": 0, "dropped": 0}
    return events.WorkerDied(**{**values, "next_start": None, **changes})


def counted(**changes: Any) -> events.DeathsCounted:
    values: dict[str, Any] = {"worker": 2, "consumer": "charge", "messages": 1, "message_ids": ("m-1",)}
    return events.DeathsCounted(**{**values, "deaths": 2, "crash_limit": 3, **changes})


def summary(*, gone: int | None = None, **numbers: int) -> events.Summary:
    return events.Summary(
        seconds=12.34,
        consumers={term: numbers.get(term, 0) for term in (*CONSUMER_TERMS, "in_hand", DUPLICATES)},
        producers={term: numbers.get(term, 0) for term in (*PRODUCER_TERMS, "pending")},
        gone_with_broker=gone,
    )


SENTENCES: list[tuple[Event, int, str, str]] = [
    (events.Connected(link="consume", address="rabbit:5672"), DEBUG, "broker", "connected to rabbit:5672 (consume)"),
    (
        events.ConnectFailed(link="consume", reason="rabbit:5672: refused", next_attempt=4.0),
        WARNING,
        "broker",
        "rabbit:5672: refused; next attempt in 4 s",
    ),
    (
        events.ConnectionLost(link="consume", reason="reset by peer", next_attempt=0.25),
        WARNING,
        "broker",
        "lost the connection (consume): reset by peer; next attempt in 250 ms; messages in hand will be delivered "
        "again",
    ),
    (
        events.ConnectionLost(link="publish", reason="reset by peer", next_attempt=2.5),
        WARNING,
        "broker",
        "lost the connection (publish): reset by peer; next attempt in 2.5 s; what is not confirmed is sent again",
    ),
    (
        events.ConnectionLost(link="consume-none", reason="reset by peer", next_attempt=2.5),
        WARNING,
        "broker",
        "lost the connection (consume-none): reset by peer; next attempt in 2.5 s",
    ),
    (
        events.Blocked(link="publish"),
        WARNING,
        "broker",
        "the broker has blocked publishing (memory or disk alarm, publish); producers wait",
    ),
    (events.Unblocked(link="publish"), INFO, "broker", "the broker takes messages again (publish)"),
    (
        events.TopologyConflict(sentence='queue "a" is not durable'),
        ERROR,
        "broker",
        'queue "a" is not durable; what depends on it waits, the rest goes on',
    ),
    (
        events.ConsumerStarted(consumer="charge", queue="billing"),
        INFO,
        "consumer.charge",
        'consuming from queue "billing"',
    ),
    (
        events.ConsumerInterrupted(consumer="charge", queue="billing", reason="queue deleted", next_attempt=0.5),
        WARNING,
        "consumer.charge",
        'stopped consuming from queue "billing": queue deleted; starts again in 500 ms',
    ),
    (
        events.ConsumerInConflict(consumer="charge", queue="billing", reason="it is exclusive", next_attempt=60),
        ERROR,
        "consumer.charge",
        "in conflict: it is exclusive; next attempt in 60 s",
    ),
    (
        events.ConsumerPaused(consumer="charge", waiting=1000),
        INFO,
        "consumer.charge",
        "1000 messages wait here; pausing until most are handled",
    ),
    (
        events.ConsumerResumed(consumer="charge", waiting=1),
        INFO,
        "consumer.charge",
        "consuming again, 1 message left to handle",
    ),
    (
        events.MessageReceived(consumer="charge", message_id="m-1", redelivered=True, attempt=1, body=b"hello"),
        DEBUG,
        "consumer.charge",
        "received message m-1, delivered again",
    ),
    (
        events.MessageReceived(consumer="charge", message_id=None, redelivered=False, attempt=1, body=b"hello"),
        DEBUG,
        "consumer.charge",
        "received message without id",
    ),
    (
        events.MessageDone(consumer="charge", message_id="m-1", redelivered=False, seconds=0.0301, body=b""),
        DEBUG,
        "consumer.charge",
        "ended message m-1 after 30 ms",
    ),
    (
        events.MessageReceived(consumer="charge", message_id="m-1", redelivered=False, attempt=3, body=b"hello"),
        DEBUG,
        "consumer.charge",
        "received message m-1, attempt 3",
    ),
    (
        retried(),
        WARNING,
        "consumer.charge",
        "message m-1 failed (attempt 1 of 4): ValueError: boom; again in 5 s",
    ),
    (
        retried(attempt=2, after=0.25, frames=("steps.py:3 in charge", "steps.py:9 in look_up")),
        WARNING,
        "consumer.charge",
        "message m-1 failed (attempt 2 of 4): ValueError: boom; again in 250 ms\n"
        "    steps.py:3 in charge\n    steps.py:9 in look_up",
    ),
    (
        events.AttemptDisbelieved(consumer="charge", message_id="m-1", said="x-piperun-attempt: 9\n\x1b[2J"),
        WARNING,
        "consumer.charge",
        "message m-1 says x-piperun-attempt: 9\\n\\x1b[2J, which cannot be true: it counts as a first attempt",
    ),
    (
        failed(),
        WARNING,
        "consumer.charge",
        'message m-1 failed (fatal): Reject: too old; it is copied to dead-letter queue "billing.dlq"',
    ),
    (
        failed(dropped=True, fate="it is DROPPED", frames=("steps.py:3 in charge", "steps.py:9 in look_up")),
        ERROR,
        "consumer.charge",
        "message m-1 failed (fatal): Reject: too old; it is DROPPED\n    steps.py:3 in charge\n    steps.py:9 in "
        "look_up",
    ),
    (
        events.SettleTroubled(consumer="charge", message_id="m-1", reason="a queue is full", next_attempt=5.0),
        WARNING,
        "consumer.charge",
        "message m-1 is held: a queue is full; next attempt in 5 s",
    ),
    (
        events.RedeliveryExpected(consumer="charge", message_id=None),
        WARNING,
        "consumer.charge",
        "the channel of message without id has ended; the broker will deliver it again",
    ),
    (
        events.HandlerAbandoned(consumer="charge", message_id="m-1", thread=True, dropped=False),
        ERROR,
        "consumer.charge",
        "the handler of message m-1 did not end in time: its thread is left behind, and the message goes back to its "
        "queue",
    ),
    (
        events.HandlerAbandoned(consumer="charge", message_id="m-1", thread=False, dropped=True),
        ERROR,
        "consumer.charge",
        "the handler of message m-1 did not end in time: it is cancelled, and the message is DROPPED",
    ),
    (
        events.DuplicateSkipped(consumer="charge", message_id="m-1", key="m-1"),
        INFO,
        "consumer.charge",
        "message m-1 is a duplicate: acknowledged without being handled again",
    ),
    (
        events.DuplicateSkipped(consumer="charge", message_id=None, key="order\n7"),
        INFO,
        "consumer.charge",
        r'message without id with key "order\n7" is a duplicate: acknowledged without being handled again',
    ),
    (
        events.DuplicateHeld(consumer="charge", message_id="m-1", key="m-1"),
        INFO,
        "consumer.charge",
        "message m-1 waits: another message with its key is being handled, or its process has just died",
    ),
    (events.ProducerStarted(producer="nightly"), DEBUG, "producer.nightly", "started"),
    (events.ProducerFinished(producer="nightly", confirmed=5), INFO, "producer.nightly", "finished: 5 confirmed"),
    (
        events.ProducerFailed(producer="nightly", reason="no such file"),
        ERROR,
        "producer.nightly",
        "no such file; the pipeline stops",
    ),
    (
        events.PublishTroubled(producer="nightly", reason="a queue is full", next_attempt=1.25),
        WARNING,
        "producer.nightly",
        "not confirmed yet: a queue is full; sent again in 1.2 s, under the same message id",
    ),
    (events.Notice(subject="broker", sentence="in memory only"), INFO, "broker", "in memory only"),
    (
        events.Notice(subject="consumer.charge", sentence="it goes nowhere", level="warning"),
        WARNING,
        "consumer.charge",
        "it goes nowhere",
    ),
    (
        events.HandlerStuck(consumer="charge", message_id="m-1", stuck=1, slots=16),
        WARNING,
        "consumer.charge",
        "the thread of message m-1 does not end and keeps its slot, 1 of 16 slots now",
    ),
    (
        events.HandlerStuck(consumer="charge", message_id=None, stuck=1, slots=1),
        ERROR,
        "consumer.charge",
        "the thread of message without id does not end and keeps its slot, 1 of 1 slot now: nothing is handled here "
        "until one ends, or the process is started again",
    ),
    (
        events.HandlerFreed(consumer="charge", stuck=1, slots=16),
        INFO,
        "consumer.charge",
        "a thread that was given up has ended; 1 of 16 slots still taken by others",
    ),
    (
        events.LoopBlocked(
            subject="consumer.charge", seconds=1.0, frames=("/shop/billing.py:31 in charge", "/shop/old.py:7 in get")
        ),
        WARNING,
        "consumer.charge",
        "its handler has blocked the event loop for 1 s: meanwhile nothing else runs in this process, and the broker "
        "hangs up when heartbeats fail; wait with `await`, or use a plain `def`, which runs in a thread\n"
        "    /shop/billing.py:31 in charge\n    /shop/old.py:7 in get",
    ),
    (
        events.LoopTurnsAgain(subject="pipeline", seconds=12.5),
        WARNING,
        "pipeline",
        "the event loop turns again; something had blocked it for 12.5 s",
    ),
    (
        events.Ready(pipelines=("shop", "audit"), consumers=1, producers=2),
        INFO,
        "pipeline",
        "shop, audit: ready with 1 consumer, 2 producers",
    ),
    (
        events.Stopping(reason="SIGTERM received", shutdown_timeout=25),
        INFO,
        "pipeline",
        "stopping, SIGTERM received; at most 25 s",
    ),
    (
        events.Unconfirmed(producer="nightly", message_id="m-1"),
        WARNING,
        "producer.nightly",
        "message m-1 has no answer: it may have arrived, a duplicate is possible",
    ),
    (events.WorkerStarted(worker=2, pid=77), INFO, "worker.2", "started as process 77"),
    (
        counted(),
        WARNING,
        "worker.2",
        "died with 1 message of consumer.charge in hand (m-1): death 2 of 3; it is handled alone the next time",
    ),
    (
        counted(messages=7, message_ids=("m-1", None), deaths=1),
        WARNING,
        "worker.2",
        "died with 7 messages of consumer.charge in hand (m-1, without id, 5 more): death 1 of 3; each is handled "
        "alone the next time",
    ),
    (
        counted(deaths=3),
        WARNING,
        "worker.2",
        "died with 1 message of consumer.charge in hand (m-1): death 3 of 3; it is not handled again, and has failed",
    ),
    (
        counted(messages=2, message_ids=("m-1", "m-2"), deaths=1, crash_limit=1),
        WARNING,
        "worker.2",
        "died with 2 messages of consumer.charge in hand (m-1, m-2): death 1 of 1; they are not handled again, and "
        "have failed",
    ),
    (
        events.HandledAlone(consumer="charge", message_id="m-1", deaths=1, crash_limit=3),
        INFO,
        "consumer.charge",
        "message m-1 is handled alone: it was in hand at 1 death of a worker, and has failed at 3",
    ),
    (died(), ERROR, "worker.2", "process 77 died: killed by SIGKILL"),
    (
        died(in_hand=1, dropped=2, next_start=0.5),
        ERROR,
        "worker.2",
        "process 77 died: killed by SIGKILL; 1 message in hand will be delivered again; 2 messages handed out and "
        "never finished: DROPPED; the next one starts in 500 ms",
    ),
    (summary(), INFO, "pipeline", "ended after 12.3 s: 0 delivered, 0 done"),
    (
        summary(read=5, confirmed=5, delivered=5, done=5),
        INFO,
        "pipeline",
        "ended after 12.3 s: 5 sent and confirmed, 5 delivered, 5 done",
    ),
    (
        summary(delivered=9, done=9, duplicates=2),
        INFO,
        "pipeline",
        "ended after 12.3 s: 9 delivered, 9 done (2 duplicates skipped)",
    ),
    (
        summary(read=9, confirmed=5, failed=1, pending=3),
        ERROR,
        "pipeline",
        "ended after 12.3 s: 5 sent and confirmed, 1 NOT sent, 3 without an answer",
    ),
    (
        summary(delivered=9, done=1, retried=1, dead_lettered=2, returned=1, redelivery_expected=3, in_hand=1, gone=1),
        INFO,
        "pipeline",
        "ended after 12.3 s: 9 delivered, 1 done, 1 retried, 2 dead-lettered, 1 returned, 3 to be delivered again, "
        "1 in hand, 1 message gone with the embedded broker",
    ),
    (
        summary(delivered=3, done=1, dropped=2, gone=0),
        ERROR,
        "pipeline",
        "ended after 12.3 s: 3 delivered, 1 done, 2 DROPPED",
    ),
]


@pytest.mark.parametrize(("event", "level", "subject", "sentence"), SENTENCES, ids=lambda value: type(value).__name__)
def test_the_sentence_of_an_event(event: Event, level: int, subject: str, sentence: str) -> None:
    assert describe(event, bodies=None) == (level, subject, sentence)


def test_progress_is_for_a_progress_bar() -> None:
    assert describe(events.ProducerProgress(producer="a", done=1, total=2, unit="bytes"), bodies=None) is None


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_has_a_line_or_is_known_to_have_none(kind: type[Any]) -> None:
    line = describe(example_of(kind), bodies=10)
    assert (line is None) == (kind is events.ProducerProgress)
    if line is not None:
        assert line.level in (DEBUG, INFO, WARNING, ERROR)
        assert line.subject and " " not in line.subject
        assert line.sentence == line.sentence.strip() != ""


def example_of(kind: type[Any]) -> Event:
    """An event of that kind with something in every field."""
    assert issubclass(kind, Struct)
    numbers = dict.fromkeys((*CONSUMER_TERMS, *PRODUCER_TERMS, "in_hand", "pending"), 1)
    by_name: dict[str, Any] = {"consumers": numbers, "producers": numbers, "level": "info", "pipelines": ("shop",)}
    if kind is events.Ready:
        by_name |= {"consumers": 1, "producers": 1}
    by_type: dict[Any, Any] = {
        str: "text",
        int: 3,
        float: 1.5,
        bool: True,
        bytes: b"hello",
        tuple[str, ...]: ("a.py:1",),
    }
    by_type |= {tuple[str | None, ...]: ("m-1", None), str | None: "m-1", int | None: 3, float | None: 1.5}
    hints = get_type_hints(kind)
    values = {each.name: by_name.get(each.name, by_type.get(hints[each.name])) for each in structs.fields(kind)}
    return cast(Event, cast(Any, kind)(**values))


# What strangers write: ids, bodies, texts of exceptions


@pytest.mark.parametrize(
    ("body", "limit", "shown"),
    [
        (b"hello", 10, '"hello"'),
        (b"hello", 5, '"hello"'),
        (b"hello", 4, '"hell"... (5 bytes)'),
        (b"", 4, '""'),
        (b"a\nb\x1b[31mc", 20, r'"a\nb\x1b[31mc"'),
        ("grüße".encode(), 3, '"gr"... (7 bytes)'),  # the third byte is half of a character
        ("grüße".encode(), 4, '"grü"... (7 bytes)'),
        (b"\xff\xfe\x00", 10, "3 bytes that are no text"),
        (b"\xff" * 20, 10, "20 bytes that are no text"),
        (b"\xff", 10, "1 byte that are no text"),
        ("abc\u202edef".encode(), 20, r'"abc\u202edef"'),
    ],
)
def test_a_body_is_shown_escaped_and_bounded(body: bytes, limit: int, shown: str) -> None:
    assert shown_body(body, limit) == shown


@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")), st.integers(0, 90)
)
def test_no_body_breaks_a_line_or_shows_more_than_was_asked_for(body: bytes, limit: int) -> None:
    shown = shown_body(body, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 40


@pytest.mark.parametrize(
    ("event", "bodies", "shown"),
    [
        (failed(), None, False),
        (failed(), 100, True),
        (retried(), None, False),
        (retried(), 100, True),
        (events.MessageReceived(consumer="a", message_id="m", redelivered=False, attempt=1, body=b"{}"), None, False),
        (events.MessageReceived(consumer="a", message_id="m", redelivered=False, attempt=1, body=b"{}"), 100, True),
    ],
)
def test_bodies_are_shown_only_where_asked_for(event: Event, bodies: int | None, shown: bool) -> None:
    line = describe(event, bodies=bodies)
    assert line is not None
    assert ("body" in line.sentence and "{" in line.sentence) == shown


def test_no_id_breaks_a_line_or_colours_it() -> None:
    line = describe(failed(message_id="m\n12:00:00 error pipeline: forged\x1b[2J" + "x" * 5_000), bodies=None)
    assert line is not None
    assert line.sentence.isprintable()
    assert r"message m\n12:00:00 error pipeline: forged\x1b[2J" in line.sentence
    assert len(line.sentence) < 500


def test_the_lines_of_an_exception_are_kept_and_none_passes_for_a_line_of_the_log() -> None:
    line = describe(
        failed(error="ValidationError: 2 errors\n12:00:00 error forged\r\n  \x1b[2Jid: missing"), bodies=None
    )
    assert line is not None
    first, *others = line.sentence.split("\n")
    assert first == "message m-1 failed (fatal): ValidationError: 2 errors"
    assert [other[:4] for other in others] == ["    ", "    "]
    assert r"  \x1b[2Jid: missing; it is copied" in others[1]


def test_an_exception_that_holds_a_whole_body_is_cut() -> None:
    line = describe(failed(error="ValueError: " + "x" * 10_000_000), bodies=None)
    assert line is not None
    assert len(line.sentence) < 1_500
    assert "xxx... (10000012 characters); it is copied" in line.sentence


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 ms"), (0.0301, "30 ms"), (0.5, "500 ms"), (1, "1 s"), (2.5, "2.5 s"), (25.0, "25 s"), (3600, "3600 s")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown
