"""The event log by itself: what it keeps, what can be asked of it, and how one waits for what has not happened yet."""

import asyncio
import threading
from typing import Any

import pytest

from pipeline.embedded.ground.event_log import EventLog
from pipeline.embedded.ground.journal import Event, Journal, Kind, Who
from pipeline.embedded.ground.timeline import Timeline
from tests.waiting import deadline

WHO = Who(connection="127.0.0.1:5", name="shop", vhost="/", channel=1)


def event(kind: Kind = "published", **values: Any) -> Event:
    return Event(kind=kind, time=0.0, **values)


def test_it_keeps_the_newest() -> None:
    log = EventLog(3)
    for tag in range(5):
        log.add(event(tag=tag))
    assert len(log) == 3
    assert [each.tag for each in log] == [2, 3, 4]


def test_events_are_found_by_kind_and_values() -> None:
    log = EventLog()
    log.add(event(queue="a", tag=1))
    log.add(event("confirmed", tag=1))
    log.add(event(queue="b", tag=2))
    assert [each.tag for each in log.of("published")] == [1, 2]
    assert [each.tag for each in log.of("published", queue="b", body=b"")] == [2]
    assert log.of("published", queue="b", tag=1) == []


def test_a_kind_or_a_field_that_does_not_exist_is_an_error() -> None:
    log = EventLog()
    with pytest.raises(ValueError, match="no event is called 'acked'; there are: connection opened, "):
        log.of("acked")  # type: ignore[arg-type]  # a slip that a checker of types would find
    with pytest.raises(ValueError, match="an event has no 'key'; it has: body, channel, "):
        log.wait_for("published", key="x")
    with pytest.raises(ValueError, match="cannot wait for 0 events"):
        log.wait_for("published", count=0)


def test_what_has_happened_already_need_not_be_waited_for() -> None:
    log = EventLog()
    for tag in range(3):
        log.add(event(tag=tag))
    assert log.wait_for("published").tag == 0
    assert log.wait_for("published", count=3).tag == 2


def test_a_wait_ends_with_the_last_event_that_was_wanted() -> None:
    log = EventLog()
    log.add(event(queue="a", tag=1))
    found: list[int] = []
    waiting = threading.Thread(
        target=lambda: found.append(log.wait_for("published", queue="a", count=3, seconds=deadline(10)).tag)
    )
    waiting.start()
    for tag in range(2, 6):
        log.add(event(queue="b", tag=tag))
        log.add(event(queue="a", tag=tag))
    waiting.join(deadline(10))
    assert found == [3]


async def test_one_can_await_an_event_from_another_thread() -> None:
    log = EventLog()
    thread = threading.Timer(0, lambda: log.add(event("delivered", tag=7)))
    waiting = asyncio.create_task(log.seen("delivered", seconds=deadline(10)))
    thread.start()
    assert (await waiting).tag == 7
    thread.join()


async def test_a_wait_in_vain_shows_what_has_happened_instead() -> None:
    log = EventLog()
    for tag in range(30):
        log.add(event(tag=tag, queue="q"))
    log.add(event("delivered", tag=1, redelivered=True))
    with pytest.raises(TimeoutError) as sync:
        log.wait_for("acknowledged", queue="q", count=2, seconds=0.01)
    with pytest.raises(TimeoutError) as awaited:
        await log.seen("acknowledged", queue="q", count=2, seconds=0.01)
    assert str(sync.value) == str(awaited.value)
    lines = str(sync.value).splitlines()
    assert lines[0] == "2 x 'acknowledged', queue='q' did not come within 0.01 s; the newest events:"
    assert len(lines) == 21
    assert lines[-2:] == ["  published, queue='q', tag=29", "  delivered, redelivered=True, tag=1"]
    # And nobody waits any longer
    log.add(event("acknowledged", queue="q"))
    assert log._waiting == []


async def test_a_wait_that_is_cancelled_is_forgotten() -> None:
    log = EventLog()
    waiting = asyncio.create_task(log.seen("published"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    log.add(event())
    assert log._waiting == []


def test_events_may_happen_while_the_log_is_read() -> None:
    log = EventLog()
    log.add(event(tag=1))
    for each in log:
        log.add(event(tag=each.tag + 1))
    assert len(log) == 2


# The journal


def test_as_long_as_nobody_listens_the_journal_is_closed() -> None:
    journal = Journal(Timeline())
    one, other = EventLog(), EventLog()
    assert not journal.open
    journal.listen(one.add)
    journal.listen(other.add)
    journal.tell("channel opened", WHO)
    journal.leave(one.add)
    assert journal.open
    journal.tell("channel closed", WHO, reason="404 NOT_FOUND")
    journal.leave(other.add)
    assert not journal.open
    assert [each.kind for each in one] == ["channel opened"]
    assert [each.kind for each in other] == ["channel opened", "channel closed"]
    [closed] = other.of("channel closed")
    assert (closed.connection, closed.name, closed.vhost, closed.channel) == ("127.0.0.1:5", "shop", "/", 1)
    assert closed.reason == "404 NOT_FOUND"


def test_an_event_has_the_time_of_messages() -> None:
    timeline, log = Timeline(), EventLog()
    journal = Journal(timeline)
    journal.listen(log.add)
    timeline.advance(5.0, 1_700_000_000.0)
    journal.tell("queue declared", vhost="/", queue="q")
    assert log.wait_for("queue declared", queue="q", vhost="/").time == 1_700_000_000.0
