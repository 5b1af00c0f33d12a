"""Publishing with confirms: `send` returns when the broker has the message, every other end is an error with a name of
its own, and a refusal costs one destination's channel. Sources and dead letters are not known here.
Hot: `send` and what it calls run once per message."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from aiormq.channel import Channel as ClientChannel

from pipeline.amqp.generation import Generation
from pipeline.amqp.line import Line, Outgoing, Suspicious
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

    # The client's queue to the socket takes ten writes. With fewer channels than that it is never full, see `line`.
    def __init__(self, *, clock: Clock, emit: Callable[[Event], None], channels: int = 8, window: int = 256) -> None:
        self._clock = clock
        self._emit = emit
        self._channels = channels
        self._places = asyncio.Semaphore(window)
        self._lines: dict[Destination, Line] = {}
        self._entrance = asyncio.Lock()
        self._at_entrance = 0
        self._generation: Generation | None = None
        self._ready = asyncio.Event()
        self._suspects: set[str] = set()
        self._publishing: set[asyncio.Task[None]] = set()
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
            line = self._free_line(outgoing)
            if line is None:
                line = await self._waited_for(outgoing, timeout)
            else:
                await self._places.acquire()  # there is one: nothing is waited for
            # Cancelled in the middle, a publish would leave its confirm to the next message with the same id; so it
            # runs to its end, whoever has stopped to wait for it.
            await asyncio.shield(self._publish(line, outgoing))
        except Suspicious as error:
            self._suspect(str(outgoing.message.message_id))
            raise ConnectionLost(str(error)) from None
        else:
            if self._suspects:
                self._suspects.discard(outgoing.message.message_id)
        finally:
            self.outstanding -= 1

    # Finding a channel

    def _free_line(self, outgoing: Outgoing) -> Line | None:
        """Without waiting, which is how nearly every message finds it; not past those who wait."""
        if self._at_entrance or self._generation is None or self._generation.blocked or self._places.locked():
            return None
        message_id = str(outgoing.message.message_id)
        line = self._lines.get(self._destination(outgoing))
        if line is None or line.closed or line.carries(message_id) or message_id in self._suspects:
            return None
        return line

    async def _waited_for(self, outgoing: Outgoing, timeout: float | None) -> Line:
        """A line and one of the places, for one message after the other. Raises `NotConnected`."""
        message_id = str(outgoing.message.message_id)
        self._at_entrance += 1
        try:
            async with self._clock.deadline(timeout):
                while True:
                    async with self._entrance:
                        await self._places.acquire()
                        line = await self._line_or_give_up_place(outgoing)
                        if not line.carries(message_id):
                            return line
                        self._places.release()
                    await line.answered(message_id)
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
        return "too many messages wait for their confirms"

    async def _line_or_give_up_place(self, outgoing: Outgoing) -> Line:
        try:
            while True:
                await self._ready.wait()  # ends with the link's next generation, or with the deadline
                generation = self._generation
                assert generation is not None
                try:
                    await generation.unblocked()
                    return await self._line(outgoing, generation)
                except ConnectionLost:
                    # Asked with a wait: the client may know of the end before `generation` can, which needs a turn of
                    # the loop, and a loop here without one would never give it that.
                    if await generation.is_over():
                        self._forget(generation)
        except BaseException:
            self._places.release()
            raise

    async def _line(self, outgoing: Outgoing, generation: Generation) -> Line:
        if outgoing.message.message_id in self._suspects:
            return await self._open(generation, alone=True)
        self._lines = {destination: line for destination, line in self._lines.items() if not line.closed}
        destination = self._destination(outgoing)
        if destination not in self._lines:
            self._lines[destination] = await self._open(generation, alone=False)
        return self._lines[destination]

    async def _open(self, generation: Generation, *, alone: bool) -> Line:
        channel = await generation.channel(confirms=True)
        return Line(cast(ClientChannel, await channel.get_underlay_channel()), alone=alone)

    def _destination(self, outgoing: Outgoing) -> Destination:
        # The default exchange is many places: a queue each.
        destination = (outgoing.exchange, "" if outgoing.exchange else outgoing.routing_key)
        if destination in self._lines or len(self._lines) < self._channels:
            return destination
        return list(self._lines)[hash(destination) % len(self._lines)]

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
            self._lines = {}

    # On the way

    def _publish(self, line: Line, outgoing: Outgoing) -> asyncio.Task[None]:
        line.take(str(outgoing.message.message_id))
        task = asyncio.create_task(line.publish(outgoing))
        self._publishing.add(task)
        task.add_done_callback(self._published)
        return task

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        self._places.release()
        if not task.cancelled():
            task.exception()  # known to its sender, or the sender has gone

    def _suspect(self, message_id: str) -> None:
        """The channel was closed over one of several messages: sent again, each travels alone, and the guilty one is
        known by it."""
        if len(self._suspects) >= _MOST_SUSPECTS:
            self._suspects.clear()
        self._suspects.add(message_id)
