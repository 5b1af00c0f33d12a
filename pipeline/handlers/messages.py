"""The messages that a stream handler loops over: handed in on one side, asked for on the other. Asking settles the one
before. Who loops, and when, is not known here."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from pipeline.handlers.call import Output
from pipeline.handlers.context import Context
from pipeline.message import Message
from pipeline.outcome import DONE, Outcome


class Hand:
    """A message with what belongs to it, and how it ended."""

    __slots__ = ("context", "message", "outcome", "output")

    def __init__(self, message: Message, context: Context, output: Output) -> None:
        self.message = message
        self.context = context
        self.output = output
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Offered:
    """Messages that wait to be asked for. Outlives the loop that asks, so that none is lost when it starts again."""

    def __init__(self) -> None:
        self.closed = False
        self._hands: deque[Hand] = deque()
        self._waiting: set[asyncio.Future[None]] = set()

    def put(self, hand: Hand) -> None:
        self._hands.append(hand)
        self.wake()

    def take(self) -> Hand | None:
        return self._hands.popleft() if self._hands else None

    def take_back(self, hand: Hand) -> bool:
        """Whether it still waited here."""
        if hand not in self._hands:
            return False
        self._hands.remove(hand)
        return True

    def close(self) -> list[Hand]:
        """No more messages. Returns those that nobody has asked for."""
        self.closed = True
        left = list(self._hands)
        self._hands.clear()
        self.wake()
        return left

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def change(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting  # comes with a message, or with the end
        finally:
            self._waiting.discard(waiting)


class Messages(AsyncIterator[Message]):
    """What the user's function gets. `hand` is the message asked for last, until it is settled."""

    def __init__(self, offered: Offered, *, asked: Callable[[], None]) -> None:
        self.hand: Hand | None = None
        self.given = 0
        self._offered = offered
        self._asked = asked
        self._asking = False
        self._ended = False

    async def __anext__(self) -> Message:
        if self._asking:
            raise RuntimeError("messages can be asked for the next one by one task at a time")
        self._asked()
        self.settle(DONE)
        self._asking = True
        try:
            self.hand = await self._next()
        finally:
            self._asking = False
        if self.hand is None:
            raise StopAsyncIteration
        self.given += 1
        return self.hand.message

    def settle(self, outcome: Outcome) -> bool:
        """Whether there was a message in hand to be settled so."""
        hand, self.hand = self.hand, None
        if hand is not None:
            hand.end(outcome)
        return hand is not None

    def end(self) -> None:
        """Nothing more for this function, not even for a task that it left behind while it asks."""
        self._ended = True
        self._offered.wake()

    async def _next(self) -> Hand | None:
        while not self._ended:
            if (hand := self._offered.take()) is not None or self._offered.closed:
                return hand
            await self._offered.change()
        return None
