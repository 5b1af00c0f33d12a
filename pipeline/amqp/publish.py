"""Publishing with confirms: `send` returns when the broker has the message, every other end is an error with a name of
its own, and a refusal costs one destination's channel. Sources and dead letters are not known here.
Hot: `send` and what it calls run once per message."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from aiormq.channel import Channel as ClientChannel

from pipeline.amqp.fast.outlet import FastOutlet
from pipeline.amqp.generation import Generation
from pipeline.amqp.outlet import Outgoing, Outlet, Suspicious
from pipeline.amqp.plain.outlet import PlainOutlet
from pipeline.clock import Clock
from pipeline.errors import ConnectionLost, NotConnected
from pipeline.events import Blocked, Event, Unblocked

__all__ = ["Outgoing", "Publisher"]

Destination = tuple[str, str]

_LOOK_AT_BLOCKED = 0.25  # seconds
_MOST_SUSPECTS = 4_096  # more than are ever in flight; forgetting one costs another round of suspicion, no more


class Publisher:
    """Lives in one link. Each destination has a channel of its own, so that messages to one place keep their order and
    a refusal reaches few others; when `channels` are in use, destinations share them. At most `window` messages are
    unconfirmed at a time. Before the link is up, and while the broker blocks it, messages wait here."""

    # On the plain line the client's queue to the socket takes ten writes. With fewer channels it is never full.
    def __init__(self, *, clock: Clock, emit: Callable[[Event], None], channels: int = 8, window: int = 256) -> None:
        self._clock = clock
        self._emit = emit
        self._channels = channels
        self._places = asyncio.Semaphore(window)
        self._outlets: dict[Destination, Outlet] = {}
        self._entrance = asyncio.Lock()
        self._at_entrance = 0
        self._generation: Generation | None = None
        self._ready = asyncio.Event()
        self._suspects: set[str] = set()
        self.outstanding = 0  # messages that somebody waits for

    async def wait_ready(self) -> None:
        """Returns when there is a connection to publish on."""
        await self._ready.wait()  # ends with the link's next generation

    async def live(self, generation: Generation) -> None:
        """Publish in this generation from now on."""
        self._generation = generation
        self._ready.set()
        try:
            await self._tell_when_blocked(generation)
        finally:
            self._forget(generation)

    async def send(self, outgoing: Outgoing, *, timeout: float | None) -> None:
        """Returns when the broker has confirmed. `timeout` bounds the time until the message is on its way; from then
        on only the broker's answer or the end of the channel ends the wait: given up while the broker is blocked it
        may still arrive, and sent again it would be there twice.

        Raises `Unroutable`, `Nacked`, `PublishRefused`; `NotConnected` when nothing was sent; `ConnectionLost` when it
        may have arrived. Cancelled, it leaves the message on its way."""
        if not outgoing.message.message_id:
            raise ValueError("a message is stamped with its message_id before it is sent")
        self.outstanding += 1
        try:
            outlet = self._free_outlet(outgoing)
            if outlet is None:
                outlet = await self._waited_for(outgoing, timeout)
            else:
                await self._places.acquire()  # there is one: nothing is waited for
            await outlet.send(outgoing)
        except Suspicious as error:
            self._suspect(str(outgoing.message.message_id))
            raise ConnectionLost(str(error)) from None
        else:
            if self._suspects:
                self._suspects.discard(outgoing.message.message_id)
        finally:
            self.outstanding -= 1

    # Finding a channel

    def _free_outlet(self, outgoing: Outgoing) -> Outlet | None:
        """Without waiting, which is how nearly every message finds it; not past those who wait."""
        if self._at_entrance or self._generation is None or self._generation.blocked or self._places.locked():
            return None
        message_id = str(outgoing.message.message_id)
        outlet = self._outlets.get(self._destination(outgoing))
        if outlet is None or outlet.closed or not outlet.free:
            return None
        return None if outlet.carries(message_id) or message_id in self._suspects else outlet

    async def _waited_for(self, outgoing: Outgoing, timeout: float | None) -> Outlet:
        """An outlet and one of the places, for one message after the other. Raises `NotConnected`."""
        message_id = str(outgoing.message.message_id)
        self._at_entrance += 1
        try:
            async with self._clock.deadline(timeout):
                while True:
                    async with self._entrance:
                        await self._places.acquire()
                        outlet = await self._outlet_or_give_up_place(outgoing)
                        if not outlet.carries(message_id):
                            return outlet
                        self._places.release()
                    await outlet.answered(message_id)
        except TimeoutError:
            raise NotConnected(f"nothing was sent within {timeout:g} s: {self._obstacle}") from None
        finally:
            self._at_entrance -= 1

    @property
    def _obstacle(self) -> str:
        if self._generation is None:
            return "there is no connection to the broker"
        if self._generation.blocked:
            return "the broker takes no messages for now (memory or disk alarm)"
        if any(not outlet.free for outlet in self._outlets.values()):
            return "the broker, or the network before it, takes nothing more from the connection for now"
        return "too many messages wait for their confirms"

    async def _outlet_or_give_up_place(self, outgoing: Outgoing) -> Outlet:
        try:
            while True:
                await self._ready.wait()  # ends with the link's next generation, or with the deadline
                generation = self._generation
                assert generation is not None
                try:
                    await generation.unblocked()
                    outlet = await self._outlet(outgoing, generation)
                    while not (outlet.free or outlet.closed):
                        await outlet.until_free()
                    if not outlet.closed:
                        return outlet
                except ConnectionLost:
                    # Asked with a wait: the client may know of the end before `generation` can, which needs a turn of
                    # the loop, and a loop here without one would never give it that.
                    if await generation.is_over():
                        self._forget(generation)
        except BaseException:
            self._places.release()
            raise

    async def _outlet(self, outgoing: Outgoing, generation: Generation) -> Outlet:
        if outgoing.message.message_id in self._suspects:
            return await self._open(generation, alone=True)
        self._outlets = {destination: outlet for destination, outlet in self._outlets.items() if not outlet.closed}
        destination = self._destination(outgoing)
        if destination not in self._outlets:
            self._outlets[destination] = await self._open(generation, alone=False)
        return self._outlets[destination]

    async def _open(self, generation: Generation, *, alone: bool) -> Outlet:
        opened = await generation.channel(confirms=True)
        channel = cast(ClientChannel, await opened.get_underlay_channel())
        if generation.switch is not None:
            outlet = FastOutlet(channel, generation.switch, alone=alone, answered=self._places.release)
            if generation.switch.claim(channel.number, outlet):
                return outlet
        return PlainOutlet(channel, alone=alone, answered=self._places.release)

    def _destination(self, outgoing: Outgoing) -> Destination:
        # The default exchange is many places: a queue each.
        destination = (outgoing.exchange, "" if outgoing.exchange else outgoing.routing_key)
        if destination in self._outlets or len(self._outlets) < self._channels:
            return destination
        return list(self._outlets)[hash(destination) % len(self._outlets)]

    async def _tell_when_blocked(self, generation: Generation) -> None:
        """Until the generation ends. The client tells nobody, so it is asked again and again."""
        while not generation.ended:
            if generation.blocked:
                self._emit(Blocked(link=generation.link))
                with contextlib.suppress(ConnectionLost):
                    await generation.unblocked()
                self._emit(Unblocked(link=generation.link))
            await self._clock.sleep(_LOOK_AT_BLOCKED)

    def _forget(self, generation: Generation) -> None:
        if self._generation is generation:
            self._ready.clear()
            self._generation = None
            self._outlets = {}

    def _suspect(self, message_id: str) -> None:
        """The channel was closed over one of several messages: sent again, each travels alone, and the guilty one is
        known by it."""
        if len(self._suspects) >= _MOST_SUSPECTS:
            self._suspects.clear()
        self._suspects.add(message_id)
