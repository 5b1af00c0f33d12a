"""The fast line's deliveries: what one channel is delivered, in batches, and the settlements that go back, gathered
during one turn of the loop. What a message is worth, and which way home it takes, is not known here. Hot."""

from collections.abc import Callable, Sequence
from typing import Final

from pipeline.amqp.fast import writing
from pipeline.amqp.fast.reading import (
    BODY,
    BODY_SIZE_AT,
    CONTENT_HEADER,
    DELIVER,
    FRAME_END,
    FRAME_HEADER,
    HEADER,
    METHOD,
    METHOD_START,
    OUTSIDE_PAYLOAD,
    PAYLOAD_AT,
    PROPERTIES_AT,
    TAG_AND_REDELIVERED,
)
from pipeline.amqp.fast.received import Received
from pipeline.amqp.fast.switch import Switch
from pipeline.errors import ChannelGone, SettlementError
from pipeline.values import Light

_AGAIN: Final = "its channel has ended: the broker delivers the message again"


class FastDelivery(Light):
    """A `pipeline.message.Delivery`. Its answers go out at the end of this turn of the loop, which is not yet "the
    broker knows": it may come again all the same."""

    message: Received
    _channel: "Deliveries"
    _tag: int
    _settled: bool

    @property
    def alive(self) -> bool:
        return self._channel.open

    async def ack(self) -> None:
        # Written out in full where the others call `_claim`: it runs for nearly every message.
        if self._settled:
            self._claim()
        if not self._channel.open:
            raise ChannelGone(_AGAIN)
        self._settled = True
        self._channel.note_ack(self._tag)

    async def nack(self) -> None:
        self.give_back()

    def give_back(self) -> None:
        """What `nack` does, for who cannot wait."""
        self._channel.note_nack(self._claim())

    async def reject(self, *, requeue: bool) -> None:
        self._channel.note_reject(self._claim(), requeue=requeue)

    def _claim(self) -> int:
        """The tag, once: the broker closes a channel over a second answer."""
        if self._settled:
            why = "was acknowledged by the broker (`ack: none`)" if self._channel.no_ack else "is settled already"
            raise SettlementError(f"message {self.message.message_id or 'without id'} {why}")
        self._settled = True
        if not self._channel.open:
            raise ChannelGone(_AGAIN)
        return self._tag


class Deliveries:
    """The claim on one consumer's channel. `receive` gets what one reading of the socket brought."""

    def __init__(
        self,
        channel: int,
        switch: Switch,
        *,
        queue: str,
        no_ack: bool,
        receive: Callable[[Sequence[FastDelivery]], None],
    ) -> None:
        self.open = True
        self.no_ack = no_ack
        self._channel = channel
        self._switch = switch
        self._queue = queue
        self._receive = receive
        self._batch: list[FastDelivery] = []
        self._up_to_tag, self._method_size = b"?", 0  # of the last one that was learnt; no frame begins so
        # A delivery of which only the beginning is there: what its method says, what its content header says, its body.
        self._tag = 0
        self._redelivered = False
        self._method: bytes | None = None
        self._header: bytes | None = None
        self._pieces: list[bytes] = []
        self._missing = 0
        # Settlements. Everything up to `_floor` is settled and written; above it, `_settled` is.
        self._acks: list[int] = []
        self._answers: list[bytes] = []
        self._floor = 0
        self._settled: set[int] = set()

    # In

    def take(self, data: bytes, at: int, after: int, end: int) -> int:
        taken = at if self._method is not None else self._take_whole(data, at, end)
        return taken if taken > at else self._take_frame(data, at, after)

    def _take_whole(self, data: bytes, at: int, end: int) -> int:
        """Deliveries that lie in `data` whole and one behind the other, which is how RabbitMQ writes small ones: their
        three frames are read in one step. Frame by frame it was twice the time."""
        content_header, frame_header = CONTENT_HEADER.unpack_from, FRAME_HEADER.unpack_from
        tag_and_redelivered, begins = TAG_AND_REDELIVERED.unpack_from, data.startswith
        ours, queue, settled, batch = self._channel, self._queue, self.no_ack, self._batch
        up_to_tag, method_size = self._up_to_tag, self._method_size
        while end - at >= METHOD_START.size:
            if not begins(up_to_tag, at):
                if not self._learn_method(data, at, end):
                    break
                up_to_tag, method_size = self._up_to_tag, self._method_size
            header = at + method_size
            if end - header < CONTENT_HEADER.size:
                break
            kind, channel, size, _, _, body_size = content_header(data, header)
            after = body = header + size + OUTSIDE_PAYLOAD
            if kind != HEADER or channel != ours or size < PROPERTIES_AT or end < body:
                break
            if body_size:
                if end - body < OUTSIDE_PAYLOAD:
                    break
                kind, channel, size = frame_header(data, body)
                after = body + size + OUTSIDE_PAYLOAD
                if kind != BODY or channel != ours or size != body_size or end < after:
                    break
            if not data[header - 1] == data[body - 1] == data[after - 1] == FRAME_END:
                break
            tag_at = at + len(up_to_tag)
            tag, redelivered = tag_and_redelivered(data, tag_at)
            octets = data[tag_at + TAG_AND_REDELIVERED.size : body - 1]
            message = Received(data[body + PAYLOAD_AT : after - 1] if body_size else b"", octets, queue, redelivered)
            batch.append(FastDelivery(message, self, tag, settled))
            at = after
        return at

    def _learn_method(self, data: bytes, at: int, end: int) -> bool:
        """How a method frame of basic.deliver begins, up to its delivery tag, and how long it is: nearly all of a queue
        are alike in that. False: it is none."""
        kind, channel, size, method, length = METHOD_START.unpack_from(data, at)
        tag_at = METHOD_START.size + length
        if kind != METHOD or channel != self._channel or method != DELIVER:
            return False
        if tag_at + TAG_AND_REDELIVERED.size >= size + OUTSIDE_PAYLOAD or end - at < size + OUTSIDE_PAYLOAD:
            return False  # it says more than it has: for the client, which complains
        self._up_to_tag, self._method_size = data[at : at + tag_at], size + OUTSIDE_PAYLOAD
        return True

    def _take_frame(self, data: bytes, at: int, after: int) -> int:
        """One frame of a delivery that comes in pieces: cut by the end of a reading, between frames of other channels,
        or with a body of several frames (4.2.6). One that ends too early is left to the client, which complains."""
        payload = at + PAYLOAD_AT
        match data[at]:
            case kind if kind == METHOD:
                self._forget()  # a new method ends what had begun
                if after - at <= METHOD_START.size or METHOD_START.unpack_from(data, at)[3] != DELIVER:
                    return at
                tag_at = at + METHOD_START.size + data[at + METHOD_START.size - 1]
                if tag_at + TAG_AND_REDELIVERED.size >= after:
                    return at
                self._tag, self._redelivered = TAG_AND_REDELIVERED.unpack_from(data, tag_at)
                self._method = data[tag_at + TAG_AND_REDELIVERED.size : after]
            case kind if kind == HEADER and self._method is not None and self._header is None:
                if after - 1 - payload < PROPERTIES_AT:
                    return at
                self._header = data[at : after - 1]
                self._missing = int.from_bytes(data[payload + BODY_SIZE_AT : payload + BODY_SIZE_AT + 8])
                self._complete_if_whole()
            case kind if kind == BODY and self._header is not None:
                self._pieces.append(data[payload : after - 1])
                self._missing -= after - 1 - payload
                self._complete_if_whole()
            case _:
                return at
        return after

    def _complete_if_whole(self) -> None:
        if self._missing > 0 or self._method is None or self._header is None:
            return
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        message = Received(body, self._method + self._header, self._queue, self._redelivered)
        self._batch.append(FastDelivery(message, self, self._tag, self.no_ack))
        self._forget()

    def _forget(self) -> None:
        self._method, self._header, self._pieces = None, None, []

    def taken(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._receive(batch)

    def gone(self) -> None:
        self.open = False
        self._acks, self._answers = [], []
        self._forget()

    # Out

    def note_ack(self, tag: int) -> None:
        if not (self._acks or self._answers):
            self._switch.write_soon(self)
        self._acks.append(tag)

    def note_nack(self, tag: int) -> None:
        self._answer(tag, writing.basic_nack(self._channel, tag))

    def note_reject(self, tag: int, *, requeue: bool) -> None:
        self._answer(tag, writing.basic_reject(self._channel, tag, requeue=requeue))

    def _answer(self, tag: int, frame: bytes) -> None:
        if not (self._acks or self._answers):
            self._switch.write_soon(self)
        self._gather_acks()
        self._answers.append(frame)
        self._settled.add(tag)

    def outbox(self) -> list[bytes]:
        self._gather_acks()
        answers, self._answers = self._answers, []
        return answers

    def _gather_acks(self) -> None:
        """Neighbours are one `multiple` ack, which covers everything up to its tag: so it may reach only as far as
        everything is settled, by these acks or by answers that were written before."""
        acks, self._acks = self._acks, []
        acks.sort()
        together = 0
        for tag in acks:
            self._raise_floor()
            if tag != self._floor + 1:
                break
            self._floor = tag
            together += 1
        if together:
            self._answers.append(writing.basic_ack(self._channel, acks[together - 1], multiple=together > 1))
        for tag in acks[together:]:
            self._answers.append(writing.basic_ack(self._channel, tag, multiple=False))
            self._settled.add(tag)
        self._raise_floor()

    def _raise_floor(self) -> None:
        while self._settled and self._floor + 1 in self._settled:
            self._floor += 1
            self._settled.discard(self._floor)
