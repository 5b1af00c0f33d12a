"""How a file's connections and consumers stand, heard from its events and kept in integers."""

from collections.abc import Callable

import pytest

from pipeline import events
from pipeline.events import Event
from pipeline.observe.health import Connection, Registered
from pipeline.runtime.plan import plan
from pipeline.runtime.table import Row, Table
from tests.models import a_consumer, a_pipeline, a_queue

PLANS = [
    plan(
        a_pipeline(
            name=name,
            queues=(a_queue("billing"),),
            consumers=(a_consumer("charge"), a_consumer("count", ack="none")),
        )
    )
    for name in ("shop", "other")
]


@pytest.fixture
def row() -> Row:
    return Table(PLANS, rows=2).rows[1]


def listening(row: Row, file: int = 0) -> Callable[[Event], None]:
    return row.standings[file].listening(lambda _: None, lambda text: text.replace("secret", "***"))


def connections(row: Row, file: int = 0) -> dict[str, Connection]:
    return {each.name: each for each in row.standings[file].connections()}


def consumers(row: Row, file: int = 0) -> dict[str, Registered]:
    return {each.consumer: each for each in row.standings[file].consumers()}


def started(name: str) -> Event:
    return events.ConsumerStarted(consumer=name, queue="billing")


def lost(link: str, reason: str = "reset by peer") -> Event:
    return events.ConnectionLost(link=link, reason=reason, next_attempt=1)


def connected(link: str) -> Event:
    return events.Connected(link=link, address="rabbit:5672")


def test_in_the_beginning_nothing_is_up_and_nobody_is_registered(row: Row) -> None:
    assert list(connections(row)) == ["publish", "consume", "consume-none"]
    assert {each.up for each in connections(row).values()} == {False}
    assert {each.state for each in consumers(row).values()} == {"waiting"}
    assert consumers(row)["charge"].queue == "billing"
    assert [{each.pipeline for each in standing.consumers()} for standing in row.standings] == [{"shop"}, {"other"}]


def test_a_connection_that_comes_goes_and_comes_again(row: Row) -> None:
    hear = listening(row)
    hear(events.ConnectFailed(link="publish", reason="refused, secret", next_attempt=1))
    assert (connections(row)["publish"].up, connections(row)["publish"].reason) == (False, "refused, ***")
    hear(connected("publish"))
    assert (connections(row)["publish"].up, connections(row)["publish"].reason) == (True, "")
    assert connections(row)["publish"].reconnects == 0
    hear(lost("publish"))
    assert (connections(row)["publish"].up, connections(row)["publish"].reason) == (False, "reset by peer")
    hear(events.ConnectFailed(link="publish", reason="refused", next_attempt=1))
    hear(connected("publish"))
    assert (connections(row)["publish"].up, connections(row)["publish"].reconnects) == (True, 1)
    assert not connections(row)["consume"].up


def test_an_alarm_blocks_and_is_over_with_its_end_or_with_the_connection(row: Row) -> None:
    hear = listening(row)
    hear(connected("publish"))
    hear(events.Blocked(link="publish"))
    assert connections(row)["publish"].blocked and connections(row)["publish"].up
    hear(events.Unblocked(link="publish"))
    assert not connections(row)["publish"].blocked
    hear(events.Blocked(link="publish"))
    hear(lost("publish"))
    hear(events.Unblocked(link="publish"))  # nobody is blocked where there is no connection
    assert not connections(row)["publish"].up and not connections(row)["publish"].blocked
    assert connections(row)["publish"].reason == "reset by peer"


def test_a_lost_connection_takes_its_own_consumers_with_it(row: Row) -> None:
    hear = listening(row)
    for event in (connected("consume"), connected("consume-none"), started("charge"), started("count")):
        hear(event)
    hear(lost("consume"))
    assert [each.state for each in consumers(row).values()] == ["waiting", "registered"]
    hear(connected("consume"))
    assert consumers(row)["charge"].state == "waiting"
    hear(started("charge"))
    assert consumers(row)["charge"].state == "registered"


def test_what_the_broker_does_to_a_consumer_is_kept_with_its_reason(row: Row) -> None:
    hear = listening(row)
    hear(started("charge"))
    hear(events.ConsumerInterrupted(consumer="charge", queue="billing", reason="cancelled, secret", next_attempt=1))
    assert (consumers(row)["charge"].state, consumers(row)["charge"].reason) == ("interrupted", "cancelled, ***")
    hear(events.ConsumerInConflict(consumer="charge", queue="billing", reason="it is not there", next_attempt=1))
    assert (consumers(row)["charge"].state, consumers(row)["charge"].reason) == ("conflict", "it is not there")
    hear(started("charge"))
    assert (consumers(row)["charge"].state, consumers(row)["charge"].reason) == ("registered", "")


def test_a_consumer_with_no_slot_left_is_not_registered_until_one_is_free(row: Row) -> None:
    hear = listening(row)
    hear(started("charge"))
    hear(events.HandlerStuck(consumer="charge", message_id="m-1", stuck=1, slots=2))
    assert consumers(row)["charge"].state == "registered"
    hear(events.HandlerStuck(consumer="charge", message_id="m-2", stuck=2, slots=2))
    assert consumers(row)["charge"].state == "interrupted"
    assert consumers(row)["charge"].reason == "every slot is taken by a thread that does not end"
    hear(events.HandlerFreed(consumer="charge", stuck=1, slots=2))
    assert consumers(row)["charge"].state == "registered"
    # One that is in conflict meanwhile stays so
    hear(events.HandlerStuck(consumer="charge", message_id="m-3", stuck=2, slots=2))
    hear(events.ConsumerInConflict(consumer="charge", queue="billing", reason="it is not there", next_attempt=1))
    hear(events.HandlerFreed(consumer="charge", stuck=1, slots=2))
    assert consumers(row)["charge"].state == "conflict"


def test_a_consumer_that_pauses_itself_stays_paused_when_its_connection_comes_again(row: Row) -> None:
    hear = listening(row)
    for event in (connected("consume-none"), started("count"), events.ConsumerPaused(consumer="count", waiting=1000)):
        hear(event)
    for event in (lost("consume-none"), connected("consume-none")):
        hear(event)
        assert consumers(row)["count"].state == "paused"
    hear(events.ConsumerResumed(consumer="count", waiting=100))
    assert consumers(row)["count"].state == "registered"


def test_two_files_with_a_consumer_of_one_name_are_not_mixed_up(row: Row) -> None:
    listening(row, 1)(started("charge"))
    assert consumers(row, 0)["charge"].state == "waiting"
    assert consumers(row, 1)["charge"].state == "registered"


def test_events_go_on_to_whoever_listened_before(row: Row) -> None:
    seen: list[Event] = []
    hear = row.standings[0].listening(seen.append, str)
    for event in (connected("publish"), events.Notice(subject="pipeline", sentence="hello")):
        hear(event)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("", ""),
        ("Verbindung wurde zurückgesetzt", "Verbindung wurde zurückgesetzt"),
        ("two\nlines\0and \x1b[31mcolour", "two lines and  [31mcolour"),
        ("x" * 192, "x" * 192),
        ("x" * 193, "x" * 189 + "..."),
        ("x" + "ü" * 200, "x" + "ü" * 94 + "..."),
        ("\ud800", " "),
    ],
)
def test_a_reason_is_one_line_of_bounded_length(row: Row, reason: str, kept: str) -> None:
    listening(row)(lost("publish", reason))
    assert connections(row)["publish"].reason == kept


def test_a_long_reason_leaves_nothing_behind_in_a_short_one(row: Row) -> None:
    hear = listening(row)
    hear(lost("publish", "x" * 100))
    hear(lost("publish", "short"))
    assert connections(row)["publish"].reason == "short"


def test_the_next_worker_begins_anew_and_what_was_counted_stays(row: Row) -> None:
    hear = listening(row)
    for event in (connected("publish"), lost("publish"), connected("publish"), started("charge")):
        hear(event)
    row.clear_phase()
    assert (connections(row)["publish"].up, connections(row)["publish"].reconnects) == (False, 1)
    assert consumers(row)["charge"].state == "waiting"
    listening(row)(connected("publish"))
    assert connections(row)["publish"].reconnects == 1


def test_rows_do_not_touch_each_other() -> None:
    table = Table(PLANS, rows=2)
    listening(table.rows[0])(started("charge"))
    table.rows[0].consumers[0][0].delivered(3)
    assert consumers(table.rows[1])["charge"].state == "waiting"
    assert consumers(table.rows[0], 1)["charge"].state == "waiting"
    assert table.rows[1].delivered == 0
