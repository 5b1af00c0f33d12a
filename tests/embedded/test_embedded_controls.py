"""What a test can do to lines: drop them, cut them inside a frame, freeze them, turn newcomers away, close them with a
word; and consumers and queues."""

import asyncio
import itertools

import aio_pika
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import AMQPConnectionError, ChannelInvalidStateError
from pamqp import frame
from pamqp.commands import Basic, Queue
from pamqp.common import FieldTable

from pipeline.clock import FakeClock
from pipeline.embedded import ConnectionSeen, EmbeddedBroker
from pipeline.embedded.connections.line_faults import Cut
from tests.embedded.conversation import publishing
from tests.embedded.stranger import connect, end_of, stranger
from tests.waiting import deadline, eventually, wait_until

QOS = frame.marshal(Basic.Qos(0, 1), 1)
QOS_OK = frame.marshal(Basic.QosOk(), 1)
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


# One or all


async def test_a_connection_is_chosen_by_its_name_or_by_its_peer(embedded: EmbeddedBroker) -> None:
    names = ("one", "two", "two", "three")
    connections = [await connect(embedded.url, name) for name in names]
    ends = [end_of(connection) for connection in connections]
    await connections[0].channel()
    seen = {each.name: each for each in embedded.connections()}
    assert (seen["one"].channels, seen["three"].channels) == ((1,), ())

    embedded.drop_connections("two")
    await asyncio.wait_for(asyncio.gather(*ends[1:3]), deadline(10))
    await eventually(lambda: {each.name for each in embedded.connections()} == {"one", "three"})
    embedded.drop_connections(seen["one"])
    await asyncio.wait_for(ends[0], deadline(10))
    embedded.drop_connections(seen["three"].peer)
    await asyncio.wait_for(ends[3], deadline(10))
    await eventually(lambda: embedded.connections() == [])
    for connection in connections:
        await connection.close()


async def test_a_connection_that_is_not_there_is_an_error_that_names_those_that_are(embedded: EmbeddedBroker) -> None:
    gone = ConnectionSeen(name="gone", peer="127.0.0.1:1", channels=())
    with pytest.raises(LookupError, match="no connection 'shop'; there are: none"):
        embedded.drop_connections("shop")
    async with await connect(embedded.url, "mine"):
        for which in ("shop", gone):
            with pytest.raises(LookupError, match=r"there are: mine \(127\.0\.0\.1:\d+\)"):
                embedded.freeze_connections(which)


# Cut inside a frame


@pytest.mark.parametrize("octets", range(len(QOS_OK) + 1))
def test_a_line_ends_after_so_many_octets_of_output(embedded: EmbeddedBroker, octets: int) -> None:
    with stranger(embedded) as one:
        one.open()
        embedded.cut_inside_frame(octets=octets)
        one.socket.sendall(QOS)
        assert one.hear_all() == QOS_OK[:octets]
    wait_until(lambda: embedded.connections() == [])


async def test_a_delivery_that_is_cut_comes_again(embedded: EmbeddedBroker) -> None:
    # Given a consumer whose line is to end inside its next delivery
    connection = await connect(embedded.url, "consumer")
    closed = end_of(connection)
    channel = await connection.channel()
    queue = await channel.declare_queue("q", durable=True)
    inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    embedded.cut_inside_frame("consumer", octets=30, at_delivery=True)
    await queue.consume(inbox.put)
    await channel.set_qos(10)  # answered: only deliveries are cut
    # When a message is published
    async with await connect(embedded.url, "publisher") as other:
        await (await other.channel()).default_exchange.publish(Message(b"x"), "q")
        await asyncio.wait_for(closed, deadline(10))
        # Then the consumer has not seen it, and it is in the queue again, marked as redelivered
        assert inbox.empty()
        await eventually(lambda: len(embedded.connections()) == 1)
        again = await (await (await other.channel()).get_queue("q")).get(timeout=deadline(10))
        assert again is not None
        assert (again.body, again.redelivered) == (b"x", True)
        await again.ack()
    await connection.close()


def test_a_cut_counts_from_the_delivery_wherever_the_output_is_torn() -> None:
    before = QOS_OK + HEARTBEAT
    delivery = b"".join(frame.marshal(each, 1) for each in (Basic.Deliver("c", 1, False, "", "q"), Basic.QosOk()))
    for octets, rest in itertools.product(range(len(delivery)), (b"", QOS_OK)):
        cut = Cut(octets, at_delivery=True)
        assert cut.lets_through(before) == before
        assert not cut.done
        assert cut.lets_through(before + delivery + rest) == before + delivery[:octets]
        assert cut.done
        assert cut.lets_through(before) == b""


def test_a_cut_counts_over_several_pieces_of_output() -> None:
    cut = Cut(len(QOS_OK) + 3, at_delivery=False)
    assert cut.lets_through(QOS_OK) == QOS_OK
    assert not cut.done
    assert cut.lets_through(QOS_OK) == QOS_OK[:3]
    assert cut.done


def test_a_cut_after_less_than_nothing_is_an_error(embedded: EmbeddedBroker) -> None:
    with pytest.raises(ValueError, match="cannot cut after -1 octets"):
        embedded.cut_inside_frame(octets=-1)


@pytest.mark.parametrize("code", [0, 200, 999])
def test_a_code_that_nothing_is_closed_with_is_an_error(embedded: EmbeddedBroker, code: int) -> None:
    for close in (embedded.close_connections, embedded.close_channels):
        with pytest.raises(ValueError, match=f"nothing is closed with code {code}; there are: 320, 403, "):
            close(code)


def test_words_that_no_frame_can_carry_are_an_error(embedded: EmbeddedBroker) -> None:
    embedded.block("й" * 127)
    for say in (embedded.block, lambda reason: embedded.return_publishes(reason=reason)):
        with pytest.raises(ValueError, match=r"a reason has 255 octets at most; .* has 256"):
            say("й" * 128)
    with pytest.raises(ValueError, match="no message is returned with code 65536"):
        embedded.return_publishes(code=65_536)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_time_goes_on_by_seconds_that_come_to_an_end(embedded: EmbeddedBroker, seconds: float) -> None:
    with pytest.raises(ValueError, match="time goes on"):
        embedded.advance(seconds)


# Freeze


def test_a_frozen_line_is_silent_in_both_directions_until_it_is_thawed(embedded: EmbeddedBroker) -> None:
    with stranger(embedded) as one, stranger(embedded) as other:
        one.open()
        [seen] = [each for each in embedded.connections() if each.channels]
        other.open()
        other.say(1, Queue.Declare(0, "q", durable=True), Basic.Qos(0, 1))
        one.say(1, Queue.Declare(0, "q", durable=True), Basic.Consume(0, "q", "c", no_ack=True))
        one.hear(len(frame.marshal(Queue.DeclareOk("q", 0, 0), 1)) + len(frame.marshal(Basic.ConsumeOk("c"), 1)))
        embedded.freeze_connections(seen)
        # Neither an answer nor a delivery leaves
        one.socket.sendall(QOS)
        other.say(1, *publishing("q", b"x"))
        wait_until(lambda: embedded.queue_depths() == {"q": 0})  # delivered, as far as the queue knows
        one.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            one.socket.recv(1)
        one.socket.settimeout(deadline(10))
        # Both are there afterwards
        embedded.thaw_connections()
        heard = b""
        while not (QOS_OK in heard and b"x\xce" in heard):
            heard += one.hear(1)


def test_a_frozen_line_has_no_heartbeats_and_misses_none() -> None:
    clock = FakeClock()
    with EmbeddedBroker(link_clock=clock) as broker, stranger(broker) as one:
        one.open(heartbeat=10)
        broker.freeze_connections()
        for _ in range(5):
            wait_until(lambda: clock.waiting)
            clock.advance(100)
        broker.thaw_connections()
        for seconds in (1, 6):
            wait_until(lambda: clock.waiting)
            clock.advance(seconds)
        assert one.hear(len(HEARTBEAT)) == HEARTBEAT
        assert len(broker.connections()) == 1
        one.socket.sendall(QOS)
        assert one.hear(len(QOS_OK)) == QOS_OK


def test_a_frozen_line_can_still_be_dropped(embedded: EmbeddedBroker) -> None:
    with stranger(embedded) as one:
        one.open()
        embedded.freeze_connections()
        embedded.close_connections()  # not a word of it leaves
        embedded.drop_connections()
        assert one.hear_all() == b""
    wait_until(lambda: embedded.connections() == [])


# Newcomers


async def test_newcomers_are_turned_away_as_long_as_they_are_not_welcome(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url, "old") as old:
        embedded.refuse_connections()
        with pytest.raises((AMQPConnectionError, ConnectionError)):
            await connect(embedded.url, "new")
        await (await old.channel()).declare_queue("q", durable=True)
        assert [each.name for each in embedded.connections()] == ["old"]
        embedded.accept_connections()
        async with await connect(embedded.url, "new"):
            assert {each.name for each in embedded.connections()} == {"old", "new"}


# Closed with a word


async def test_one_connection_is_closed_with_a_code(embedded: EmbeddedBroker) -> None:
    one, other = await connect(embedded.url, "one"), await connect(embedded.url, "other")
    closed = end_of(one)
    embedded.close_connections(320, "go away", which="one")
    assert "CONNECTION_FORCED - go away" in str(await asyncio.wait_for(closed, deadline(10)))
    await (await other.channel()).declare_queue("q", durable=True)
    await one.close()
    await other.close()


async def test_one_channel_is_closed_with_a_code(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url, "mine") as connection:
        one, other = await connection.channel(), await connection.channel()
        closing = (await one.get_underlay_channel()).closing
        embedded.close_channels(404, "no such luck", which="mine", number=1)
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity, match="NOT_FOUND - no such luck"):
            await asyncio.wait_for(closing, deadline(10))
        with pytest.raises(ChannelInvalidStateError):
            await one.declare_queue("q", durable=True)
        await other.declare_queue("q", durable=True)
        # All of them
        closing = (await other.get_underlay_channel()).closing
        embedded.close_channels()
        with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed, match="closed by a test"):
            await asyncio.wait_for(closing, deadline(10))


# Consumers


async def test_consumers_are_cancelled_by_queue_or_by_tag(embedded: EmbeddedBroker) -> None:
    with stranger(embedded) as one:
        one.open()
        one.say(1, Queue.Declare(0, "q", durable=True), Queue.Declare(0, "other", durable=True))
        for queue, tag in (("q", "a"), ("q", "b"), ("other", "c"), ("other", "d")):
            one.say(1, Basic.Consume(0, queue, tag, nowait=True))
        one.socket.sendall(QOS)
        heard = b""
        while QOS_OK not in heard:
            heard += one.hear(1)
        assert embedded.cancel_consumers("q") == 2
        assert embedded.cancel_consumers(tag="c") == 1
        assert embedded.cancel_consumers("q", tag="d") == 0
        expected = b"".join(frame.marshal(Basic.Cancel(tag, True), 1) for tag in "abc")
        assert one.hear(len(expected)) == expected
        one.say(1, Queue.Declare(0, "other", passive=True))
        answer = frame.marshal(Queue.DeclareOk("other", 0, 1), 1)
        assert one.hear(len(answer)) == answer


async def test_what_a_cancelled_consumer_has_in_hand_stays_with_it(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True)
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(inbox.put)
        await channel.default_exchange.publish(Message(b"1"), "q")
        message = await asyncio.wait_for(inbox.get(), deadline(10))
        assert embedded.cancel_consumers() == 1
        await channel.default_exchange.publish(Message(b"2"), "q")
        await message.ack()
        await eventually(lambda: embedded.queue_depths() == {"q": 1})
        assert inbox.empty()


# Queues


@pytest.mark.parametrize("single_active", [False, True])
async def test_a_paused_queue_delivers_nothing_until_it_is_resumed(
    embedded: EmbeddedBroker, single_active: bool
) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        arguments: FieldTable = {"x-single-active-consumer": single_active}
        queue = await channel.declare_queue("q", durable=True, arguments=arguments)
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        early = await queue.consume(inbox.put)
        embedded.pause_queue("q")
        embedded.pause_queue("q")
        # Whoever comes or goes meanwhile, messages stay
        await queue.consume(inbox.put)
        for body in (b"1", b"2", b"3"):
            await channel.default_exchange.publish(Message(body), "q")
        await queue.cancel(early)
        assert (embedded.queue_depths(), inbox.empty()) == ({"q": 3}, True)
        got = await queue.get(no_ack=True, timeout=deadline(10))
        assert got is not None and got.body == b"1"
        # Then the consumer that is left gets them in order
        embedded.resume_queue("q")
        embedded.resume_queue("q")
        for body in (b"2", b"3"):
            message = await asyncio.wait_for(inbox.get(), deadline(10))
            assert message.body == body
            await message.ack()
        await eventually(lambda: embedded.queue_depths() == {"q": 0})


async def test_a_paused_queue_can_be_deleted_with_its_consumers(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True)
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(inbox.put)
        embedded.pause_queue("q")
        await queue.delete(if_unused=False, if_empty=False)
        assert embedded.queue_depths() == {}


async def test_queues_are_found_in_every_virtual_host() -> None:
    with EmbeddedBroker(vhosts=("/", "shop")) as broker:
        async with await connect(broker.url_of("shop")) as connection:
            await (await connection.channel()).declare_queue("q", durable=True)
            broker.pause_queue("shop:q")
            broker.resume_queue("shop:q")
            with pytest.raises(LookupError, match="no queue 'q'; there are: shop:q"):
                broker.pause_queue("q")
