"""What a player waits for, and how long: things that were heard on a channel, queues that fill and empty. A wait that
ends in vain says what it was for."""

import asyncio
from collections import Counter
from collections.abc import Callable

from tests.conformance.peer import HIDDEN, Peer
from tests.conformance.tables import Fields, Value

POLL = 0.01

# The short words of `wait`, and what they count. Other words are names of methods that the broker sends.
SHORT = {
    "deliver": "basic.deliver",
    "return": "basic.return",
    "cancel": "basic.cancel",
    "close": "channel.close",
}


class GaveUp(Exception):
    """What was waited for did not come in time, or can no longer come."""


class Waits:
    """`patience` is the time for each wait, in seconds; `wake` is called with everything that a peer hears."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._news = asyncio.Event()
        self._waited: Counter[tuple[str, int, str]] = Counter()

    def wake(self) -> None:
        self._news.set()

    async def until(self, what: Callable[[], bool], told: str) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while not what():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise GaveUp(told) from None

    async def more(self, peer: Peer, number: int, word: str, count: int) -> None:
        """So many more than the waits before have seen."""
        name = SHORT.get(word, word)
        if name.startswith(("connection.", "line.")):
            number = 0
        self._waited[peer.name, number, name] += count
        heard, wanted = peer.channels[number].heard, self._waited[peer.name, number, name]
        await self.until(lambda: heard[name] >= wanted or peer.over, told=f"{count} {word}")
        if heard[name] < wanted:
            raise GaveUp(f"{count} {word}, but the connection is closed")

    async def opened(self, peer: Peer, number: int) -> None:
        """A channel that a scenario uses without opening it."""
        channel = peer.channels[number]
        peer.ask(number, "channel.open")
        await self.until(lambda: channel.heard["channel.open-ok"] > 0 or peer.over, told="channel.open-ok")

    async def answered(self, peer: Peer, number: int, answers: list[str], send: Callable[[], None]) -> None:
        """Send, and wait for one of the answers, or for the end of the channel or connection instead."""
        channel = peer.channels[number]
        heard, closed = _sum(channel.heard, answers), channel.closed
        send()
        await self.until(
            lambda: _sum(channel.heard, answers) > heard or channel.closed > closed or peer.over,
            told=" or ".join(answers),
        )

    async def dealt_with(self, peer: Peer, number: int) -> None:
        """In confirm mode: all is confirmed. And a channel that answers channel.flow, which changes nothing, has done
        all that came before."""
        channel = peer.channels[number]
        closed = channel.closed
        await self.until(lambda: channel.all_confirmed or channel.closed > closed or peer.over, told="confirms")
        if channel.open and not peer.over:
            await self.answered(
                peer, number, ["channel.flow-ok"], lambda: peer.ask(number, "channel.flow", active=True)
            )

    async def ready(self, peer: Peer, queue: str, count: Value) -> None:
        """Until a queue has so many messages that are ready; until it is gone, where no count is given."""
        seen: Value = "not been asked"
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    seen = await self._depth(peer, queue)
                    if seen == count:
                        return
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise GaveUp(f"{queue!r} with {count} messages, it has {seen}") from None

    async def _depth(self, peer: Peer, queue: str) -> Value:
        """None for a queue that is not there."""
        channel, answer = peer.channels[HIDDEN], "queue.declare-ok"
        if not channel.open:
            peer.send(HIDDEN, "channel.open", {})
        heard = channel.heard[answer]
        asked: Fields = {"queue": queue, "passive": True}
        await self.answered(peer, HIDDEN, [answer], lambda: peer.send(HIDDEN, "queue.declare", asked))
        if peer.over:
            raise GaveUp(f"the depth of {queue!r}, but the connection is closed")
        return channel.last[answer]["message_count"] if channel.heard[answer] > heard else None


def _sum(heard: Counter[str], names: list[str]) -> int:
    return sum(heard[name] for name in names)
