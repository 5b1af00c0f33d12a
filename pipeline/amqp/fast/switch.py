"""Sits on the socket between the broker and the client: cuts the stream into whole frames, hands those of claimed
channels to whoever claimed them, and passes all others on to the client untouched. Writes what they have to say, once
per turn of the loop. What is in a frame is for the claims. Hot.

On a claimed channel deliveries, returns, confirms, settlements and publishes are ours alone, in both directions;
the client keeps every method that asks and is answered, and the end of the channel."""

import asyncio
from typing import Protocol, cast

from pipeline.amqp.fast.reading import (
    CHANNEL_CLOSE,
    CHANNEL_CLOSE_OK,
    CHANNEL_OPEN_OK,
    CONNECTION_BLOCKED,
    CONNECTION_UNBLOCKED,
    FRAME_END,
    FRAME_HEADER,
    HEARTBEAT,
    METHOD,
    OUTSIDE_PAYLOAD,
)

_HEARTBEAT_FRAME = FRAME_HEADER.pack(HEARTBEAT, 0, 0) + bytes([FRAME_END])  # 4.2.7
# The client notices a dead peer by the frames that it sees. It is shown a heartbeat this often, in seconds, while only
# frames of ours arrive. Shorter than any heartbeat, which are whole seconds.
_SHOW_LIFE_EVERY = 0.5
# What is gathered in one turn is written before its end when it is more than this: the transport's own high-water
# mark, at which it says that it has enough.
WRITE_AT = 64 * 1024


class Claim(Protocol):
    """What takes the frames of one channel."""

    def take(self, data: bytes, at: int, after: int, end: int) -> int:
        """A whole frame of the channel lies in `data` from `at` to `after`. Returns the end of what was taken, which
        may be more whole frames of the channel up to `end`; or `at` to leave the frame to the client."""
        ...

    def taken(self) -> None:
        """The end of one reading of the socket in which something was taken."""
        ...

    def gone(self) -> None:
        """The channel is closed, or the line: nothing may be written for it any more."""
        ...

    def outbox(self) -> list[bytes]:
        """What is to be written now; empty afterwards."""
        ...


class Switch(asyncio.StreamReaderProtocol):
    """The protocol of one connection, in the place of the one that `asyncio.open_connection` makes."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.blocked = False  # by an alarm of the broker (connection.blocked)
        self._to_client = reader.feed_data
        self._loop = loop
        self._line: asyncio.Transport | None = None
        self._claims: dict[int, Claim] = {}
        self._opened: set[int] = set()  # channels that the client has had opened and that nobody has claimed
        self._begun: list[bytes] = []  # the beginning of a frame that is not whole yet
        self._begun_length = 0
        self._needed = 0
        self._in_step = True
        self._shown_life = loop.time()
        self._to_write: list[Claim] = []
        self._writing: asyncio.Handle | None = None
        self.full = False  # the socket takes no more for now: whoever publishes waits; settlements are small and few
        self._room = asyncio.Event()
        self._room.set()

    # Claims

    def claim(self, channel: int, claim: Claim) -> bool:
        """From now on the frames of this channel are for `claim`, until it is closed. False when it cannot be: the
        channel was not seen being opened here."""
        if channel not in self._opened or not self._in_step or self._line is None:
            return False
        self._opened.discard(channel)
        self._claims[channel] = claim
        return True

    # Reading

    def data_received(self, data: bytes) -> None:
        if not self._in_step:
            self._to_client(data)
            return
        if self._begun:
            self._begun.append(data)
            self._begun_length += len(data)
            if self._begun_length < self._needed:
                return
            data = b"".join(self._begun)
            self._begun = []
        self._cut(data)

    def _cut(self, data: bytes) -> None:
        at = passed = 0  # up to `passed` everything was taken or passed on
        end = len(data)
        claims, header = self._claims, FRAME_HEADER.unpack_from
        touched: list[Claim] = []
        while end - at >= OUTSIDE_PAYLOAD:
            kind, channel, size = header(data, at)
            after = at + size + OUTSIDE_PAYLOAD
            if not 0 < kind <= HEARTBEAT or (after <= end and data[after - 1] != FRAME_END):
                self._in_step = False  # not frames at all: the client knows what to say
                break
            if after > end:
                break
            claim = claims.get(channel)
            if claim is not None:
                taken = claim.take(data, at, after, end)
                if taken > at:
                    if passed < at:
                        self._to_client(data[passed:at])
                    at = passed = taken
                    touched.append(claim)
                    continue
            if kind == METHOD:
                self._note(channel, int.from_bytes(data[at + 7 : at + 11]))
            at = after
        if not self._in_step:
            at = end
        if passed < at:
            self._to_client(data[passed:at])
            self._shown_life = self._loop.time()
        if at < end:
            self._keep(data[at:], end - at)
        if not self._in_step and self._claims and self._line is not None:
            # 4.2.3: over a wrong frame-end a peer ends the connection without another word, and over an unknown type
            # of frame as well. The client does not look at the end of a heartbeat, and waits for the rest of a frame
            # that is none: the channels that are ours would wait for ever.
            self._line.abort()
        if touched:
            self._show_life()
            for claim in touched:
                claim.taken()

    def _note(self, channel: int, method: int) -> None:
        """What the client is told about a channel, as far as it concerns us."""
        if method == CHANNEL_OPEN_OK:
            self._opened.add(channel)
        elif method == CONNECTION_BLOCKED:
            self.blocked = True
        elif method == CONNECTION_UNBLOCKED:
            self.blocked = False
        elif method in (CHANNEL_CLOSE, CHANNEL_CLOSE_OK):
            self._opened.discard(channel)
            claim = self._claims.pop(channel, None)
            if claim is not None:
                claim.gone()

    def _keep(self, data: bytes, length: int) -> None:
        self._begun = [data]
        self._begun_length = length
        self._needed = OUTSIDE_PAYLOAD
        if length >= FRAME_HEADER.size:
            self._needed += FRAME_HEADER.unpack_from(data)[2]

    def _show_life(self) -> None:
        now = self._loop.time()
        if now - self._shown_life > _SHOW_LIFE_EVERY:
            self._shown_life = now
            self._to_client(_HEARTBEAT_FRAME)

    def eof_received(self) -> bool | None:
        self._pass_on_the_rest()
        return super().eof_received()

    def _pass_on_the_rest(self) -> None:
        for data in self._begun:
            self._to_client(data)
        self._begun = []

    # Writing

    async def room(self) -> None:
        """Returns when the socket takes more, or the line has ended."""
        await self._room.wait()

    def write_soon(self, claim: Claim) -> None:
        """Ask the claim for its outbox at the end of this turn of the loop: what one turn has to say is one write."""
        self._to_write.append(claim)
        if self._writing is None:
            self._writing = self._loop.call_soon(self.write_now)

    def write_now(self) -> None:
        """Write what is in the outboxes of those that asked."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        octets = [each for claim in self._to_write for each in claim.outbox()]
        self._to_write = []
        if octets:
            self.write(b"".join(octets))

    def write(self, octets: bytes) -> None:
        """Write these at once, before what is in any outbox: for a claim that has nothing in its own."""
        if self._line is not None and not self._line.is_closing():
            self._line.write(octets)

    # The socket's own calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = cast(asyncio.Transport, transport)  # uvloop's are no heirs of asyncio's
        super().connection_made(transport)

    def pause_writing(self) -> None:
        self.full = True
        self._room.clear()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.full = False
        self._room.set()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._line = None
        self._pass_on_the_rest()
        claims, self._claims = list(self._claims.values()), {}
        for claim in claims:
            claim.gone()
        self._room.set()
        super().connection_lost(exc)
