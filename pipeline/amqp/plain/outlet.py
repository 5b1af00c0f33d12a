"""The plain line's way to publish: through the client's own publishing, a task a message. Which message takes which
channel is not known here."""

import asyncio
import contextlib
from functools import partial

from aiormq import exceptions as client
from aiormq.channel import Channel as ClientChannel
from pamqp.commands import Basic

from pipeline.amqp.convert import UNWRITABLE, longest, room_for_properties, to_properties
from pipeline.amqp.faults import Refused, answered_within, somebody_cancelled
from pipeline.amqp.outlet import Answered, Outgoing, ended, nacked, unroutable
from pipeline.errors import ConnectionLost, NotConnected, Unwritable

_CLOSING = 5.0  # seconds


class PlainOutlet:
    """A `pipeline.amqp.outlet.Outlet`. `alone`: for one message, and closed after it."""

    def __init__(self, channel: ClientChannel, *, alone: bool, answered: Answered) -> None:
        self._channel = channel
        self._retired = alone
        self._closing: asyncio.Task[None] | None = None
        self._answered = answered
        self._writing = asyncio.Lock()
        self._in_flight: dict[str, asyncio.Future[None] | None] = {}
        self._accused = 0  # how many were in flight when the broker closed the channel
        self._publishing: set[asyncio.Task[None]] = set()

    @property
    def closed(self) -> bool:
        # The client keeps a channel "open" for some turns of the loop after the broker has closed it. What it writes
        # in those turns is for a channel that no longer exists, and RabbitMQ answers that by ending the connection.
        return self._channel.is_closed or self._channel._close_exception is not None

    def takes(self, message_id: str) -> bool:
        return not (self.closed or message_id in self._in_flight)

    @property
    def free(self) -> bool:
        return True  # the client waits for the socket itself

    async def until_free(self) -> None:
        return

    def carries(self, message_id: str) -> bool:
        """The client finds the publish that a returned message belongs to by its id: two with one id would get each
        other's result."""
        return message_id in self._in_flight

    async def answered(self, message_id: str) -> None:
        future = self._in_flight.get(message_id)
        if message_id in self._in_flight:
            if future is None:
                future = self._in_flight[message_id] = asyncio.get_running_loop().create_future()
            await asyncio.shield(future)

    def send(self, outgoing: Outgoing) -> asyncio.Future[None]:
        # Cancelled in the middle, a publish would leave its confirm to the next message with the same id; so it runs
        # to its end, whoever has stopped to wait for it.
        self._in_flight[outgoing.message_id] = None
        task = asyncio.create_task(self._publish(outgoing))
        self._publishing.add(task)
        task.add_done_callback(partial(self._published, outgoing.message_id))
        return asyncio.shield(task)

    def retire(self) -> None:
        self._retired = True
        if not self._in_flight:
            self._closing = asyncio.create_task(self._close())

    async def _publish(self, outgoing: Outgoing) -> None:
        try:
            properties = self._properties(outgoing)
            await self._turn()
            await self._channel.basic_publish(
                outgoing.body,
                exchange=outgoing.exchange,
                routing_key=outgoing.routing_key,
                properties=properties,
                mandatory=outgoing.mandatory,
            )
        except (Exception, asyncio.CancelledError) as error:
            raise self._meaning(error, outgoing) from None
        finally:
            self._put_down(outgoing.message_id)
            if self._retired and not self._in_flight:
                await self._close()

    def _properties(self, outgoing: Outgoing) -> Basic.Properties:
        properties = to_properties(outgoing.message)
        room = room_for_properties(self._channel.connection.connection_tune.frame_max)
        if room < longest(outgoing.properties.like.headers) and (size := len(properties.marshal())) > room:
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
                return unroutable(outgoing, str(error.args[0]))
            case client.DeliveryError():
                return nacked(outgoing)
            case client.ChannelInvalidStateError():
                return NotConnected(f"nothing was sent to {outgoing}: the channel had just been closed")
            case _ if isinstance(error, UNWRITABLE):
                return Unwritable(f"a message to {outgoing} cannot be written: {error}")
            case asyncio.CancelledError() if somebody_cancelled():
                return error
            case _:
                self._accused = self._accused or len(self._in_flight)
                return ended(error, outgoing, in_flight=self._accused)

    def _put_down(self, message_id: str) -> None:
        waiting = self._in_flight.pop(message_id, None)
        if waiting is not None:
            waiting.set_result(None)

    def _published(self, message_id: str, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        error = None if task.cancelled() else task.exception()  # known to its sender, or the sender has gone
        self._answered(message_id, error if isinstance(error, Exception) else None)

    async def _close(self) -> None:
        with contextlib.suppress(Refused, ConnectionLost):
            async with answered_within(_CLOSING, "the closing of a channel"):
                await self._channel.close()
