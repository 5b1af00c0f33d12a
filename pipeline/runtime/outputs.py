"""What one message's handler sends out: each output under an id of its own, all of them confirmed before the message is
acknowledged. What handling means, and what becomes of the message, is not known here. Hot: `Outputs`."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.config.model import Publish
from pipeline.errors import SettlementError
from pipeline.failpoints import ARMED, reach
from pipeline.message import Delivery, Message
from pipeline.runtime.confirm import MAY_MEND, until_confirmed
from pipeline.runtime.outgoing import Stamp, outgoing
from pipeline.sources.base import ids
from pipeline.values import Light

# A generator may yield without an end: it is asked for more only while fewer of its outputs are unconfirmed.
_UNCONFIRMED_MOST = 100
_LONGEST_ID = 255  # octets: message-id is a short string (AMQP 0-9-1, 4.2.5.3)
_LONGEST_CHARACTER = 4  # octets, in UTF-8


class Outlet:
    """What stays the same for the outputs of one consumer's messages."""

    __slots__ = ("clock", "consumer", "longest_hold", "plain", "publish", "publisher", "stamp", "troubled", "unnamed")

    def __init__(
        self,
        *,
        consumer: str,
        publish: Publish | None,
        plain: Publish,
        publisher: Publisher,
        clock: Clock,
        longest_hold: float | None,
        troubled: Callable[[Message, str, float], None],
    ) -> None:
        self.consumer = consumer
        self.publish = publish
        self.plain = plain  # the schema's defaults, for `context.publish` where the file has no `publish`
        self.stamp = Stamp(publish or plain)
        self.publisher = publisher
        self.clock = clock
        # Seconds from the first output while its input can be acknowledged; None, with `ack: none`: no limit at all,
        # for there is no delivery to go back to, and only the end of the run ends the trying.
        self.longest_hold = longest_hold
        self.troubled = troubled
        self.unnamed = ids()  # for inputs without an id


class Outputs(Light):
    """The outputs of one message. Ids are `<input id>:<consumer>:<n>`: a repeat after a failure gives them again."""

    _outlet: Outlet
    _input: Delivery
    _since: float | None = None
    _sending: set[asyncio.Task[None]] | None = None  # most messages never need it
    _count: int = 0
    _front: str | None = None
    _forgotten: bool = False

    def made(self, value: object) -> Outgoing:
        """A value as the consumer's `publish` says, under the next id. Raises `EncodeError`, and whatever else the
        value's own properties may cause."""
        return self._outlet.stamp.outgoing(value, self._next_id())

    async def add(self, value: object) -> None:
        """Send it on as the consumer's `publish` says; returns before it is confirmed. Raises what an earlier output
        failed with, so that a generator ends early."""
        self._begin(self.made(value))
        while self._sending and len(self._sending) >= _UNCONFIRMED_MOST:
            await self._some_confirmed(self._sending, asyncio.FIRST_COMPLETED)

    async def publish(
        self,
        body: object,
        *,
        exchange: str | None,
        routing_key: str | None,
        queue: str | None,
        headers: Mapping[str, object] | None,
    ) -> None:
        """What `context.publish` does: send it where it is told, and return when it is confirmed."""
        if queue is not None:
            exchange, routing_key = "", queue
        target = self._outlet.publish or (None if exchange is None else self._outlet.plain)
        if target is None:
            raise ValueError("context.publish needs queue= or exchange=: this consumer has no `publish` in the file")
        if headers:
            out = outgoing(body, target, message_id=self._next_id(), headers=headers)
        else:
            out = self.made(body)
        if exchange is not None:
            out.exchange, out.routing_key = exchange, routing_key or ""
        elif routing_key is not None:
            out.routing_key = routing_key
        sending = self._begin(out)
        try:
            ARMED and reach("outputs.before_published")
            await asyncio.shield(sending)
            ARMED and reach("outputs.after_published")
        finally:
            if self._sending and sending.done():  # the handler has heard how it ended: the rest is its business
                self._sending.discard(sending)

    async def confirmed(self, last: Outgoing | None = None) -> None:
        """Returns when everything that was sent is confirmed. Raises what the first failure was: `PublishError`, or
        `ChannelGone` when the input's own channel ended meanwhile.

        `last` is sent before. Where it is the only one it goes out in the caller's own task, and usually at once: a
        task for each output costs as much as all the rest of it, and each coroutine between a twentieth."""
        if last is not None:
            if self._sending:
                self._begin(last)
            else:
                answer = self._at_once(last)
                try:
                    ARMED and reach("outputs.before_answer")
                    await (answer or self._send(last))
                    ARMED and reach("outputs.after_answer")
                except MAY_MEND:  # which `_send` itself does not raise
                    await self._send(last, answer)
        while self._sending:  # also what the handler's own tasks have sent meanwhile
            await self._some_confirmed(self._sending, asyncio.ALL_COMPLETED)

    def forget(self) -> None:
        """The message will come again, or its handler was given up: what is not out yet does not go out any more."""
        self._forgotten = True
        for task in self._sending or ():
            task.cancel()

    def _begin(self, out: Outgoing) -> asyncio.Task[None]:
        task = asyncio.create_task(self._send(out))
        task.add_done_callback(told)
        if self._sending is None:
            self._sending = set()
        self._sending.add(task)
        return task

    def _at_once(self, out: Outgoing) -> asyncio.Future[None] | None:
        """The answer to it, if it can be on its way now. What None means, `_send` says."""
        if self._forgotten:
            return None
        if self._since is None:
            self._since = self._outlet.clock.now()
        try:
            return self._outlet.publisher.begin(out)
        except MAY_MEND:
            return None

    def _send(self, out: Outgoing, answer: asyncio.Future[None] | None = None) -> Coroutine[Any, Any, None]:
        if self._forgotten:
            raise SettlementError("this message was given up (timeout or stop): nothing is published for it any more")
        outlet = self._outlet
        if self._since is None:
            self._since = outlet.clock.now()
        return until_confirmed(
            outlet.publisher,
            out,
            clock=outlet.clock,
            worth_it=self._worth_it,
            troubled=self._troubled,
            begun=answer,
        )

    def _worth_it(self) -> bool:
        longest = self._outlet.longest_hold
        if longest is None:
            return True
        return self._input.alive and self._outlet.clock.now() - (self._since or 0.0) < longest

    def _troubled(self, reason: str, pause: float) -> None:
        self._outlet.troubled(self._input.message, reason, pause)

    async def _some_confirmed(self, sending: set[asyncio.Task[None]], when: str) -> None:
        ARMED and reach("outputs.before_confirms")
        done, _ = await asyncio.wait(sending, return_when=when)
        ARMED and reach("outputs.after_confirms")
        sending -= done  # others may have been added meanwhile
        for task in done:
            task.result()

    def _next_id(self) -> str:
        self._count = count = self._count + 1
        front = self._front
        if front is None:
            given = self._input.message.message_id or next(self._outlet.unnamed)
            front = self._front = f"{given}:{self._outlet.consumer}"
        message_id = f"{front}:{count}"
        if len(message_id) * _LONGEST_CHARACTER > _LONGEST_ID and len(message_id.encode()) > _LONGEST_ID:
            return f"{hashlib.sha256(front.encode()).hexdigest()}:{count}"
        return message_id


def told(sending: asyncio.Task[None]) -> None:
    """Its failure is read by whoever waits for it; nobody may, once the message was given up."""
    if not sending.cancelled():
        sending.exception()
