"""What one message's handler sends out: each output under an id of its own, all of them confirmed before the message is
acknowledged. What handling means, and what becomes of the message, is not known here."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping

from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.config.model import Publish
from pipeline.errors import ChannelGone, SettlementError
from pipeline.message import Message
from pipeline.runtime.confirm import GaveUp, Troubled, until_confirmed
from pipeline.runtime.outgoing import outgoing

# A generator may yield without an end: it is asked for more only while fewer of its outputs are unconfirmed.
_UNCONFIRMED_MOST = 100
_LONGEST_ID = 255  # octets: message-id is a short string (AMQP 0-9-1, 4.2.5.3)


class Outputs:
    """The outputs of one message. Ids are `<input id>:<consumer>:<n>`: a repeat after a failure gives them again."""

    __slots__ = (
        "_alive",
        "_clock",
        "_consumer",
        "_count",
        "_forgotten",
        "_front",
        "_input",
        "_longest_hold",
        "_plain",
        "_publish",
        "_publisher",
        "_sending",
        "_since",
        "_troubled",
    )

    def __init__(
        self,
        message: Message,
        *,
        consumer: str,
        publish: Publish | None,
        plain: Publish,
        publisher: Publisher,
        clock: Clock,
        alive: Callable[[], bool],
        longest_hold: float | None,
        troubled: Troubled,
    ) -> None:
        self._input = message
        self._consumer = consumer
        self._publish = publish
        self._plain = plain  # the schema's defaults, for `context.publish` where the file has no `publish`
        self._publisher = publisher
        self._clock = clock
        self._alive = alive  # whether the input can still be acknowledged
        self._longest_hold = longest_hold  # seconds from the first output; None: no limit
        self._since: float | None = None
        self._troubled = troubled
        self._sending: set[asyncio.Task[None]] = set()
        self._count = 0
        self._front: str | None = None
        self._forgotten = False

    async def add(self, value: object) -> None:
        """Send it on as the consumer's `publish` says; returns before it is confirmed. Raises what an earlier output
        failed with, so that a generator ends early."""
        assert self._publish is not None
        self._begin(outgoing(value, self._publish, message_id=self._next_id()))
        while len(self._sending) >= _UNCONFIRMED_MOST:
            await self._some_confirmed(asyncio.FIRST_COMPLETED)

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
        target = self._publish or (None if exchange is None else self._plain)
        if target is None:
            raise ValueError("context.publish needs queue= or exchange=: this consumer has no `publish` in the file")
        out = outgoing(body, target, message_id=self._next_id())
        if exchange is not None:
            out.exchange, out.routing_key = exchange, routing_key or ""
        elif routing_key is not None:
            out.routing_key = routing_key
        out.message.headers |= headers or {}
        sending = self._begin(out)
        try:
            await asyncio.shield(sending)
        finally:
            if sending.done():  # the handler has heard how it ended: what follows from that is its business
                self._sending.discard(sending)

    async def confirmed(self) -> None:
        """Returns when everything that was sent is confirmed. Raises what the first failure was: `PublishError`, or
        `ChannelGone` when the input's own channel ended meanwhile."""
        while self._sending:
            await self._some_confirmed(asyncio.ALL_COMPLETED)

    def forget(self) -> None:
        """The message will come again, or its handler was given up: what is not out yet does not go out any more."""
        self._forgotten = True
        for task in self._sending:
            task.cancel()

    def _begin(self, out: Outgoing) -> asyncio.Task[None]:
        if self._forgotten:
            raise SettlementError("this message was given up (timeout or stop): nothing is published for it any more")
        if self._since is None:
            self._since = self._clock.now()
        task = asyncio.create_task(self._send(out))
        task.add_done_callback(told)
        self._sending.add(task)
        return task

    async def _send(self, out: Outgoing) -> None:
        try:
            await until_confirmed(
                self._publisher, out, clock=self._clock, worth_it=self._worth_it, troubled=self._troubled
            )
        except GaveUp as gave_up:
            raise ChannelGone(str(gave_up)) from None

    def _worth_it(self) -> bool:
        if not self._alive():
            return False
        return self._longest_hold is None or self._clock.now() - (self._since or 0.0) < self._longest_hold

    async def _some_confirmed(self, when: str) -> None:
        done, _ = await asyncio.wait(self._sending, return_when=when)
        self._sending -= done  # others may have been added meanwhile
        for task in done:
            task.result()

    def _next_id(self) -> str:
        self._count += 1
        if self._front is None:
            self._front = f"{self._input.message_id or uuid.uuid4().hex}:{self._consumer}"
        message_id = f"{self._front}:{self._count}"
        if len(message_id.encode()) <= _LONGEST_ID:
            return message_id
        return f"{hashlib.sha256(self._front.encode()).hexdigest()}:{self._count}"


def told(sending: asyncio.Task[None]) -> None:
    """Its failure is read by whoever waits for it; nobody may, once the message was given up."""
    if not sending.cancelled():
        sending.exception()
