"""One supervised connection: connect, declare, let the parts live, wait for the end, pause, and again. Nothing crosses
from one generation to the next except the model. Queues and handlers are not known here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from aio_pika import Connection

from pipeline.amqp.backoff import Backoff
from pipeline.amqp.connect import Wire, connect
from pipeline.amqp.generation import Generation
from pipeline.clock import Clock
from pipeline.config.model import Address, Broker
from pipeline.errors import BrokerError, ConnectionLost, TopologyDiffers
from pipeline.events import Connected, ConnectFailed, Event, TopologyConflict
from pipeline.events import ConnectionLost as ConnectionLostEvent

__all__ = ["Generation", "Link", "Part"]

_GOODBYE = 1.0  # seconds for the end of a connection that is of no more use


class Part(Protocol):
    """Something that lives inside a generation."""

    async def live(self, generation: Generation) -> None:
        """Runs until the generation ends, or is cancelled then. Handles its own faults: a channel that closes is this
        part's business and never ends the generation of the others."""
        ...


class Link:
    """Keeps one connection to one of the broker's addresses."""

    def __init__(
        self,
        *,
        broker: Broker,
        name: str,
        purpose: str,
        clock: Clock,
        emit: Callable[[Event], None],
        declare: Callable[[Generation], Awaitable[None]] | None,
        parts: Sequence[Part],
        plain: bool = False,
    ) -> None:
        """`plain`: everything goes through the client, without the fast line."""
        self.name = name
        self.purpose = purpose
        self._broker = broker
        self._clock = clock
        self._emit = emit
        self._declare = declare
        self._parts = parts
        self._plain = plain
        self._backoff = Backoff(initial=broker.reconnect_initial, maximum=broker.reconnect_max)
        self._generation: Generation | None = None
        self._number = 0
        self._turn = 0  # which address is next
        # The one thing that is known from one generation to the next: without it an object that costs the connection
        # would cost every later one, too, and all that lives there.
        self._fatal: dict[tuple[str, str], str] = {}
        self._stopping = asyncio.Event()

    @property
    def generation(self) -> Generation | None:
        """The connection there is now, declared and alive."""
        return self._generation if self.up else None

    @property
    def up(self) -> bool:
        return self._generation is not None and not self._generation.ended

    @property
    def blocked(self) -> bool:
        return self._generation is not None and self._generation.blocked

    async def open(self, *, wait: bool) -> None:
        """The first generation: connected and declared. Raises `BrokerError` after each address was tried once, with
        all causes, or `TopologyDiffers`; with `wait` it says so and tries again instead."""
        while True:
            try:
                self._generation = await self._begin(first=True)
                return
            except (BrokerError, ConnectionLost, TopologyDiffers) as error:
                if not wait:
                    raise self._for_the_first_start(error) from None
                await self._back_off_after(str(error))

    async def keep(self) -> None:
        """This generation and every later one, until `close` is called."""
        async with asyncio.TaskGroup() as tasks:
            generations = tasks.create_task(self._generations())
            await self._stopping.wait()  # ends with `close`, or with whoever cancels us
            generations.cancel()

    async def close(self, *, timeout: float) -> None:
        """Ends `keep` and the connection, within `timeout` seconds. Channels are not closed one by one: on a frozen
        line each of them would wait for its answer."""
        self._stopping.set()
        if self._generation is not None:
            await self._generation.close(timeout=timeout)

    # The loop of generations

    async def _generations(self) -> None:
        while True:
            generation = self._generation or await self._begin_again()
            self._generation = generation
            began = self._clock.now()
            await self._live(generation)
            if self._clock.now() - began >= self._broker.reconnect_max:
                self._backoff.reset()
            self._generation = None
            await self._bury(generation)

    async def _begin_again(self) -> Generation:
        while True:
            try:
                return await self._begin(first=False)
            except (BrokerError, ConnectionLost) as error:
                await self._back_off_after(str(error))

    async def _begin(self, *, first: bool) -> Generation:
        generation = await self._connect()
        try:
            await self._declare_in(generation, first=first)
        except BaseException:
            await generation.close(timeout=_GOODBYE)
            raise
        self._emit(Connected(link=self.purpose, address=str(generation.address)))
        return generation

    async def _connect(self) -> Generation:
        """Each address once, the one after the last that was tried first."""
        causes = []
        addresses = self._broker.addresses
        for _ in addresses:
            address = addresses[self._turn % len(addresses)]
            self._turn += 1
            try:
                connection, wire = await connect(self._broker, address, name=self.name, plain=self._plain)
            except BrokerError as error:
                causes.append(str(error))
                continue
            self._number += 1
            return self._generation_of(connection, wire, address)
        raise BrokerError("; ".join(causes))

    def _generation_of(self, connection: Connection, wire: Wire, address: Address) -> Generation:
        return Generation(
            connection,
            wire,
            link=self.purpose,
            address=address,
            number=self._number,
            patience=self._broker.connect_timeout,
            fatal=self._fatal,
            apart=partial(self._apart, address),
        )

    @asynccontextmanager
    async def _apart(self, address: Address) -> AsyncIterator[Generation]:
        connection, wire = await connect(self._broker, address, name=f"{self.name} apart", plain=True)
        generation = self._generation_of(connection, wire, address)
        try:
            yield generation
        finally:
            await generation.close(timeout=_GOODBYE)

    async def _declare_in(self, generation: Generation, *, first: bool) -> None:
        if self._declare is None:
            return
        try:
            await self._declare(generation)
        except TopologyDiffers as error:
            if first:
                raise
            for difference in error.differences:
                self._emit(TopologyConflict(sentence=difference))

    async def _live(self, generation: Generation) -> None:
        async with asyncio.TaskGroup() as tasks:
            living = [tasks.create_task(part.live(generation)) for part in self._parts]
            await generation.wait_ended()
            for each in living:
                each.cancel()

    async def _bury(self, generation: Generation) -> None:
        """The client keeps tasks of a dead connection until it is closed."""
        pause = self._backoff.pause()
        self._emit(ConnectionLostEvent(link=self.purpose, reason=generation.reason, next_attempt=pause))
        await generation.close(timeout=_GOODBYE)
        await self._clock.sleep(pause)

    async def _back_off_after(self, reason: str) -> None:
        pause = self._backoff.pause()
        self._emit(ConnectFailed(link=self.purpose, reason=reason, next_attempt=pause))
        await self._clock.sleep(pause)

    def _for_the_first_start(
        self, error: BrokerError | ConnectionLost | TopologyDiffers
    ) -> BrokerError | TopologyDiffers:
        if not isinstance(error, ConnectionLost):
            return error
        if self._fatal:
            return TopologyDiffers(list(self._fatal.values()))
        return BrokerError(f"lost the connection before it was ready ({error})")
