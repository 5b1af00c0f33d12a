"""A mistake in the broker's own code costs one connection, which is told 541, and is on the log with its traceback.
Nobody else notices, and the broker can be stopped as ever."""

import asyncio
import logging
import re
from collections.abc import Callable

import pytest
from aio_pika import Message
from aiormq.exceptions import ConnectionInternalError

from pipeline.clock import FakeClock
from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.connections import server
from pipeline.embedded.connections.connection import Connection
from pipeline.embedded.queues.queue import Queue
from tests.embedded.stranger import connect, end_of, stranger
from tests.waiting import deadline, wait_until


class Mistake(Exception):
    pass


def mistaken(*_: object, **__: object) -> None:
    raise Mistake("nobody has thought of this")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log has of mistakes; each with its traceback."""
    records = [record for record in caplog.records if record.exc_info and record.exc_info[0] is Mistake]
    assert {record.levelno for record in records} <= {logging.ERROR}
    return [record.getMessage() for record in records]


async def test_it_costs_the_connection_that_has_met_it_and_gives_back_what_that_had(
    embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unlucky, other = await connect(embedded.url, "unlucky"), await connect(embedded.url, "other")
    closed = end_of(unlucky)
    channel, others = await unlucky.channel(), await other.channel()
    queue = await channel.declare_queue("q", durable=True)
    await channel.default_exchange.publish(Message(b"x"), "q")
    assert await queue.get(timeout=deadline(10))
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "push", mistaken)
        with pytest.raises(ConnectionInternalError, match="INTERNAL_ERROR - the broker has made a mistake"):
            await asyncio.wait_for(channel.default_exchange.publish(Message(b"y"), "q"), deadline(10))
    assert "INTERNAL_ERROR" in str(await asyncio.wait_for(closed, deadline(10)))
    again = await (await others.get_queue("q")).get(timeout=deadline(10))
    assert again is not None and again.redelivered
    await again.ack()
    assert [each.name for each in embedded.connections()] == ["other"]
    [line] = told(caplog)
    assert re.fullmatch(r"a mistake in the embedded broker: it costs 127\.0\.0\.1:\d+ its connection", line)
    await other.close()
    await unlucky.close()


def test_a_peer_that_cannot_even_be_told_so_is_hung_up_on(
    embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with stranger(embedded) as one, stranger(embedded) as other:
        one.open()
        monkeypatch.setattr(Connection, "receive", mistaken)
        monkeypatch.setattr(Connection, "lost", mistaken)
        one.socket.sendall(b"anything")
        assert one.hear_all() == b""
        monkeypatch.undo()
        other.open()
        wait_until(lambda: len(embedded.connections()) == 1)
    assert [each.rpartition(" ")[2] for each in told(caplog)] == ["connection", "so", "connection"]


@pytest.mark.parametrize("state", ["greeted", "open"])
def test_a_mistake_as_time_goes_by_stops_nobody_elses_heartbeats(
    state: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    tick = Connection.tick
    with EmbeddedBroker(link_clock=clock) as broker, stranger(broker) as one, stranger(broker) as other:
        if state == "open":
            one.open()
        other.open(heartbeat=10)
        unlucky = broker.connections()[0].peer

        def sometimes(connection: Connection, now: float) -> None:
            if connection.peer == unlucky:
                mistaken()
            tick(connection, now)

        monkeypatch.setattr(Connection, "tick", sometimes)
        for seconds in (server.TICK_SECONDS, 6.0):
            wait_until(lambda: clock.waiting)
            clock.advance(seconds)
        heard = one.hear(11) if state == "open" else one.hear_all()
        assert heard[7:11] == (b"\x00\x0a\x00\x32" if state == "open" else b"")
        assert other.hear(8) == b"\x08\x00\x00\x00\x00\x00\x00\xce"
    assert told(caplog)


def test_a_mistake_in_something_that_was_due_costs_nobody_a_connection(
    embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def due_now(act: Callable[[], None]) -> None:
        embedded._over_there(lambda: embedded._node.timeline.after(0, act))

    with stranger(embedded) as one:
        one.open()
        due_now(mistaken)
        wait_until(lambda: told(caplog) == ["a mistake in the embedded broker: something that was due is left undone"])
        done: list[int] = []
        due_now(lambda: done.append(1))
        wait_until(lambda: done)
        assert len(embedded.connections()) == 1


def test_a_broker_that_fails_to_stop_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = EmbeddedBroker()
    broker.start()
    monkeypatch.setattr(server.Server, "drop", mistaken)
    with pytest.raises(Mistake):
        broker.stop()
    assert repr(broker) == "<EmbeddedBroker not running>"
    broker.stop()
