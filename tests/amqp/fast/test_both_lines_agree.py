"""The same octets from a broker, cut as they may come, mean the same on both lines: messages attribute by attribute,
and the answers of publishes."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as ClientChannel
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import frame as codec
from pamqp.header import ContentHeader

from pipeline.amqp.convert import to_message, to_properties
from pipeline.amqp.fast.deliveries import Deliveries, FastDelivery
from pipeline.amqp.fast.outlet import FastOutlet
from pipeline.amqp.foreign import tolerate
from pipeline.amqp.outlet import Outlet
from pipeline.amqp.plain.outlet import PlainOutlet
from pipeline.message import Message
from tests.amqp.fast.memory import Memory, channel_of, connected, turns
from tests.amqp.fast.octets import (
    HEARTBEAT_FRAME,
    attributes,
    close,
    confirmed,
    cut_at,
    deliver_method,
    method,
    pieces,
    refused,
    returned,
)
from tests.amqp.parts import outgoing
from tests.amqp.test_convert import messages
from tests.waiting import deadline

names = st.text(max_size=20)


@st.composite
def deliveries(draw: st.DrawFn) -> bytes:
    """One delivery to consumer `c` on channel 1, in body frames of any size."""
    tolerate()
    message: Message = draw(messages)
    tag, again = draw(st.integers(1, 2**63)), draw(st.booleans())
    start = deliver_method(1, tag, redelivered=again, exchange=draw(names), routing_key=draw(names))
    header = codec.marshal(ContentHeader(0, len(message.body), to_properties(message)), 1)
    between = draw(st.sampled_from([b"", HEARTBEAT_FRAME, method(0, 10, 60, b"\x03low") + method(0, 10, 61)]))
    return between + start + header + between + pieces(1, message.body, draw(st.integers(1, 300))) + between


def readings(octets: bytes, cuts: Sequence[float]) -> list[bytes]:
    return cut_at(octets, *(int(cut * len(octets)) for cut in cuts))


cuts = st.lists(st.floats(0, 1), max_size=12)


# Deliveries


async def received(octets: Sequence[bytes], *, plain: bool, expected: int) -> list[dict[str, Any]]:
    """What a consumer of this line is handed, in its order."""
    memory, found = Memory(plain=plain), list[Message]()

    async def through_the_client(incoming: DeliveredMessage) -> None:
        found.append(to_message(incoming, "q"))

    def straight(batch: Sequence[FastDelivery]) -> None:
        found.extend(each.message for each in batch)

    async with connected(memory) as connection:
        channel = await channel_of(connection)
        if memory.switch is not None:
            claim = Deliveries(channel.number, memory.switch, queue="q", no_ack=False, receive=straight)
            assert memory.switch.claim(channel.number, claim)
        await channel.basic_consume("q", through_the_client, consumer_tag="c")
        memory.arrive(*octets)
        async with asyncio.timeout(deadline(10)):
            while len(found) < expected:
                await turns(1)
        return [attributes(each) for each in found]


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(deliveries(), min_size=1, max_size=5), cuts=cuts)
def test_both_lines_hand_over_the_same_messages(parts: list[bytes], cuts: list[float]) -> None:
    octets = b"".join(parts)

    async def story() -> None:
        plain = await received(readings(octets, cuts), plain=True, expected=len(parts))
        fast = await received(readings(octets, cuts), plain=False, expected=len(parts))
        assert fast == plain

    asyncio.run(story())


# Publishes


async def answers(octets: Sequence[bytes], number: int, *, plain: bool) -> list[str]:
    """What becomes of so many messages, when a broker says this: words and all."""
    memory, given_back = Memory(plain=plain), 0

    def count(message_id: str, error: Exception | None) -> None:
        nonlocal given_back
        given_back += 1

    async with connected(memory) as connection:
        channel = await channel_of(connection, confirms=True)
        outlet = outlet_of(channel, memory, count)
        sends = [asyncio.ensure_future(sent(outlet, str(each))) for each in range(1, number + 1)]
        async with asyncio.timeout(deadline(10)):
            while len([each for each in memory.sent_on(1) if each.called == (60, 40)]) < number:
                await turns(1)
            memory.arrive(*octets)
            ends = await asyncio.gather(*sends)
        await turns(3)
        assert given_back == number
        return ends


def outlet_of(channel: ClientChannel, memory: Memory, count: Any) -> Outlet:
    if memory.switch is None:
        return PlainOutlet(channel, alone=False, answered=count)
    outlet = FastOutlet(channel, memory.switch, alone=False, answered=count)
    assert memory.switch.claim(channel.number, outlet)
    return outlet


async def sent(outlet: Outlet, message_id: str) -> str:
    try:
        answer: Awaitable[None] = outlet.send(outgoing("k", exchange="e", message_id=message_id))
        await answer
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "confirmed"


@st.composite
def verdicts(draw: st.DrawFn) -> tuple[int, bytes]:
    """Confirms, nacks and returns until each of some messages has its answer, or the channel is closed first."""
    number = draw(st.integers(1, 12))
    waiting, octets = list(range(1, number + 1)), b""
    came_back: set[int] = set()
    left = draw(st.sampled_from([0, 0, 0, 1, 3]))
    while len(waiting) > left:
        tag = draw(st.sampled_from(waiting))
        if tag not in came_back and draw(st.integers(0, 3)) == 0:
            came_back.add(tag)
            octets += returned(1, str(tag), draw(st.binary(max_size=100)))
            continue
        many = draw(st.booleans())
        # A returned message is confirmed by an ack, never refused besides.
        covered = [each for each in waiting if each <= tag] if many else [tag]
        no = draw(st.booleans()) and not came_back & set(covered)
        octets += (refused if no else confirmed)(1, tag, multiple=many)
        waiting = [each for each in waiting if each not in covered]
    if waiting:
        octets += close(1, 404, "NOT_FOUND - no exchange 'e'")
    return number, octets


@settings(max_examples=50, deadline=None)
@given(verdict=verdicts(), cuts=cuts)
def test_both_lines_give_each_publish_the_same_answer(verdict: tuple[int, bytes], cuts: list[float]) -> None:
    number, octets = verdict

    async def story() -> None:
        plain = await answers(readings(octets, cuts), number, plain=True)
        fast = await answers(readings(octets, cuts), number, plain=False)
        assert fast == plain

    asyncio.run(story())
