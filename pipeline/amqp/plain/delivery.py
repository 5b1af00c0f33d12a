"""The plain line's deliveries: one message and its ways home through the client's channel that it came on. When to take
which way is not known here."""

import asyncio
from collections.abc import Awaitable

from aiormq.abc import AbstractChannel as ClientChannel

from pipeline.amqp.faults import somebody_cancelled, why_ended
from pipeline.errors import ChannelGone, SettlementError
from pipeline.message import Message


class PlainDelivery:
    """A `pipeline.message.Delivery`."""

    __slots__ = ("_channel", "_settled", "_tag", "message")

    def __init__(self, message: Message, channel: ClientChannel, tag: int | None) -> None:
        """`tag` is None where nothing is to be settled (`ack: none`)."""
        self.message = message
        self._channel = channel
        self._tag = tag
        self._settled = tag is None

    @property
    def alive(self) -> bool:
        return not self._channel.is_closed

    async def ack(self) -> None:
        await _sent(self._channel.basic_ack(self._claim()))

    async def nack(self) -> None:
        await _sent(self._channel.basic_nack(self._claim(), requeue=True))

    async def reject(self, *, requeue: bool) -> None:
        await _sent(self._channel.basic_reject(self._claim(), requeue=requeue))

    def _claim(self) -> int:
        """The tag, once. Taken before anything is awaited: two acks of one message would both reach the broker, which
        closes the channel over the second."""
        if self._settled or self._tag is None:
            why = "is settled already" if self._tag is not None else "was acknowledged by the broker (`ack: none`)"
            raise SettlementError(f"message {self.message.message_id or 'without id'} {why}")
        self._settled = True
        return self._tag


async def _sent(step: Awaitable[None]) -> None:
    """Returns when the answer is in the socket, which is not yet "the broker knows": it may come again all the same. A
    socket that takes nothing keeps us until the channel ends, which heartbeats see to."""
    try:
        await step
    except asyncio.CancelledError as error:
        if somebody_cancelled():
            raise
        raise ChannelGone(_again(error)) from None
    except Exception as error:
        raise ChannelGone(_again(error)) from None


def _again(error: BaseException) -> str:
    return f"its channel has ended ({why_ended(error)}): the broker delivers the message again"
