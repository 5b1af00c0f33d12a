"""A generation: one connection from its opening to its end. Opens channels, knows whether it is blocked and why it has
ended. Who lives in it, and what comes after it, is not known here."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import cast

from aio_pika import Connection
from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractConnection

from pipeline.amqp.connect import Wire
from pipeline.amqp.fast.switch import Switch
from pipeline.amqp.faults import answered_within, refusal_of, why_ended
from pipeline.config.model import Address
from pipeline.errors import ConnectionLost

_A_MOMENT = 0.2  # seconds
_AFTER_CUT = 1.0  # seconds for the client to put its things away when its socket is gone


class Generation:
    """One connection from its opening to its end."""

    def __init__(
        self,
        connection: Connection,
        wire: Wire,
        *,
        link: str,
        address: Address,
        number: int,
        patience: float,
        fatal: dict[tuple[str, str], str],
        apart: Callable[[], AbstractAsyncContextManager["Generation"]],
    ) -> None:
        assert connection.transport is not None
        self.link = link
        self.address = address
        self.number = number
        self.patience = patience  # seconds that an answer of the broker may take
        self.reason = ""
        self.refusal: str | None = None  # the broker's words, where it has ended the connection over what was asked
        # By kind and name, objects over whose declaration the broker has ended a connection, this one or an earlier.
        self.fatal = fatal
        self.apart = apart  # a connection where nobody lives, for what may cost it; raises `BrokerError`
        self.conflicts: dict[str, str] = {}  # by queue, what the last declaration found different
        self._connection = connection
        self._client: AbstractConnection = connection.transport.connection
        self._wire = wire
        self.switch: Switch | None = wire.switch  # where channels are claimed for the fast line; None on the plain one
        self._over = asyncio.Event()
        self._closing = False
        # `is_closed` and `closed()` of the connection never tell about a lost link; its close callbacks do.
        connection.close_callbacks.add(self._on_close)
        if self._client.is_closed:
            self._end("closed by the other side")  # between its opening and this line

    @property
    def server_properties(self) -> Mapping[str, object]:
        """What the broker has said of itself in the handshake."""
        return cast(Mapping[str, object], self._client.server_properties)

    @property
    def most_channels(self) -> int:
        """So many the two sides have agreed upon (connection.tune): the broker ends the connection over one more."""
        return self._client.connection_tune.channel_max or 65_535  # 0: no limit but that of the number's size

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    async def wait_ended(self) -> None:
        """The one wait without a deadline: heartbeats see to it that a dead peer is noticed."""
        await self._over.wait()

    async def is_over(self) -> bool:
        """Whether it has ended, asked by somebody whose call failed: that may be known a moment before the end is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_A_MOMENT):
                await self._over.wait()
        return self.ended

    @property
    def blocked(self) -> bool:
        """Whether an alarm of the broker holds this connection (connection.blocked).

        The switch sees the frame. The client tells nobody, but its `ready()` waits exactly then: one step of it is
        the answer."""
        if self.switch is not None:
            return self.switch.blocked and not self.ended
        if self.ended:
            return False
        step = self._client.ready()
        try:
            step.send(None)
        except StopIteration:
            return False
        step.close()
        return True

    async def unblocked(self) -> None:
        """Returns when the broker takes messages. Raises `ConnectionLost` when the connection ends first."""
        while self.blocked:  # the client may hear of it a turn later, and be ready until then
            waiting = asyncio.ensure_future(self._client.ready())
            over = asyncio.ensure_future(self._over.wait())
            try:
                await asyncio.wait({waiting, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                over.cancel()
        if self.ended:
            raise ConnectionLost(self.reason)

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel, with publisher confirms if asked. While the broker blocks this connection it waits, otherwise
        it takes `patience` at most. Raises `ConnectionLost`, also when there was no answer."""
        await self.unblocked()
        async with answered_within(self.patience, "the opening of a channel"):
            channel = self._connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            # The client's opening has a second step without a deadline of its own; ours covers both.
            await channel.initialize()
        return channel

    async def close(self, *, timeout: float) -> None:
        """Say goodbye, for `timeout` seconds at most, then cut the socket. Safe to call again, and on a corpse."""
        self._closing = True
        closing = asyncio.ensure_future(self._connection.close())
        try:
            # `wait` leaves the client's own closing alone: cut short, it would leave tasks behind.
            await asyncio.wait({closing}, timeout=timeout)
        finally:
            self._wire.cut()
            self._end("closed")
        await asyncio.wait({closing}, timeout=_AFTER_CUT)

    def _on_close(self, _: object, error: BaseException | None) -> None:
        self.refusal = None if self._closing else refusal_of(error)
        self._end("closed" if self._closing else why_ended(error))

    def _end(self, reason: str) -> None:
        if not self.ended:
            self.reason = reason
            self._over.set()
