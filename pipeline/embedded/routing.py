"""The way of a message: from the exchange it was published to, through others, into queues. How one exchange chooses
is `exchange`'s business; what a queue does with the message is `queue`'s."""

from collections.abc import Collection, Mapping

from pipeline.embedded import refusals
from pipeline.embedded.content import Message
from pipeline.embedded.exchange import Exchange
from pipeline.embedded.queue import Queue


class Routing:
    """Reads the exchanges and queues of one virtual host."""

    def __init__(self, vhost: str, exchanges: Mapping[str, Exchange], queues: Mapping[str, Queue]) -> None:
        self._vhost = vhost
        self._exchanges = exchanges
        self._queues = queues

    def route(self, message: Message) -> Collection[Queue]:
        """The queues a published message belongs in, each once. Refuses an exchange that does not exist (404) or
        is internal (403)."""
        if not message.exchange:
            return self._by_name(message)
        exchange = self._exchanges.get(message.exchange)
        if exchange is None:
            raise refusals.not_found(refusals.exchange_in(self._vhost, message.exchange))
        if exchange.internal:
            raise refusals.internal_exchange(refusals.exchange_in(self._vhost, exchange.name))
        return self._behind(exchange, message)

    def route_dead(self, message: Message) -> Collection[Queue]:
        """The same for a dead letter: it may go through an internal exchange, and one that is missing takes nothing."""
        if not message.exchange:
            return self._by_name(message)
        exchange = self._exchanges.get(message.exchange)
        return () if exchange is None else self._behind(exchange, message)

    def _by_name(self, message: Message) -> Collection[Queue]:
        """The default exchange: each queue is bound to it by its name."""
        queue = self._queues.get(message.routing_key)
        return () if queue is None else (queue,)

    def _behind(self, exchange: Exchange, message: Message) -> Collection[Queue]:
        found: dict[Queue, None] = {}
        seen = {exchange}
        ahead = [exchange]
        while ahead:
            for destination in ahead.pop().route(message):
                if isinstance(destination, Queue):
                    found[destination] = None
                elif isinstance(destination, Exchange) and destination not in seen:
                    seen.add(destination)
                    ahead.append(destination)
        return found
