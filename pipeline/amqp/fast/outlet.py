"""The fast line's way to publish: a message is octets at once, what one turn of the loop sends is one write (but for a
message that is alone in flight), and a confirm ends the wait of its sender. Which message takes which channel is not
known here. Hot."""

import asyncio
import contextlib

from aiormq.channel import Channel as ClientChannel

from pipeline.amqp.convert import UNWRITABLE
from pipeline.amqp.fast import reading, writing
from pipeline.amqp.fast.switch import WRITE_AT, Switch
from pipeline.amqp.faults import Refused, answered_within
from pipeline.amqp.outlet import Answered, Outgoing, ended, nacked, unroutable
from pipeline.errors import ConnectionLost, NotConnected, Unwritable
from pipeline.values import Light

_CLOSING = 5.0  # seconds


class _InFlight(Light):
    """A message that has no answer yet. `answer` is its sender's, who may stop waiting; `over` ends all the same."""

    outgoing: Outgoing
    answer: asyncio.Future[None]
    over: asyncio.Future[None] | None = None
    returned: str | None = None  # the broker's words, when the message has come back


class FastOutlet:
    """A `pipeline.amqp.outlet.Outlet`, and the claim on its channel. `alone`: for one message, and closed after it."""

    def __init__(self, channel: ClientChannel, switch: Switch, *, alone: bool, answered: Answered) -> None:
        self.closed = False
        self._channel = channel
        self._number = channel.number
        self._switch = switch
        self._frame_max = channel.connection.connection_tune.frame_max
        self._retired = alone
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[int, _InFlight] = {}
        self._ids: dict[str, int] = {}
        self._last = 0  # publishes of a confirming channel are numbered from 1
        self._lowest = 1  # none below is in flight
        self._octets: list[bytes] = []
        self._size = 0
        self._long_body: asyncio.Task[None] | None = None
        self._returning: str | None = None  # the reply text of a returned message whose content is on its way
        self._closing: asyncio.Task[None] | None = None
        channel.closing.add_done_callback(self._on_end)

    # What is asked of an outlet

    def takes(self, message_id: str) -> bool:
        return not (self.closed or self._switch.full or self._long_body is not None or message_id in self._ids)

    @property
    def free(self) -> bool:
        return self._long_body is None and not self._switch.full

    async def until_free(self) -> None:
        if self._long_body is not None:
            await asyncio.wait({self._long_body})
        await self._switch.room()

    def carries(self, message_id: str) -> bool:
        return message_id in self._ids

    async def answered(self, message_id: str) -> None:
        number = self._ids.get(message_id)
        if number is None:
            return
        message = self._in_flight[number]
        if message.over is None:
            message.over = self._loop.create_future()
        await asyncio.shield(message.over)

    def send(self, outgoing: Outgoing) -> asyncio.Future[None]:
        message_id, number = outgoing.message_id, self._last + 1
        try:
            if self.closed:
                raise NotConnected(f"nothing was sent to {outgoing}: the channel had just been closed")
            octets, rest = writing.publish(self._number, outgoing, frame_max=self._frame_max)
        except UNWRITABLE as error:
            unwritable = Unwritable(f"a message to {outgoing} cannot be written: {error}")
            self._never_sent(message_id, unwritable)
            raise unwritable from None
        except NotConnected as error:
            self._never_sent(message_id, error)
            raise
        answer = self._loop.create_future()
        self._last = number
        self._in_flight[number] = _InFlight(outgoing, answer)
        self._ids[message_id] = number
        if rest:
            self._long_body = self._loop.create_task(self._write_long_body(octets, rest))
        elif len(self._in_flight) == 1 and not self._octets:
            # Alone it goes at once, as with Nagle's algorithm (RFC 896): there is nothing to gather it with, and the
            # rest of the turn is a twentieth of its way.
            self._switch.write(octets)
        else:
            self._write(octets)
        return answer

    def retire(self) -> None:
        self._retired = True
        self._close_if_over()

    # To the broker

    def _write(self, octets: bytes) -> None:
        if not self._octets:
            self._switch.write_soon(self)
        self._octets.append(octets)
        self._size += len(octets)
        if self._size > WRITE_AT:
            self._switch.write_now()

    async def _write_long_body(self, octets: bytes, body: bytes) -> None:
        """Frame by frame, as the socket takes them: the body is in memory once, and in the socket's buffer never as a
        whole. Nobody else publishes on this channel meanwhile, see `free`: content may not be interrupted (4.2.6)."""
        try:
            if self.closed:  # since `send`, in whose turn of the loop this has not begun
                return
            self._write(octets)
            for frame in writing.long_body(self._number, body, frame_max=self._frame_max):
                await self._switch.room()  # ends with the line at the latest
                if self.closed:
                    return
                self._write(frame)
        finally:
            self._long_body = None

    def outbox(self) -> list[bytes]:
        octets, self._octets, self._size = self._octets, [], 0
        return octets

    def gone(self) -> None:
        self.closed = True
        self._octets, self._size = [], 0

    # From the broker

    def take(self, data: bytes, at: int, after: int, end: int) -> int:
        start, confirm = at, reading.CONFIRM.unpack_from
        while end - at >= reading.CONFIRM_LENGTH:
            kind, channel, _, method, number, bits = confirm(data, at)
            if channel != self._number or kind != reading.METHOD or method not in (reading.ACK, reading.NACK):
                break
            if data[at + reading.CONFIRM_LENGTH - 1] != reading.FRAME_END:
                break
            self._confirmed(number, multiple=bool(bits & 1), taken=method == reading.ACK)
            at += reading.CONFIRM_LENGTH
        return at if at > start else self._take_returned(data, at, after)

    def taken(self) -> None:
        return

    def _confirmed(self, number: int, *, multiple: bool, taken: bool) -> None:
        if multiple:
            # 0 means all that are outstanding (basic.ack, 1.8.3.15), and beyond the last there are none.
            number = min(number or self._last, self._last)
            for each in range(self._lowest, number):
                self._answer(each, taken=taken)
        self._answer(number, taken=taken)
        while self._lowest <= self._last and self._lowest not in self._in_flight:
            self._lowest += 1

    def _answer(self, number: int, *, taken: bool) -> None:
        message = self._in_flight.pop(number, None)
        if message is None:
            return
        if message.returned is not None:
            self._end(message, unroutable(message.outgoing, message.returned))
        else:
            self._end(message, None if taken else nacked(message.outgoing))

    def _end(self, message: _InFlight, error: Exception | None) -> None:
        """Of a message that was in flight until now."""
        message_id, answer = message.outgoing.message_id, message.answer
        del self._ids[message_id]
        if answer.done():
            pass  # its sender has gone
        elif error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        if message.over is not None:
            message.over.set_result(None)
        self._answered(message_id, error)
        if self._retired:
            self._close_if_over()

    def _take_returned(self, data: bytes, at: int, after: int) -> int:
        """basic.return and its content, before the confirm of the same message. It is known by its id: one of an id is
        in flight at a time."""
        payload = at + reading.PAYLOAD_AT
        match data[at]:
            case reading.METHOD:
                self._returning = None
                if int.from_bytes(data[payload : payload + 4]) != reading.RETURN:
                    return at
                self._returning = _reply_text(data[payload + 4 : after - 1])
            case reading.HEADER if self._returning is not None:
                found = reading.properties(data[payload : after - 1], reading.PROPERTY_FLAGS_AT)
                number = self._ids.get(str(found.get("message_id", "")))
                if number is not None:
                    self._in_flight[number].returned = self._returning
            case reading.BODY if self._returning is not None:
                pass
            case _:
                return at
        return after

    # Its end

    def _never_sent(self, message_id: str, error: Exception) -> None:
        self._answered(message_id, error)
        if self._retired:
            self._close_if_over()

    def _close_if_over(self) -> None:
        if not self._in_flight and self._closing is None and not self.closed:
            self._closing = self._loop.create_task(self._close())

    async def _close(self) -> None:
        with contextlib.suppress(Refused, ConnectionLost):
            async with answered_within(_CLOSING, "the closing of a channel"):
                await self._channel.close()

    def _on_end(self, closing: "asyncio.Future[object]") -> None:
        """With the client's reason, some turns of the loop after `gone`."""
        error = asyncio.CancelledError() if closing.cancelled() else closing.exception()
        self.gone()
        messages, self._in_flight = list(self._in_flight.values()), {}
        unknown = [each for each in messages if each.returned is None]
        for message in messages:
            if message.returned is not None:  # it has had its answer, but for the confirm
                self._end(message, unroutable(message.outgoing, message.returned))
        for message in unknown:
            self._end(message, ended(error, message.outgoing, in_flight=len(unknown)))


def _reply_text(arguments: bytes) -> str:
    """Of basic.return: behind the reply code."""
    try:
        return reading.short_string(arguments, 2)[0]
    except IndexError:
        return "returned"  # no broker sends that; the message has come back all the same
