"""One confirming channel to publish on: what is in flight on it, and what the broker's answers mean. Which message
takes which channel is not known here. Hot: `publish` runs once per message."""

import asyncio
import contextlib
import struct
from typing import cast

from aiormq import exceptions as client
from aiormq.channel import Channel as ClientChannel
from pamqp.commands import Basic

from pipeline.amqp.convert import longest, to_properties
from pipeline.amqp.faults import Refused, answered_within, somebody_cancelled, why_ended
from pipeline.errors import ConnectionLost, Nacked, NotConnected, PublishRefused, Unroutable, Unwritable
from pipeline.message import Message

_FRAME_OVERHEAD = 8 + 14  # octets round the properties in their frame (AMQP 0-9-1, 4.2.3 and 4.2.6.1)
_CLOSING = 5.0  # seconds

# What the codec raises for values that AMQP cannot carry.
_UNWRITABLE = (TypeError, ValueError, OverflowError, AttributeError, struct.error)


class Outgoing:
    """A message with its destination. `message.body` is bytes, and `message.message_id` is set."""

    __slots__ = ("exchange", "mandatory", "message", "routing_key")

    def __init__(self, *, exchange: str, routing_key: str, message: Message, mandatory: bool) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.message = message
        self.mandatory = mandatory

    def __str__(self) -> str:
        where = f'exchange "{self.exchange}"' if self.exchange else "the default exchange"
        return f'{where} with routing key "{self.routing_key}"'


class Suspicious(Exception):
    """Raised when the channel was closed over one of several messages, and nobody can tell over which."""


class Line:
    """A channel with confirms and with returns that raise. `alone`: for one message, and closed after it."""

    def __init__(self, channel: ClientChannel, *, alone: bool) -> None:
        self._channel = channel
        self._alone = alone
        self._writing = asyncio.Lock()
        self._in_flight: dict[str, asyncio.Future[None] | None] = {}
        self._accused = 0  # how many were in flight when the broker closed the channel

    @property
    def closed(self) -> bool:
        # The client keeps a channel "open" for some turns of the loop after the broker has closed it. What it writes
        # in those turns is for a channel that no longer exists, and RabbitMQ answers that by ending the connection.
        return self._channel.is_closed or self._channel._close_exception is not None

    def carries(self, message_id: str) -> bool:
        """The client finds the publish that a returned message belongs to by its id: two with one id would get each
        other's result."""
        return message_id in self._in_flight

    async def answered(self, message_id: str) -> None:
        """Returns when the message with this id has its answer, which comes with the channel's end at the latest."""
        future = self._in_flight.get(message_id)
        if message_id in self._in_flight:
            if future is None:
                future = self._in_flight[message_id] = asyncio.get_running_loop().create_future()
            await asyncio.shield(future)

    def take(self, message_id: str) -> None:
        """From now on this line carries it; `publish` puts it down."""
        self._in_flight[message_id] = None

    async def publish(self, outgoing: Outgoing) -> None:
        """Returns on the confirm. Raises as `Publisher.send` does, and `Suspicious`."""
        try:
            properties = self._properties(outgoing)
            await self._turn()
            await self._channel.basic_publish(
                cast(bytes, outgoing.message.body),
                exchange=outgoing.exchange,
                routing_key=outgoing.routing_key,
                properties=properties,
                mandatory=outgoing.mandatory,
            )
        except (Exception, asyncio.CancelledError) as error:
            raise self._meaning(error, outgoing) from None
        finally:
            self._put_down(str(outgoing.message.message_id))
            if self._alone:
                await self._close()

    def _properties(self, outgoing: Outgoing) -> Basic.Properties:
        properties = to_properties(outgoing.message)
        # Properties are one frame. RabbitMQ answers a longer one by ending the connection, with all that is on it.
        room = self._channel.connection.connection_tune.frame_max - _FRAME_OVERHEAD
        if 0 < room < longest(outgoing.message.headers):
            size = len(properties.marshal())
            if size > room:
                raise ValueError(f"headers and properties take {size} bytes, and the broker allows {room}")
        return properties

    async def _turn(self) -> None:
        """Returns when what went before is in the socket, so that from here to our own writing nothing is waited for:
        whoever waits inside the client when the broker closes the channel still writes to it, see `closed`."""
        await self._writing.acquire()
        try:
            async with self._channel.lock:  # the client holds it while it writes
                pass
            if self.closed:
                raise client.ChannelInvalidStateError
        except BaseException:
            self._writing.release()
            raise
        # Runs when the client first waits, that is after it has handed the message to the socket's queue.
        asyncio.get_running_loop().call_soon(self._writing.release)

    def _meaning(self, error: BaseException, outgoing: Outgoing) -> BaseException:
        match error:
            case client.PublishError():
                return Unroutable(
                    exchange=outgoing.exchange, routing_key=outgoing.routing_key, reason=str(error.args[0])
                )
            case client.DeliveryError():
                return Nacked(f"the broker did not take a message to {outgoing} (basic.nack): is a queue full?")
            case client.ChannelInvalidStateError():
                return NotConnected(f"nothing was sent to {outgoing}: the channel had just been closed")
            case client.ChannelClosed():
                return self._refusal(error, outgoing)
            case _ if isinstance(error, _UNWRITABLE):
                return Unwritable(f"a message to {outgoing} cannot be written: {error}")
            case asyncio.CancelledError() if somebody_cancelled():
                return error
            case _:
                return ConnectionLost(
                    f"the connection ended before the broker confirmed a message to {outgoing} ({why_ended(error)}); "
                    "it may have arrived"
                )

    def _refusal(self, error: client.ChannelClosed, outgoing: Outgoing) -> Exception:
        self._accused = self._accused or len(self._in_flight)
        if self._accused == 1:
            return PublishRefused(f"the broker refused a message to {outgoing}: {why_ended(error)}")
        return Suspicious(
            f"the broker refused one of {self._accused} messages ({why_ended(error)}); one to {outgoing} was among "
            "them and is not confirmed"
        )

    def _put_down(self, message_id: str) -> None:
        waiting = self._in_flight.pop(message_id, None)
        if waiting is not None:
            waiting.set_result(None)

    async def _close(self) -> None:
        with contextlib.suppress(Refused, ConnectionLost):
            async with answered_within(_CLOSING, "the closing of a channel"):
                await self._channel.close()
