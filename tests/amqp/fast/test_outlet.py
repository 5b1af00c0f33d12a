"""Publishing with confirms over the real client and a line in memory: each message gets its own answer, whatever the
broker puts together; and over a real socket that takes nothing more, publishers wait."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.amqp.fast.outlet import FastOutlet
from pipeline.amqp.fast.switch import WRITE_AT
from pipeline.amqp.outlet import Outgoing, Suspicious
from pipeline.amqp.publish import Publisher
from pipeline.clock import SystemClock
from pipeline.embedded import EmbeddedBroker
from pipeline.errors import NotConnected, PublishRefused, Unroutable, Unwritable
from tests.amqp.fast.memory import FRAME_MAX, Memory, channel_of, connected, turns
from tests.amqp.fast.octets import close, confirmed, content, cut_at, frames, method, refused, returned
from tests.amqp.parts import Recorder, broker_of, linked, outgoing, queue, topology
from tests.brokers import EmbeddedUnderTest
from tests.proxy import Proxy
from tests.waiting import deadline, eventually


class Sent:
    """An outlet on channel 1, what was sent on it, and the answers in the order of sending."""

    def __init__(self, memory: Memory, outlet: FastOutlet) -> None:
        self.memory = memory
        self.outlet = outlet
        self.answered = 0
        self.answers: list[asyncio.Future[None]] = []

    def send(self, message_id: str, body: bytes = b"x") -> "asyncio.Future[None]":
        return self.send_as(outgoing("k", body, exchange="e", message_id=message_id))

    def send_as(self, message: Outgoing) -> "asyncio.Future[None]":
        answer = asyncio.ensure_future(self.outlet.send(message))
        self.answers.append(answer)
        return answer

    def send_many(self, number: int) -> None:
        for each in range(1, number + 1):
            self.send(str(each))

    def ends(self) -> list[str]:
        """What became of each: a name, or `waiting`."""
        return [end_of(answer) for answer in self.answers]


def end_of(answer: "asyncio.Future[None]") -> str:
    if not answer.done():
        return "waiting"
    if answer.cancelled():
        return "cancelled"
    error = answer.exception()
    return "confirmed" if error is None else type(error).__name__


@asynccontextmanager
async def sending(*, alone: bool = False) -> AsyncIterator[Sent]:
    memory = Memory()
    async with connected(memory) as connection:
        channel = await channel_of(connection, confirms=True)
        assert memory.switch is not None

        def count(message_id: str, error: Exception | None) -> None:
            sent.answered += 1

        outlet = FastOutlet(channel, memory.switch, alone=alone, answered=count)
        assert memory.switch.claim(channel.number, outlet)
        sent = Sent(memory, outlet)
        yield sent
    await turns()
    assert sent.answered == len(sent.answers), "each message gives its place back once"
    for answer in sent.answers:
        if answer.done() and not answer.cancelled():
            answer.exception()


# Confirms


async def test_a_confirm_answers_its_message_alone() -> None:
    async with sending() as sent:
        sent.send_many(3)
        sent.memory.arrive(confirmed(1, 2))
        assert sent.ends() == ["waiting", "confirmed", "waiting"]
        sent.memory.arrive(confirmed(1, 3) + confirmed(1, 1))
        assert sent.ends() == ["confirmed"] * 3


async def test_a_confirm_of_many_answers_all_up_to_its_own() -> None:
    async with sending() as sent:
        sent.send_many(6)
        sent.memory.arrive(confirmed(1, 2))
        sent.memory.arrive(confirmed(1, 4, multiple=True))
        assert sent.ends() == ["confirmed"] * 4 + ["waiting"] * 2
        sent.memory.arrive(refused(1, 6, multiple=True))
        assert sent.ends() == ["confirmed"] * 4 + ["Nacked"] * 2


async def test_a_confirm_of_many_with_tag_zero_answers_all() -> None:
    """basic.ack: "if the multiple field is 1, and the delivery tag is zero, this indicates acknowledgement of all
    outstanding messages"."""
    async with sending() as sent:
        sent.send_many(3)
        sent.memory.arrive(confirmed(1, 0, multiple=True))
        assert sent.ends() == ["confirmed"] * 3


async def test_a_confirm_of_what_was_never_sent_costs_nothing() -> None:
    async with sending() as sent:
        sent.send_many(2)
        sent.memory.arrive(confirmed(1, 7) + confirmed(1, 0))
        assert sent.ends() == ["waiting"] * 2
        # And one of more than was ever sent ends
        sent.memory.arrive(confirmed(1, 2**63, multiple=True))
        assert sent.ends() == ["confirmed"] * 2
        sent.send("later")
        sent.memory.arrive(confirmed(1, 3))
        assert sent.ends() == ["confirmed"] * 3


verdicts = st.lists(
    st.tuples(st.sampled_from(["ack", "nack", "return", "ack many", "nack many"]), st.integers(0, 99)), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(number=st.integers(1, 25), script=verdicts, places=st.lists(st.integers(0, 3000), max_size=12))
def test_each_message_gets_its_own_answer(number: int, script: list[tuple[str, int]], places: list[int]) -> None:
    expected = ["waiting"] * number
    back: set[int] = set()
    octets = b""
    for what, pick in script:
        waiting = [each for each in range(number) if expected[each] == "waiting"]
        if not waiting:
            break
        which = waiting[pick % len(waiting)]
        if what == "return":
            if which not in back:
                octets += returned(1, str(which + 1), b"body" * (pick % 3))
            back.add(which)
            continue
        many = what.endswith("many")
        octets += (confirmed if what.startswith("ack") else refused)(1, which + 1, multiple=many)
        for each in [each for each in waiting if each <= which] if many else [which]:
            taken = "confirmed" if what.startswith("ack") else "Nacked"
            expected[each] = "Unroutable" if each in back else taken

    async def story() -> None:
        async with sending() as sent:
            sent.send_many(number)
            await turns(2)
            sent.memory.arrive(*cut_at(octets, *places))
            assert sent.ends() == expected
            await turns(2)

    asyncio.run(story())


async def test_a_returned_message_is_found_among_many() -> None:
    async with sending() as sent:
        sent.send_many(50)
        stream = b"".join(
            (returned(1, str(number), bytes(5000)) if number % 7 == 0 else b"") + confirmed(1, number)
            for number in range(1, 51)
        )
        sent.memory.arrive(*cut_at(stream, *range(0, len(stream), 1000)))

        assert sent.ends() == ["confirmed" if number % 7 else "Unroutable" for number in range(1, 51)]
        error = sent.answers[6].exception()
        assert isinstance(error, Unroutable)
        assert str(error) == 'exchange "e" has no queue for routing key "k" (NO_ROUTE)'


async def test_a_return_without_words_is_a_return() -> None:
    async with sending() as sent:
        sent.send("m")
        sent.memory.arrive(method(1, 60, 50, b"\x01\x38") + content(1, b"", b"\x00\x80\x01m") + confirmed(1, 1))
        assert sent.ends() == ["Unroutable"]


async def test_a_return_that_belongs_to_nothing_in_flight_is_nobodys() -> None:
    async with sending() as sent:
        sent.send("None")
        no_id = (
            returned(1, "m").replace(b"\x00\x80\x01m", b"\x00\x00").replace(b"\x00\x00\x00\x10", b"\x00\x00\x00\x0e")
        )
        sent.memory.arrive(no_id + returned(1, "gone") + confirmed(1, 1))
        assert sent.ends() == ["confirmed"]


# What is written


async def test_messages_of_one_turn_are_one_write_in_their_order() -> None:
    async with sending() as sent:
        # Given one that is in flight
        sent.send_many(1)
        await turns(2)
        before = len(sent.memory.writes)

        for number in range(2, 22):
            sent.send(str(number))
        await turns(3)

        (write,) = sent.memory.writes[before:]
        assert [each.kind for each in frames(write)] == [1, 2, 3] * 20
        ids = [each.payload[-len(str(n)) :] for n, each in enumerate(frames(write)[1::3], 2)]
        assert ids == [str(number).encode() for number in range(2, 22)]
        sent.memory.arrive(confirmed(1, 21, multiple=True))


async def test_a_message_that_is_alone_in_flight_does_not_wait_for_the_end_of_the_turn() -> None:
    async with sending() as sent:
        for number in (1, 2):
            before = len(sent.memory.writes)
            sent.send(str(number))
            (write,) = sent.memory.writes[before:]
            assert [each.kind for each in frames(write)] == [1, 2, 3]
            sent.memory.arrive(confirmed(1, number))


async def test_a_long_body_is_not_interrupted_and_waits_for_the_socket() -> None:
    async with sending() as sent:
        body = bytes(range(256)) * 200
        sent.send("long", body)
        assert not sent.outlet.free
        await turns(1)
        # Given a socket that takes no more after the first frames
        sent.memory.fill()
        await turns(5)
        written = len(sent.memory.sent)
        await turns(5)
        assert len(sent.memory.sent) == written
        until_free = asyncio.ensure_future(sent.outlet.until_free())
        await turns(5)
        assert not until_free.done()
        assert not sent.outlet.free
        # When it takes more
        sent.memory.drain()
        await until_free
        assert sent.outlet.free
        sent.send("next")
        await turns(3)

        # Then the body is whole, in frames of the broker's size, and the next message stands behind it
        contents = [each for each in sent.memory.sent if each.channel == 1][-3 - (len(body) // (FRAME_MAX - 8) + 3) :]
        publishes = [at for at, each in enumerate(contents) if each.kind == 1]
        long = contents[publishes[-2] : publishes[-1]]
        assert [each.kind for each in long] == [1, 2] + [3] * (len(long) - 2)
        assert b"".join(each.payload for each in long[2:]) == body
        assert all(len(each.payload) <= FRAME_MAX - 8 for each in long)
        sent.memory.arrive(confirmed(1, 2, multiple=True))
        assert sent.ends() == ["confirmed"] * 2


async def test_small_frames_of_a_long_body_are_gathered_although_it_is_alone() -> None:
    async with sending() as sent:
        before = len(sent.memory.writes)
        sent.send("long", bytes(20 * WRITE_AT))
        await sent.outlet.until_free()
        await turns(3)
        assert len(sent.memory.writes) - before <= 21
        sent.memory.arrive(confirmed(1, 1))


async def test_a_long_body_stops_with_its_channel() -> None:
    async with sending() as sent:
        answer = sent.send("long", bytes(200_000))
        await turns(1)
        sent.memory.fill()
        await turns(3)
        # Given that the broker closes the channel in the middle of it
        sent.memory.arrive(close(1))
        sent.memory.drain()
        await turns()

        # Then nothing more of it is written behind the client's answer to that
        on_channel = [each for each in sent.memory.sent if each.channel == 1]
        assert on_channel[-1].called == (20, 41)
        assert end_of(answer) == "PublishRefused"


async def test_a_long_body_of_a_channel_that_has_just_closed_is_not_begun() -> None:
    async with sending() as sent:
        answer = sent.send("long", bytes(200_000))
        # Given the end of the channel in the same turn of the loop
        sent.memory.arrive(close(1))
        await turns()

        assert not [each for each in sent.memory.sent_on(1) if each.called == (60, 40)]
        assert end_of(answer) == "PublishRefused"


async def test_a_message_that_cannot_be_written_costs_nothing() -> None:
    async with sending() as sent:
        with pytest.raises(Unwritable, match="cannot be written"):
            sent.outlet.send(outgoing("k" * 256, message_id="bad"))
        sent.answers.append(done())
        sent.send("good")
        sent.memory.arrive(confirmed(1, 1))

        assert sent.ends() == ["confirmed", "confirmed"]


def done() -> "asyncio.Future[None]":
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


# Who waits


async def test_a_sender_that_goes_leaves_its_message_on_its_way() -> None:
    async with sending() as sent:
        first, _ = sent.send("gone"), sent.send("kept")
        await turns(2)
        first.cancel()
        assert sent.outlet.carries("gone")
        over = asyncio.ensure_future(sent.outlet.answered("gone"))
        await turns(2)
        assert not over.done()
        sent.memory.arrive(returned(1, "gone") + confirmed(1, 1) + confirmed(1, 2))
        await over

        assert sent.ends() == ["cancelled", "confirmed"]
        assert not sent.outlet.carries("gone")


async def test_several_in_flight_when_the_broker_closes_the_channel_are_suspicious() -> None:
    async with sending() as sent:
        sent.send_many(4)
        await turns(2)
        sent.memory.arrive(confirmed(1, 1) + close(1, 404, "NOT_FOUND - no exchange 'e'"))
        assert sent.outlet.closed
        await turns()

        assert sent.ends() == ["confirmed"] + ["Suspicious"] * 3
        assert isinstance(sent.answers[1].exception(), Suspicious)
        with pytest.raises(NotConnected, match="the channel had just been closed"):
            sent.outlet.send(outgoing("k", exchange="e", message_id="late"))
        sent.answers.append(done())


async def test_one_in_flight_when_the_broker_closes_the_channel_is_the_guilty_one() -> None:
    async with sending() as sent:
        sent.send("only")
        await turns(2)
        sent.memory.arrive(close(1, 404, "NOT_FOUND - no exchange 'e'"))
        await turns()

        error = sent.answers[0].exception()
        assert isinstance(error, PublishRefused)
        assert "NOT_FOUND - no exchange 'e'" in str(error)


async def test_what_had_come_back_when_the_channel_closed_is_not_suspected() -> None:
    async with sending() as sent:
        sent.send_many(2)
        await turns(2)
        sent.memory.arrive(returned(1, "1") + close(1, 404, "NOT_FOUND - no exchange 'e'"))
        await turns()

        assert sent.ends() == ["Unroutable", "PublishRefused"]


async def test_what_was_in_flight_when_the_line_is_lost_may_have_arrived() -> None:
    async with sending() as sent:
        sent.send_many(3)
        await turns(2)
        sent.memory.arrive(confirmed(1, 1)[:-1])
        assert sent.memory.line is not None
        sent.memory.line.end(ConnectionResetError())
        await turns()

        assert sent.ends() == ["ConnectionLost"] * 3
        assert "it may have arrived" in str(sent.answers[0].exception())


async def test_an_outlet_for_one_message_is_closed_behind_it() -> None:
    async with sending(alone=True) as sent:
        sent.send("only")
        await turns(2)
        assert not sent.memory.sent_on(1, 20)[1:]
        sent.memory.arrive(confirmed(1, 1))
        await turns()

        assert sent.ends() == ["confirmed"]
        assert [each.called for each in sent.memory.sent_on(1, 20)] == [(20, 10), (20, 40)]
        assert sent.outlet.closed


# A real socket that takes nothing more


@asynccontextmanager
async def frozen(
    queues: Sequence[str] = ("q",),
) -> AsyncIterator[tuple[Publisher, Proxy, EmbeddedUnderTest, "asyncio.Transport"]]:
    """A publisher whose line stands still."""
    with EmbeddedBroker() as embedded, Proxy.before(embedded.url) as proxy:
        broker = EmbeddedUnderTest(embedded)
        publisher = Publisher(clock=SystemClock(), emit=Recorder(), window=100_000)
        wanted = topology(*map(queue, queues))
        async with linked(broker_of(proxy.url(broker.url)), publisher, wanted=wanted) as link:
            await publisher.wait_ready()
            for name in queues:
                await publisher.send(outgoing(name, message_id=f"first to {name}"), timeout=deadline(10))
            proxy.freeze()
            assert link.generation is not None
            assert link.generation.switch is not None
            transport = link.generation.switch._line
            assert transport is not None
            yield publisher, proxy, broker, transport


async def gathered(sends: Sequence[Awaitable[None]]) -> set[str]:
    ends = await asyncio.gather(*sends, return_exceptions=True)
    return {"confirmed" if end is None else type(end).__name__ for end in ends}


@pytest.mark.both_loops
async def test_a_publisher_of_many_messages_waits_for_a_socket_that_takes_nothing() -> None:
    queues = ("a", "b", "c")
    async with frozen(queues) as (publisher, proxy, broker, transport):
        body = bytes(10_000)
        sends = [
            asyncio.ensure_future(publisher.send(outgoing(queues[n % 3], body, message_id=str(n)), timeout=None))
            for n in range(5_000)
        ]
        # Given fifty megabytes that are to be sent
        await eventually(lambda: transport.get_write_buffer_size() > 64 * 1024, told="a full socket")
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert transport.get_write_buffer_size() < 400_000
        # When somebody has no time for that
        with pytest.raises(NotConnected, match="takes nothing more from the connection for now"):
            await publisher.send(outgoing("a", message_id="hurried"), timeout=0.05)
        proxy.thaw()

        # Then all the others arrive
        assert await gathered(sends) == {"confirmed"}
        assert sum(broker.queue_depths().values()) == 5_003


@pytest.mark.both_loops
async def test_long_bodies_wait_for_a_socket_that_takes_nothing() -> None:
    queues = tuple("abcdefgh")
    async with frozen(queues) as (publisher, proxy, broker, transport):
        body = bytes(4 * 2**20)
        sends = [
            asyncio.ensure_future(publisher.send(outgoing(name, body, message_id=name), timeout=None))
            for name in queues
        ]
        await eventually(lambda: transport.get_write_buffer_size() > 64 * 1024, told="a full socket")
        for _ in range(50):
            await asyncio.sleep(0.002)
            # A frame of each channel at most
            assert transport.get_write_buffer_size() < 10 * 131_072
        proxy.thaw()
        assert await gathered(sends) == {"confirmed"}
        for name in queues:
            assert [each.body for each in await broker.get_all(name)] == [b"hello", body]


@pytest.mark.both_loops
async def test_messages_keep_their_order_round_long_ones() -> None:
    async with frozen() as (publisher, proxy, broker, _):
        bodies = [str(n).encode() * (1 if n % 5 else 200_000) for n in range(1, 40)]
        sends = [
            asyncio.ensure_future(publisher.send(outgoing("q", body, message_id=str(n)), timeout=None))
            for n, body in enumerate(bodies)
        ]
        proxy.thaw()
        assert await gathered(sends) == {"confirmed"}
        received = [message.body for message in await broker.get_all("q")][1:]
    assert received == bodies
