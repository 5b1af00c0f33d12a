"""Messages taken out of a queue one at a time, by hand (basic.get): each is acknowledged, or given back with all others
in the order in which they came. Why somebody takes them is not known here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import cast

from aiormq.channel import Channel as ClientChannel
from pamqp.commands import Basic

from pipeline.amqp.convert import to_message
from pipeline.amqp.faults import Refused, answered_within, somebody_cancelled, why_ended
from pipeline.amqp.generation import Generation
from pipeline.errors import BrokerError, ChannelGone, ConnectionLost
from pipeline.message import Message


class Taken:
    """A message in our hand. Unless it is acknowledged, it goes back."""

    __slots__ = ("_hand", "_tag", "message")

    def __init__(self, message: Message, hand: "Hand", tag: int) -> None:
        self.message = message
        self._hand = hand
        self._tag = tag

    async def ack(self) -> None:
        """Raises `ChannelGone`: the message is still in its queue."""
        await self._hand._ack(self._tag)


class Hand:
    """One channel on one queue. basic.get is asked and answered once for each message, so that never more is taken than
    was meant; a consumer with a prefetch would take some beyond."""

    def __init__(self, channel: ClientChannel, generation: Generation, queue: str) -> None:
        self.queue = queue
        self._channel = channel
        self._patience = generation.patience
        self._tags: dict[int, None] = {}  # of what is in hand, in the order in which it came

    @property
    def held(self) -> int:
        """How many messages are in it."""
        return len(self._tags)

    async def take(self) -> Taken | None:
        """The first message that is ready; None when there is none. Not to be cancelled: the client would close the
        channel. Raises `ConnectionLost`, and `BrokerError` when the broker refuses."""
        try:
            async with answered_within(self._patience, "basic.get"):
                got = await self._channel.basic_get(self.queue)
        except Refused as refusal:
            raise BrokerError(f'cannot take messages from queue "{self.queue}": {refusal.text}') from None
        if not isinstance(got.delivery, Basic.GetOk):
            return None
        tag = got.delivery.delivery_tag
        assert tag is not None
        self._tags[tag] = None
        return Taken(to_message(got, self.queue), self, tag)

    async def purge(self) -> int:
        """Throw away all that is ready; how many that were. Raises as `take` does."""
        try:
            async with answered_within(self._patience, "queue.purge"):
                return (await self._channel.queue_purge(self.queue)).message_count or 0
        except Refused as refusal:
            raise BrokerError(f'cannot purge queue "{self.queue}": {refusal.text}') from None

    async def give_back(self) -> None:
        """All that is in hand, each to its old place: by nack, since from RabbitMQ 4.3 a quorum queue counts everything
        else as a failure. Only a quorum queue before 4.3 puts behind the others what comes back, and many of them in
        no order (seen on 3.10)."""
        tags, self._tags = self._tags, {}
        with suppress(ChannelGone):
            for tag in tags:
                await self._sent(self._channel.basic_nack(tag, requeue=True))

    async def close(self) -> None:
        """Returns when the broker has read everything that was said here."""
        with suppress(Refused, ConnectionLost):
            async with answered_within(self._patience, "the closing of a channel"):
                await self._channel.close()

    async def _ack(self, tag: int) -> None:
        del self._tags[tag]
        await self._sent(self._channel.basic_ack(tag))

    async def _sent(self, step: Awaitable[None]) -> None:
        try:
            await step
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and somebody_cancelled():
                raise
            raise ChannelGone(f"its channel has ended ({why_ended(error)})") from None


@asynccontextmanager
async def hand(generation: Generation, queue: str) -> AsyncIterator[Hand]:
    """An empty hand. What is in it afterwards is given back."""
    opened = await generation.channel()
    one = Hand(cast(ClientChannel, await opened.get_underlay_channel()), generation, queue)
    try:
        yield one
    finally:
        await one.give_back()
        await one.close()
