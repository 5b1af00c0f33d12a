"""The way of a message: from the exchange it was published to, through others, into queues. How one exchange chooses
is `exchange`'s business; what a queue does with the message is `queue`'s."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from pipeline.embedded.exchanges.exchange import Exchange
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.content import Message


class Target(Protocol):
    """What a published message ends in: a queue, or somebody who waits for a reply."""

    @property
    def name(self) -> str: ...

    def push(self, message: Message) -> bool: ...


class Routing:
    """Reads the exchanges and queues of one virtual host."""

    def __init__(self, vhost: str, exchanges: Mapping[str, Exchange], queues: Mapping[str, Queue]) -> None:
        self.vhost = vhost
        self._exchanges = exchanges
        self._queues = queues

    def entrance(self, name: str) -> Exchange:
        """Where a published message goes in. Refuses an exchange that does not exist (404) or is internal (403)."""
        exchange = self._exchanges.get(name)
        if exchange is None:
            raise refusals.not_found(refusals.exchange_in(self.vhost, name))
        if exchange.internal:
            raise refusals.internal_exchange(refusals.exchange_in(self.vhost, name))
        return exchange

    def route(self, exchange: Exchange, message: Message) -> Collection[Queue]:
        """The queues a message belongs in, each once."""
        if exchange.name:
            return self._behind(exchange, message)
        # The default exchange: each queue is bound to it by its name.
        if message.copies or message.blind_copies:
            return dict.fromkeys(self.queues_named(message.keys))
        queue = self._queues.get(message.routing_key)
        return () if queue is None else (queue,)

    def queues_named(self, names: Iterable[str]) -> list[Queue]:
        """Those of them that are there."""
        return [queue for queue in map(self._queues.get, names) if queue is not None]

    def route_dead(self, message: Message) -> Collection[Queue]:
        """The same for a dead letter: it may go through an internal exchange, and one that is missing takes nothing."""
        exchange = self._exchanges.get(message.exchange)
        return () if exchange is None else self.route(exchange, message)

    def _behind(self, exchange: Exchange, message: Message) -> Collection[Queue]:
        found: dict[Queue, None] = {}
        seen = {exchange}
        ahead = [exchange]
        while ahead:
            exchange = ahead.pop()
            for destination in exchange.route(message) or self._alternate(exchange):
                if isinstance(destination, Queue):
                    found[destination] = None
                elif isinstance(destination, Exchange) and destination not in seen:
                    seen.add(destination)
                    ahead.append(destination)
        return found

    def _alternate(self, exchange: Exchange) -> Collection[Exchange]:
        """Where that goes which an exchange has no destination for. One that is missing takes nothing."""
        alternate = None if exchange.alternate is None else self._exchanges.get(exchange.alternate)
        return () if alternate is None else (alternate,)
