"""The real port under damaged conversations, slow ones and one-sided ones: nobody is kept waiting by them, nothing of
them is left on the broker's loop, and what they do not read or do not finish saying takes no room."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp.commands import Basic, Connection, Queue

from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.connections import server
from pipeline.embedded.connections.client import HIGH_WATER, Client
from pipeline.embedded.connections.connection import HANDSHAKE_SECONDS
from pipeline.embedded.wire.outbox import TOO_MUCH
from tests.embedded import made_up
from tests.embedded.conversation import CAPABILITIES, PROTOCOL_HEADER, publishing
from tests.embedded.stranger import on_fake_time, pass_by
from tests.embedded.wire import Wire, marshalled, opened
from tests.waiting import wait_until

some = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedBroker]:
    """One for all tests here. What is raised on its loop, and would be written into a log only, is a failure."""
    raised: list[dict[str, Any]] = []

    def listen() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))

    with EmbeddedBroker() as broker:
        broker._over_there(listen)
        yield broker
        assert raised == []


def tasks(broker: EmbeddedBroker) -> list[str]:
    """What runs on the broker's loop, without who asks."""
    return broker._over_there(
        lambda: sorted(
            getattr(task.get_coro(), "__qualname__", "?")
            for task in asyncio.all_tasks()
            if task is not asyncio.current_task()
        )
    )


def nothing_is_left(broker: EmbeddedBroker) -> None:
    """Nobody is connected, nothing runs but the broker's two clocks, and new clients are served."""
    wait_until(lambda: broker.connections() == [], told="the end of all connections")
    clocks = (["Server._tick"], ["Bell._sleep", "Server._tick"])
    wait_until(lambda: tasks(broker) in clocks, told="the end of all tasks but the clocks")
    with opened(broker.url, 1) as wire:
        wire.say(1, Queue.Declare(0, "fresh", exclusive=True))
        assert wire.expect(1, Queue.DeclareOk).message_count == 0
    wait_until(lambda: "fresh" not in broker.queue_depths(), told="the end of an exclusive queue")


# What is damaged


@some
@given(made_up.conversations, st.binary(max_size=40), st.integers(1, 4000), st.booleans())
def test_made_up_conversations_leave_nothing_behind(
    shared: EmbeddedBroker, steps: list[bytes], more: bytes, tear: int, cut: bool
) -> None:
    octets = b"".join(steps) + more
    with opened(shared.url, 1) as other, opened(shared.url, 1, 2) as wire:
        with suppress(OSError):  # the broker may have hung up before all of it was sent
            for start in range(0, len(octets), tear):
                wire.send(octets[start : start + tear])
        if not cut:
            wire.finish()
        # Others are served
        other.say(1, Basic.Qos(0, 1))
        other.expect(1, Basic.QosOk)
    nothing_is_left(shared)


@some
@given(st.binary(max_size=100_000), st.integers(0, 2))
def test_random_octets_at_any_time_leave_nothing_behind(shared: EmbeddedBroker, octets: bytes, stage: int) -> None:
    with Wire(shared.url) as wire:
        if stage > 0:
            wire.greet()
        if stage > 1:
            wire.log_in()
        with suppress(OSError):
            wire.send(octets)
        wire.finish()
    nothing_is_left(shared)


# Who takes their time


def hello(broker: EmbeddedBroker) -> bytes:
    start: dict[str, Any] = {"capabilities": dict(CAPABILITIES)}
    login = Connection.StartOk(start, "PLAIN", f"\0piperun\0{broker.password}", "en_US")
    return PROTOCOL_HEADER + marshalled(0, login)


@pytest.mark.parametrize("octets", [1, 12])
def test_a_handshake_that_drips_is_ended_in_time_however_much_has_come(octets: int) -> None:
    with on_fake_time() as (broker, clock), Wire(broker.url) as slow, opened(broker.url, 1) as quick:
        whole = hello(broker)
        assert HANDSHAKE_SECONDS * octets < len(whole)
        seconds = 0
        while len(broker.connections()) == 2:
            with suppress(OSError):
                slow.send(whole[seconds * octets : (seconds + 1) * octets])
            assert seconds <= HANDSHAKE_SECONDS + 1
            pass_by(broker, clock, 1)
            seconds += 1
        assert seconds >= HANDSHAKE_SECONDS
        quick.say(1, Basic.Qos(0, 1))
        quick.expect(1, Basic.QosOk)


def test_strangers_who_only_knock_use_up_no_more_than_the_connections_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 20)
    with on_fake_time() as (broker, clock), ExitStack() as stack:
        wires = [stack.enter_context(Wire(broker.url)) for _ in range(60)]
        # Forty are hung up on at once, twenty when their time is over
        for wire in wires[20:]:
            assert wire.hear() is None
        wait_until(lambda: len(broker.connections()) == 20)
        pass_by(broker, clock, 1)
        pass_by(broker, clock, HANDSHAKE_SECONDS)
        for wire in wires[:20]:
            assert wire.hear() is None
        nothing_is_left(broker)


# Who does not read


def held_back(broker: EmbeddedBroker) -> int:
    """Octets that wait for peers who do not read, in outboxes and with the sockets."""

    def size(client: Client) -> int:
        transport = client._transport
        return client.connection.outbox.size + (transport.get_write_buffer_size() if transport is not None else 0)

    return broker._over_there(lambda: sum(map(size, broker._running().clients)))


def test_who_asks_and_does_not_read_the_answers_is_not_read_either(shared: EmbeddedBroker) -> None:
    # Given messages that come back, since nobody wants them, and a client that does not look
    size, count = 100_000, 400
    message = marshalled(1, *publishing("nowhere", b"x" * size, mandatory=True))
    with opened(shared.url, 1) as deaf, opened(shared.url, 1) as other:
        sent = deaf.send_what_fits(message * count, patience=1)
        # When the broker no longer reads, then it keeps no more than it may, and serves others
        assert sent < size * count
        assert held_back(shared) <= TOO_MUCH + HIGH_WATER + 2 * size
        other.say(1, Basic.Qos(0, 1))
        other.expect(1, Basic.QosOk)
        # And goes on where it stopped, as soon as the client reads
        got = 0
        rest = (message * count)[sent:]
        while got < count:
            sent = deaf.send_what_fits(rest, patience=0)
            rest = rest[sent:]
            heard = deaf.hear()
            assert heard is not None
            got += isinstance(heard[1], Basic.Return)
        assert not rest
    nothing_is_left(shared)


def test_what_is_asked_in_one_go_is_not_answered_into_memory(shared: EmbeddedBroker) -> None:
    # Given a large message, and a client that asks for it two thousand times with one write
    with opened(shared.url, 1) as deaf:
        deaf.say(1, Queue.Declare(0, "large", exclusive=True), *publishing("large", b"x" * 100_000))
        deaf.expect(1, Queue.DeclareOk)
        deaf.send(marshalled(1, *[each for _ in range(2000) for each in (Basic.Get(0, "large"), Basic.Recover(True))]))
        # When nobody reads, then a few of the answers wait, and most of the questions
        seen = [0, 0]
        while seen[-1] == 0 or seen[-1] != seen[-2]:
            seen.append(wait_until(lambda: held_back(shared), told="an answer that waits"))
        assert max(seen) <= TOO_MUCH + HIGH_WATER + 200_000
    nothing_is_left(shared)
