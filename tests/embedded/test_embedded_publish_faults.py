"""What a test can do to publishers: messages that are nacked or returned although they could be delivered, and confirms
that wait."""

import asyncio

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError
from pamqp import frame
from pamqp.commands import Basic, Channel, Confirm

from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.ground.publish_faults import Nacked, PublishFaults, Returned
from tests.embedded.conversation import Talk, methods, publishing
from tests.embedded.stranger import connect, stranger
from tests.waiting import deadline


async def declared(channel: AbstractChannel, *names: str) -> None:
    for name in names:
        await channel.declare_queue(name, durable=True)


async def publish(channel: AbstractChannel, queue: str, body: bytes = b"x", *, mandatory: bool = True) -> None:
    await channel.default_exchange.publish(Message(body), queue, mandatory=mandatory, timeout=deadline(10))


# Nacks


async def test_the_next_publishes_are_nacked_and_go_nowhere(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        await declared(channel, "q")
        embedded.nack_publishes(2)
        for _ in range(2):
            with pytest.raises(DeliveryError):
                await publish(channel, "q")
        await publish(channel, "q")
        assert embedded.queue_depths() == {"q": 1}


async def test_only_publishes_to_one_queue_are_nacked(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        await declared(channel, "q", "other")
        embedded.nack_publishes(queue="q")
        await publish(channel, "other")
        with pytest.raises(DeliveryError):
            await publish(channel, "q")
        await publish(channel, "q")
        assert embedded.queue_depths() == {"q": 1, "other": 1}


async def test_who_does_not_ask_for_confirms_cannot_be_nacked(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        unconfirmed = await connection.channel(publisher_confirms=False)
        await declared(channel, "q")
        embedded.nack_publishes()
        await publish(unconfirmed, "q")
        await declared(unconfirmed, "q")  # so the message has arrived
        assert embedded.queue_depths() == {"q": 1}
        with pytest.raises(DeliveryError):
            await publish(channel, "q")


def test_confirms_and_nacks_tell_which_is_which() -> None:
    talk = Talk().open()
    talk.say(1, Confirm.Select())
    talk.node.publish_faults.order(Nacked(), 1, queue="never", mandatory_only=False)
    talk.node.publish_faults.clear()
    assert not talk.node.publish_faults.armed
    talk.node.publish_faults.order(Nacked(), 2, queue=None, mandatory_only=False)
    seen = talk.say(1, *[each for _ in range(4) for each in publishing("nowhere")])
    assert [(method.name, method.delivery_tag, method.multiple) for _, method in seen] == [
        ("Basic.Nack", 2, True),
        ("Basic.Ack", 4, True),
    ]


# Returns


async def test_the_next_mandatory_message_is_returned(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel(on_return_raises=True)
        await declared(channel, "q")
        embedded.return_publishes()
        await publish(channel, "q", mandatory=False)
        with pytest.raises(PublishError, match="NO_ROUTE"):
            await publish(channel, "q")
        await publish(channel, "q")
        assert embedded.queue_depths() == {"q": 2}


def test_a_message_is_returned_with_the_code_that_was_given(embedded: EmbeddedBroker) -> None:
    embedded.return_publishes(code=313, reason="NO_CONSUMERS", mandatory_only=False)
    with stranger(embedded) as one:
        one.open()
        one.say(1, Confirm.Select(True), *publishing("q", b"body"))
        returned = frame.marshal(Basic.Return(313, "NO_CONSUMERS", "", "q"), 1)
        assert one.hear(len(returned)) == returned
        content = b"".join(frame.marshal(each, 1) for each in publishing("q", b"body")[1:])
        assert one.hear(len(content)) == content
        confirm = frame.marshal(Basic.Ack(1), 1)
        assert one.hear(len(confirm)) == confirm


def test_what_is_ordered_happens_in_turn() -> None:
    faults = PublishFaults()
    faults.order(Nacked(), 1, queue="a", mandatory_only=False)
    faults.order(Returned(code=312, reason="NO_ROUTE"), 2, queue=None, mandatory_only=True)

    def fates(*queues: str, mandatory: bool, confirms: bool) -> object:
        return faults.fate_of(queues, mandatory=mandatory, confirms=confirms)

    assert fates("b", mandatory=False, confirms=True) is None
    assert fates("a", mandatory=True, confirms=False) == Returned(code=312, reason="NO_ROUTE")
    assert fates("a", "b", mandatory=True, confirms=True) == Nacked()
    assert fates("a", mandatory=True, confirms=True) == Returned(code=312, reason="NO_ROUTE")
    assert not faults.armed
    assert fates("a", mandatory=True, confirms=True) is None


async def test_what_is_ordered_can_be_taken_back(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        await declared(channel, "q")
        embedded.nack_publishes(100)
        embedded.return_publishes(100)
        embedded.publish_normally()
        await publish(channel, "q")
    for order in (embedded.nack_publishes, embedded.return_publishes):
        with pytest.raises(ValueError, match="cannot order this for 0 messages"):
            order(0)


# Confirms that wait


async def test_confirms_wait_until_they_are_released(embedded: EmbeddedBroker) -> None:
    async with await connect(embedded.url) as connection:
        channel = await connection.channel()
        await declared(channel, "q")
        embedded.delay_confirms()
        waiting = [asyncio.create_task(publish(channel, "q")) for _ in range(3)]
        await declared(channel, "other")  # answered after they have been taken
        assert embedded.queue_depths() == {"q": 3, "other": 0}
        assert not any(task.done() for task in waiting)
        embedded.release_confirms()
        await asyncio.wait_for(asyncio.gather(*waiting), deadline(10))
        await publish(channel, "q")


def test_a_channel_that_is_closed_meanwhile_is_not_confirmed_to_any_more(embedded: EmbeddedBroker) -> None:
    embedded.delay_confirms()
    with stranger(embedded) as one:
        one.open()
        one.say(1, Confirm.Select(True), *publishing("q"), Channel.Close(200, "", 0, 0))
        closed = frame.marshal(Channel.CloseOk(), 1)
        assert one.hear(len(closed)) == closed
        embedded.release_confirms()
        one.say(1, Channel.Open())
        opened = b"\x01\x00\x01\x00\x00\x00\x08\x00\x14\x00\x0b\x00\x00\x00\x00\xce"  # channel.open-ok
        assert one.hear(len(opened)) == opened


def test_a_connection_may_end_while_its_confirms_are_held() -> None:
    talk = Talk().open()
    talk.node.publish_faults.holding = True
    talk.say(1, Confirm.Select())
    assert talk.publish(1, "q") == []
    talk.core.lost()
    talk.node.publish_faults.holding = False
    talk.core.send_confirms()
    assert methods(talk.heard()) == []
