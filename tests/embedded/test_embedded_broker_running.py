"""The broker as others use it: started, reached over its port by clients and by strangers, controlled, stopped."""

import asyncio
import random
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelPreconditionFailed, ProbableAuthenticationError
from pamqp import frame
from pamqp.commands import Basic, Queue
from pamqp.common import FieldTable

from pipeline.clock import FakeClock
from pipeline.embedded import NOT_DONE, EmbeddedBroker
from pipeline.embedded.connections import server
from tests.embedded.conversation import PROTOCOL_HEADER, publishing
from tests.embedded.stranger import Stranger, connect, end_of, on_fake_time, pass_by, stranger
from tests.waiting import deadline, eventually, wait_until

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


# Start and stop


def test_it_is_there_when_start_returns_and_gone_when_stop_does() -> None:
    before = set(threading.enumerate())
    broker = EmbeddedBroker()
    broker.start()
    with stranger(broker) as one:
        one.open()
    (thread,) = set(threading.enumerate()) - before
    broker.stop()
    broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port), 1)
    assert (thread.name, thread.is_alive()) == ("piperun-embedded-broker", False)


def test_it_is_started_once(embedded: EmbeddedBroker) -> None:
    with pytest.raises(RuntimeError, match="started before"):
        embedded.start()


def test_stopping_what_was_never_started_is_fine() -> None:
    broker = EmbeddedBroker()
    broker.stop()
    assert broker.message_count == 0
    with pytest.raises(RuntimeError, match="call start"):
        broker.drop_connections()


def test_the_url_has_a_random_port_and_password_and_nothing_else_shows_it() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        parts = urlsplit(one.url)
        assert (parts.scheme, parts.hostname, parts.path, parts.username) == ("amqp", "127.0.0.1", "/", "piperun")
        assert parts.password and len(parts.password) >= 24
        assert one.password != other.password
        assert one.port != other.port
        assert one.password not in repr(one)
        assert str(one.port) in repr(one)
    assert repr(one) == "<EmbeddedBroker not running>"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::"])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match=f"listens on loopback only, not on {host}"):
        EmbeddedBroker(host=host)


def test_a_port_that_is_taken_is_an_error_at_the_start(embedded: EmbeddedBroker) -> None:
    other = EmbeddedBroker(port=embedded.port)
    with pytest.raises(OSError, match="address already in use"):
        other.start()
    other.stop()


async def test_stopping_closes_each_connection_with_a_word_and_tells_what_is_lost() -> None:
    broker = EmbeddedBroker()
    broker.start()
    connection = await connect(broker.url)
    closed = end_of(connection)
    channel = await connection.channel()
    await channel.declare_queue("q", durable=True)
    await channel.default_exchange.publish(Message(b"x"), "q")
    await asyncio.to_thread(broker.stop)
    reason = await asyncio.wait_for(closed, deadline(10))
    assert "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'" in str(reason)
    assert broker.message_count == 1
    assert broker.queue_depths() == {"q": 1}
    await connection.close()


def test_stopping_does_not_wait_for_a_peer_that_never_answers() -> None:
    broker = EmbeddedBroker()
    broker.start()
    with stranger(broker) as one:
        one.open()
        broker.stop()
        assert b"CONNECTION_FORCED" in one.hear_all()


def test_it_can_be_asked_while_it_is_being_stopped() -> None:
    broker = EmbeddedBroker()
    broker.start()
    stopping = threading.Thread(target=broker.stop)
    with stranger(broker) as one:
        one.open()
        stopping.start()
        while stopping.is_alive():
            assert broker.message_count == 0
        stopping.join()
    assert broker.queue_depths() == {}


def test_what_it_does_not_do_is_written_down() -> None:
    assert all(NOT_DONE)
    assert any("streams" in line for line in NOT_DONE)


# Clients


async def test_a_wrong_password_is_refused_in_rabbitmqs_words(embedded: EmbeddedBroker) -> None:
    url = embedded.url.replace(embedded.password, "wrong")
    with pytest.raises(ProbableAuthenticationError, match="ACCESS_REFUSED - Login was refused using"):
        await connect(url)


async def test_virtual_hosts_are_made_beforehand_or_later() -> None:
    with EmbeddedBroker(vhosts=("/", "a b")) as broker:
        broker.add_vhost("later")
        broker.add_vhost("later")
        for vhost in ("/", "a b", "later"):
            connection = await connect(broker.url_of(vhost))
            async with connection:
                await (await connection.channel()).declare_queue(f"in {vhost}", durable=True)
        assert broker.queue_depths() == {"in /": 0, "a b:in a b": 0, "later:in later": 0}


async def test_it_knows_who_is_connected(embedded: EmbeddedBroker) -> None:
    assert embedded.connections() == []
    connection = await connect(embedded.url, "mine")
    [seen] = embedded.connections()
    assert seen.name == "mine"
    assert seen.peer.startswith("127.0.0.1:")
    await connection.close()
    await eventually(lambda: embedded.connections() == [])


async def test_messages_take_their_time_from_the_clock_that_was_handed_in() -> None:
    clock = FakeClock(time=1_700_000_000.0)
    with EmbeddedBroker(clock=clock) as broker:
        connection = await connect(broker.url)
        async with connection:
            channel = await connection.channel()
            arguments: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
            work = await channel.declare_queue("work", durable=True, arguments=arguments)
            dead = await channel.declare_queue("dead", durable=True)
            await channel.default_exchange.publish(Message(b"x"), "work")
            message = await work.get(timeout=deadline(10))
            assert message is not None
            clock.advance(60)
            await message.reject()
            buried = await dead.get(timeout=deadline(10))
            assert buried is not None
            history: Any = buried.headers["x-death"]
            assert history[0]["time"].timestamp() == 1_700_000_060
            await buried.ack()


# Controls


async def test_lines_can_be_cut_without_a_word(embedded: EmbeddedBroker) -> None:
    connection = await connect(embedded.url)
    closed = end_of(connection)
    embedded.drop_connections()
    reason = await asyncio.wait_for(closed, deadline(10))
    assert "CONNECTION_FORCED" not in str(reason)
    await eventually(lambda: embedded.connections() == [])
    await connection.close()


async def test_connections_can_be_closed_with_a_code_and_a_reason(embedded: EmbeddedBroker) -> None:
    connection = await connect(embedded.url)
    closed = end_of(connection)
    embedded.close_connections(541, "the test says so")
    assert "INTERNAL_ERROR - the test says so" in str(await asyncio.wait_for(closed, deadline(10)))
    await connection.close()


async def test_the_channels_that_consume_a_queue_can_be_closed(embedded: EmbeddedBroker) -> None:
    connection = await connect(embedded.url)
    async with connection:
        consuming, other = await connection.channel(), await connection.channel()
        queue = await consuming.declare_queue("q", durable=True)
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(inbox.put)
        underlay = await consuming.get_underlay_channel()
        closing = underlay.closing
        embedded.close_channels_consuming("q", reason="delivery acknowledgement on channel 1 timed out")
        with pytest.raises(ChannelPreconditionFailed, match="delivery acknowledgement on channel 1 timed out"):
            await asyncio.wait_for(closing, deadline(10))
        assert (await other.declare_queue("q", durable=True)).declaration_result.consumer_count == 0


# Strangers


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"\x16\x03\x01"]
)
def test_who_does_not_speak_amqp_is_told_what_would_be_and_hung_up_on(embedded: EmbeddedBroker, octets: bytes) -> None:
    with stranger(embedded) as one:
        one.socket.sendall(octets)
        assert one.hear_all() == PROTOCOL_HEADER


@pytest.mark.parametrize("seed", range(20))
def test_random_octets_never_hang(embedded: EmbeddedBroker, seed: int) -> None:
    chance = random.Random(seed)
    with stranger(embedded) as one:
        if seed % 2:
            one.open()
        with suppress(OSError):  # the broker may have hung up before all of it was sent
            one.socket.sendall(chance.randbytes(chance.randrange(8, 200_000)))
            one.socket.shutdown(socket.SHUT_WR)
        one.hear_all()
    with stranger(embedded) as one:
        one.open()
    wait_until(lambda: embedded.connections() == [])


def test_frames_cut_in_the_middle_leave_nothing_behind(embedded: EmbeddedBroker) -> None:
    whole = b"".join(
        frame.marshal(each, 1) for each in [Queue.Declare(0, "q", durable=True), *publishing("q", b"body")]
    )
    for end in range(0, len(whole), 7):
        with stranger(embedded) as one:
            one.open()
            one.socket.sendall(whole[:end])
    wait_until(lambda: embedded.connections() == [])
    assert embedded.message_count == 0


def test_there_are_only_so_many_connections(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    with stranger(embedded) as one, stranger(embedded) as two:
        one.open()
        two.open()
        with stranger(embedded) as three:
            assert three.hear_all() == b""
        two.say(1, Basic.Qos(0, 1))
        assert two.hear(12)[7:11] == b"\x00\x3c\x00\x0b"
    wait_until(lambda: embedded.connections() == [])
    with stranger(embedded) as four:
        four.open()


# Time


def test_who_never_says_hello_is_hung_up_on() -> None:
    with on_fake_time() as (broker, clock), stranger(broker) as one:
        wait_until(lambda: len(broker.connections()) == 1)
        pass_by(broker, clock, 1)
        pass_by(broker, clock, 10)
        assert one.hear_all() == b""


def test_heartbeats_go_both_ways_and_two_that_are_missed_are_the_end() -> None:
    with on_fake_time() as (broker, clock), stranger(broker) as one:
        one.open(heartbeat=10)
        pass_by(broker, clock, 1)
        pass_by(broker, clock, 6)
        assert one.hear(8) == HEARTBEAT
        one.socket.sendall(HEARTBEAT)
        one.say(1, Basic.Qos(0, 1))
        assert one.hear(12)[7:11] == b"\x00\x3c\x00\x0b"  # so the broker has read both
        pass_by(broker, clock, 6)
        pass_by(broker, clock, 15)
        assert len(broker.connections()) == 1
        pass_by(broker, clock, 7)
        assert one.hear_all().replace(HEARTBEAT, b"") == b""


def test_who_reads_nothing_and_misses_heartbeats_is_hung_up_on_with_output_waiting() -> None:
    with on_fake_time() as (broker, clock), stranger(broker) as silent, stranger(broker) as other:
        # Given more output than the socket of a peer takes that is silent
        silent.open(heartbeat=10)
        silent.say(1, Queue.Declare(0, "q", durable=True), Basic.Consume(0, "q", "c", no_ack=True))
        other.open()
        other.say(1, *[each for _ in range(100) for each in publishing("q", b"x" * 100_000)], Basic.Qos(0, 1))
        other.hear(12)
        # When it is given up, and has been given time to read
        pass_by(broker, clock, 1)
        pass_by(broker, clock, 21)
        assert len(broker.connections()) == 2
        pass_by(broker, clock, 6)
        # Then it is gone
        wait_until(lambda: len(broker.connections()) == 1)


async def test_real_heartbeats_keep_an_idle_line_open(embedded: EmbeddedBroker) -> None:
    # Given the shortest heartbeat there is, on real time
    connection = await connect(embedded.url + "?heartbeat=1")
    with stranger(embedded) as quiet:
        # When one peer sends heartbeats and the other none, then the silent one is dropped, and only that one
        quiet.open(heartbeat=1)
        await asyncio.to_thread(quiet.hear_all)
    await eventually(lambda: len(embedded.connections()) == 1)
    await (await connection.channel()).declare_queue("still here", durable=True)
    await connection.close()


# Slow peers


def test_who_does_not_read_holds_up_nobody_else_and_gets_everything_in_the_end(embedded: EmbeddedBroker) -> None:
    count, size = 400, 100_000
    with stranger(embedded) as slow, stranger(embedded) as other:
        slow.open()
        slow.say(1, Queue.Declare(0, "q", durable=True), Basic.Consume(0, "q", "c", no_ack=True))
        other.open()
        other.say(1, *[each for _ in range(count) for each in publishing("q", b"x" * size)])
        # A method behind all of them is answered, although the consumer has read nothing
        other.say(1, Basic.Qos(0, 1))
        assert other.hear(12)[7:11] == b"\x00\x3c\x00\x0b"
        # Most of it waits in the queue, not in buffers
        assert embedded.message_count > count / 2
        read = 0
        while read < count * size:
            read += len(slow.socket.recv(1 << 20))
        wait_until(lambda: embedded.message_count == 0)


def test_under_an_alarm_a_publishers_socket_is_not_read(embedded: EmbeddedBroker) -> None:
    with stranger(embedded) as one:
        one.open()
        one.say(1, Queue.Declare(0, "q", durable=True))
        embedded.block("low on memory")
        # More than any socket buffer holds does not go through until the alarm is over
        flood = b"".join(frame.marshal(each, 1) for each in publishing("q", b"x" * 100_000)) * 200
        one.socket.settimeout(1)
        sent = one.socket.send(flood[:1000])
        with pytest.raises(TimeoutError):
            while sent < len(flood):
                sent += one.socket.send(flood[sent : sent + 65_536])
        assert embedded.message_count == 0
        embedded.unblock()
        one.socket.settimeout(deadline(10))
        one.socket.sendall(flood[sent:])
        wait_until(lambda: embedded.message_count == 200)
        assert b"low on memory" in one.hear(22 + 26)  # queue.declare-ok, connection.blocked


def test_two_busy_publishers_both_get_through(embedded: EmbeddedBroker) -> None:
    with stranger(embedded) as one, stranger(embedded) as other:
        for peer, queue in ((one, "a"), (other, "b")):
            peer.open()
            peer.say(1, Queue.Declare(0, queue, durable=True))

        def flood(peer: Stranger, queue: str) -> None:
            peer.say(1, *[each for _ in range(5_000) for each in publishing(queue, b"x" * 100)])

        threads = [threading.Thread(target=flood, args=each) for each in ((one, "a"), (other, "b"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(deadline(20))
        wait_until(lambda: embedded.queue_depths() == {"a": 5_000, "b": 5_000}, 20)
