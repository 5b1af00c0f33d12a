"""Publishing with confirms: `send` returns when the broker has the message, every other end is an error with a name of
its own, and a refusal costs one destination's channel. Sources and dead letters are not known here.
Hot: `send` and what it calls run once per message."""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from typing import cast

from aiormq.channel import Channel as ClientChannel

from pipeline.amqp.fast.outlet import FastOutlet
from pipeline.amqp.generation import Generation
from pipeline.amqp.outlet import Kept, Outgoing, Outlet, Properties, Suspicious, too_large
from pipeline.amqp.plain.outlet import PlainOutlet
from pipeline.clock import Clock
from pipeline.errors import ConnectionLost, NotConnected
from pipeline.events import Blocked, Event, Unblocked

__all__ = ["Kept", "Outgoing", "Properties", "Publisher"]

Destination = tuple[str, str]

_LOOK_AT_BLOCKED = 0.25  # seconds
_DOUBT_EVERY = 30.0  # seconds; a queue may be full for days, and the client keeps a little for each channel there was
_MOST_SUSPECTS = 4_096  # more than are ever in flight; forgetting one costs another round of suspicion, no more


class _Waiting:
    """A message that is not on its way yet. `entered` becomes what its outlet answers with; cancelled, it has gone."""

    __slots__ = ("entered", "outgoing")

    def __init__(self, outgoing: Outgoing, entered: "asyncio.Future[asyncio.Future[None]]") -> None:
        self.outgoing = outgoing
        self.entered = entered


class Publisher:
    """Lives in one link. Each destination has a channel of its own, so that messages to one place keep their order and
    a refusal reaches few others; when `channels` are in use, destinations share them. At most `window` messages are
    unconfirmed at a time. Before the link is up, and while the broker blocks it, messages wait here. One whose body is
    longer than `longest` goes nowhere, unless it is `Kept`: RabbitMQ would close the channel over it."""

    # On the plain line the client's queue to the socket takes ten writes. With fewer channels it is never full.
    def __init__(
        self,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        longest: int = sys.maxsize,
        channels: int = 8,
        window: int = 256,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._longest = longest
        self._channels = channels
        self._window = window
        self._places = window
        self._place_free = asyncio.Event()
        self._outlets: dict[Destination, Outlet] = {}
        self._waiting: deque[_Waiting] = deque()
        self._usher: asyncio.Task[None] | None = None
        self._apart: set[asyncio.Task[None]] = set()
        self._generation: Generation | None = None
        self._ready = asyncio.Event()
        self._suspects: set[str] = set()
        self._doubted: dict[Destination, float] = {}

    @property
    def outstanding(self) -> int:
        """How many messages have no answer yet, or are not even on their way."""
        return self._window - self._places + sum(not each.entered.done() for each in self._waiting)

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

        Raises `Unroutable`, `Nacked`, `PublishRefused`, `TooLarge`; `NotConnected` when nothing was sent;
        `ConnectionLost` when it may have arrived. Cancelled, it leaves the message on its way."""
        await (self.begin(outgoing) or await self._waited_for(outgoing, timeout))

    def begin(self, outgoing: Outgoing) -> asyncio.Future[None] | None:
        """The same for what can be on its way at once, as nearly every message can: what it returns ends with the
        confirm, or raises as above. None: somebody has to wait first, which `send` does."""
        if not outgoing.message_id:
            raise ValueError("a message is stamped with its message_id before it is sent")
        if len(outgoing.body) > self._longest and outgoing.bounded:
            raise too_large(outgoing, self._longest)
        outlet = None if self._waiting else self._free_outlet(outgoing)  # not past those who wait
        if outlet is None:
            return None
        self._places -= 1
        return outlet.send(outgoing)

    def doubt(self, outgoing: Outgoing) -> None:
        """For what was nacked again and again: the next message to this destination takes a new channel. In RabbitMQ
        3.10 a channel that has once found a quorum queue without a leader nacks all that it gets for that queue, also
        when there is a leader again, for as long as it is open. What is in flight still gets its answer."""
        destination = self._destination(outgoing)
        now = self._clock.now()
        if now - self._doubted.get(destination, -_DOUBT_EVERY) < _DOUBT_EVERY:
            return
        if (outlet := self._outlets.pop(destination, None)) is not None:
            self._doubted[destination] = now
            outlet.retire()

    # Entering

    def _free_outlet(self, outgoing: Outgoing) -> Outlet | None:
        generation = self._generation
        if generation is None or generation.blocked or not self._places:
            return None
        message_id, exchange = outgoing.message_id, outgoing.exchange
        # Nearly always found under its own name; `_destination`, which looks for it as well, is for one that shares.
        outlet = self._outlets.get((exchange, "" if exchange else outgoing.routing_key))
        if outlet is None:
            outlet = self._outlets.get(self._destination(outgoing))
        if outlet is None or not outlet.takes(message_id) or message_id in self._suspects:
            return None
        return outlet

    def _answered(self, message_id: str, error: Exception | None) -> None:
        """What an outlet calls once for each message that entered."""
        self._places += 1
        if self._waiting:
            self._place_free.set()
        if error is None:
            self._suspects.discard(message_id)
        elif isinstance(error, Suspicious):
            self._suspect(message_id)

    # Waiting

    async def _waited_for(self, outgoing: Outgoing, timeout: float | None) -> asyncio.Future[None]:
        """The message is on its way, after all those who waited before it. Raises `NotConnected`."""
        waiting = _Waiting(outgoing, asyncio.get_running_loop().create_future())
        self._wait(waiting)
        try:
            async with self._clock.deadline(timeout):
                return await waiting.entered
        except TimeoutError:
            if waiting.entered.done() and not waiting.entered.cancelled():
                return waiting.entered.result()  # it went at the last moment
            raise NotConnected(f"nothing was sent within {timeout:g} s: {self._obstacle}") from None
        finally:
            if self._usher is not None and all(each.entered.done() for each in self._waiting):
                self._usher.cancel()  # it may wait for what nobody needs any more
                self._usher = None
                self._waiting.clear()

    def _wait(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        if self._usher is None:
            self._usher = asyncio.create_task(self._let_in())

    async def _let_in(self) -> None:
        """One for all who wait, so that they go in their order, and without a turn of the loop between two who need not
        wait: with a turn for each the queue would never get shorter while as many come as go."""
        while self._waiting:
            first = self._waiting[0]
            if first.entered.done():
                self._waiting.popleft()  # its sender has gone
                continue
            try:
                outlet = self._free_outlet(first.outgoing) or await self._one_step_towards(first)
                if outlet is None or first.entered.done() or self._waiting[0] is not first:
                    continue
                self._waiting.popleft()
                self._places -= 1
                first.entered.set_result(outlet.send(first.outgoing))
            except ConnectionLost:
                continue
            except Exception as error:  # what `send` of an outlet raises at once
                if not first.entered.done():
                    first.entered.set_exception(error)
        self._usher = None

    async def _one_step_towards(self, waiting: _Waiting) -> Outlet | None:
        """Wait for the first thing that is missing. The outlet, where that is its own."""
        message_id = waiting.outgoing.message_id
        if not self._places:
            self._place_free.clear()
            await self._place_free.wait()  # ends with an answer, or with all channels
            return None
        await self._ready.wait()  # ends with the link's next generation
        generation = self._generation
        assert generation is not None
        try:
            await generation.unblocked()
            if message_id in self._suspects:
                return await self._open(generation, alone=True)
            outlet = await self._outlet(waiting.outgoing, generation)
        except ConnectionLost:
            # Asked with a wait: the client may know of the end before `generation` can, which needs a turn of the
            # loop, and a loop here without one would never give it that.
            if await generation.is_over():
                self._forget(generation)
            return None
        if outlet.carries(message_id):
            self._wait_apart(waiting, outlet)
        elif not outlet.free:
            await outlet.until_free()
        return None

    def _wait_apart(self, waiting: _Waiting, outlet: Outlet) -> None:
        """For the answer to another message of the same id: that is no reason for all others to wait."""

        async def wait() -> None:
            await outlet.answered(waiting.outgoing.message_id)
            self._wait(waiting)

        self._waiting.popleft()
        task = asyncio.create_task(wait())
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)

    @property
    def _obstacle(self) -> str:
        if self._generation is None:
            return "there is no connection to the broker"
        if self._generation.blocked:
            return "the broker takes no messages for now (memory or disk alarm)"
        if any(not outlet.free for outlet in self._outlets.values()):
            return "the broker, or the network before it, takes nothing more from the connection for now"
        return "too many messages wait for their confirms"

    async def _outlet(self, outgoing: Outgoing, generation: Generation) -> Outlet:
        self._outlets = {destination: outlet for destination, outlet in self._outlets.items() if not outlet.closed}
        destination = self._destination(outgoing)
        if destination not in self._outlets:
            self._outlets[destination] = await self._open(generation, alone=False)
        return self._outlets[destination]

    async def _open(self, generation: Generation, *, alone: bool) -> Outlet:
        opened = await generation.channel(confirms=True)
        channel = cast(ClientChannel, await opened.get_underlay_channel())
        if generation.switch is not None:
            outlet = FastOutlet(channel, generation.switch, alone=alone, answered=self._answered)
            if generation.switch.claim(channel.number, outlet):
                return outlet
        return PlainOutlet(channel, alone=alone, answered=self._answered)

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
            self._doubted = {}

    def _suspect(self, message_id: str) -> None:
        """The channel was closed over one of several messages: sent again, each travels alone, and the guilty one is
        known by it."""
        if len(self._suspects) >= _MOST_SUSPECTS:
            self._suspects.clear()
        self._suspects.add(message_id)
