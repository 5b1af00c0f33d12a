"""One virtual host: names to exchanges and queues, what is bound to what, and who owns what. Frames and channels are
not known here; whoever asks is an owner, no more."""

import secrets
from collections.abc import Callable, Hashable, Mapping

from pipeline.embedded.declarations.queue_arguments import CLASSIC, QUORUM
from pipeline.embedded.exchanges.binding import Binding
from pipeline.embedded.exchanges.exchange import LOCAL_RANDOM, Exchange, check_binding, check_local_binding
from pipeline.embedded.ground.shared import Shared
from pipeline.embedded.queues.entry import Taker
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.queues.quorum import QuorumQueue
from pipeline.embedded.queues.surroundings import Surroundings
from pipeline.embedded.vhosts import wishes
from pipeline.embedded.vhosts.dead_letters import DeadLetters
from pipeline.embedded.vhosts.requesters import Requesters
from pipeline.embedded.vhosts.routing import Routing
from pipeline.embedded.vhosts.wishes import ExchangeWish, QueueWish
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.tables import Table

# RabbitMQ declares these in each virtual host (specification 3.1.3 asks for the first of each type).
_PREDECLARED = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


class VHost:
    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self._shared = shared
        self.exchanges = {
            name: Exchange(name=name, type=type, durable=True, behaviour=shared.behaviour)
            for name, type in _PREDECLARED.items()
        }
        self.queues: dict[str, Queue] = {}
        self.behaviour = shared.behaviour
        self.timeline = shared.timeline
        self.patience = shared.patience
        self.consumer_timeout = shared.consumer_timeout
        self.publish_faults = shared.publish_faults
        self.journal = shared.journal
        self.requesters = Requesters(name, shared.behaviour)
        self._routing = Routing(name, self.exchanges, self.queues)
        self.entrance = self._routing.entrance  # once per message each: one call less
        self.route = self._routing.route
        self.queues_named = self._routing.queues_named
        self._surroundings = Surroundings(
            vhost=name, shared=shared, undertaker=DeadLetters(self._routing, shared), drop=self._drop_named
        )

    @property
    def message_count(self) -> int:
        return sum(queue.message_count for queue in self.queues.values())

    # Exchanges

    def exchange(self, name: str) -> Exchange:
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise refusals.not_found(self._exchange(name))
        return exchange

    def declare_exchange(self, wish: ExchangeWish) -> None:
        """Idempotent; refuses (406) a difference to the one that is there."""
        wishes.check_exchange_wish(wish, self.behaviour)
        thing = self._exchange(wish.name)
        current = self.exchanges.get(wish.name)
        if current is not None:
            wishes.check_same_exchange(current, wish, thing)
            return
        wishes.check_new_exchange(wish, thing)
        self.exchanges[wish.name] = Exchange(
            name=wish.name,
            type=wish.type,
            behaviour=self.behaviour,
            durable=wish.durable,
            auto_delete=wish.auto_delete,
            internal=wish.internal,
            arguments=wish.arguments,
        )
        self.journal.tell_if_open("exchange declared", vhost=self.name, exchange=wish.name)

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """One that does not exist counts as deleted."""
        if not name:
            raise refusals.default_exchange()
        if name.startswith("amq."):
            raise refusals.system_exchange(self._exchange(name))
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise refusals.in_use(self._exchange(name))
        self._drop_exchange(exchange)

    def _drop_exchange(self, exchange: Exchange) -> None:
        self._remove_exchange(exchange)
        self._forget(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        del self.exchanges[exchange.name]
        self.journal.tell_if_open("exchange deleted", vhost=self.name, exchange=exchange.name)

    def _forget(self, destination: Hashable) -> None:
        """And the exchanges that go by that, however long their chain is."""
        gone = [destination]
        while gone:
            destination = gone.pop()
            for exchange in list(self.exchanges.values()):
                if exchange.forget(destination) and _is_done_with(exchange):
                    self._remove_exchange(exchange)
                    gone.append(exchange)

    # Bindings

    def bind_queue(self, source: str, name: str, owner: object, routing_key: str, args: Table) -> None:
        """Idempotent. Where neither exists it is the exchange that is named, as by RabbitMQ."""
        self.requesters.check_bindable(name)
        exchange = self._source(source)
        _bind(exchange, self.queue(name, owner), routing_key, args)

    def bind_exchange(self, source: str, name: str, routing_key: str, args: Table) -> None:
        """The same."""
        if not name:
            raise refusals.default_exchange()
        exchange = self._source(source)
        _bind(exchange, self.exchange(name), routing_key, args)

    def _source(self, name: str) -> Exchange:
        if not name:
            raise refusals.default_exchange()
        return self.exchange(name)

    def unbind(self, source: str, destination: Hashable | None, routing_key: str, args: Mapping[str, object]) -> None:
        """A binding that is not there counts as removed, whichever of its ends is missing."""
        if not source:
            raise refusals.default_exchange()
        exchange = self.exchanges.get(source)
        if exchange is None or destination is None:
            return
        binding = Binding(destination=destination, routing_key=routing_key, arguments=args)
        if exchange.unbind(binding) and _is_done_with(exchange):
            self._drop_exchange(exchange)

    # Queues

    def queue(self, name: str, owner: object) -> Queue:
        """Refuses (404) one that is not there and (405) another connection's exclusive one."""
        queue = self.queues.get(name)
        if queue is None:
            raise refusals.not_found(self._queue(name))
        if queue.owner is not None and queue.owner is not owner:
            raise refusals.locked(self._queue(name))
        return queue

    def declare_queue(self, wish: QueueWish, owner: object) -> Queue:
        """Idempotent; refuses (405, 406) a difference to the one that is there."""
        thing = self._queue(wish.name)
        if wish.name in self.queues:
            queue = self.queue(wish.name, owner)
            wishes.check_same_queue(queue, wish, thing, self.behaviour)
            return queue
        kind = QuorumQueue if wishes.check_new_queue(wish, thing, self.behaviour) == QUORUM else Queue
        queue = kind(
            name=wish.name or _server_name(),
            durable=wish.lasting,
            auto_delete=wish.auto_delete,
            arguments=wish.arguments,
            owner=owner if wish.exclusive else None,
            surroundings=self._surroundings,
        )
        self.queues[queue.name] = queue
        self.journal.tell_if_open("queue declared", vhost=self.name, queue=queue.name)
        return queue

    def delete_queue(
        self, name: str, owner: object, *, if_unused: bool, if_empty: bool, answer: Callable[[int], None]
    ) -> None:
        """`answer` takes the number of messages that were ready in it. As from RabbitMQ, it comes before the consumers
        hear of it. A queue that does not exist had no messages."""
        if name not in self.queues:
            answer(0)
            return
        queue = self.queue(name, owner)
        wishes.check_deleting(queue, self._queue(name), if_unused=if_unused, if_empty=if_empty)
        self._drop_queue(queue, answer)

    def _drop_queue(self, queue: Queue, answer: Callable[[int], None] | None = None) -> None:
        del self.queues[queue.name]
        self.journal.tell_if_open("queue deleted", vhost=self.name, queue=queue.name)
        self._forget(queue)
        count = queue.delete()
        if answer is not None:
            answer(count)
        queue.dismiss()

    def _drop_named(self, name: str) -> None:
        self._drop_queue(self.queues[name])

    def remove_consumer(self, queue: Queue, taker: Taker) -> None:
        """An auto-delete queue goes with its last consumer."""
        queue.remove(taker)
        if queue.auto_delete and not queue.consumers and not queue.deleted:
            self._drop_queue(queue)

    def release(self, owner: object) -> None:
        """A connection has ended: its exclusive queues go with it."""
        for queue in [queue for queue in self.queues.values() if queue.owner is owner]:
            self._drop_queue(queue)

    def _queue(self, name: str) -> str:
        return refusals.queue_in(self.name, name)

    def _exchange(self, name: str) -> str:
        return refusals.exchange_in(self.name, name)


def _is_done_with(exchange: Exchange) -> bool:
    """RabbitMQ: an auto-delete exchange goes when the last binding *from* it is removed."""
    return exchange.auto_delete and not exchange.bindings


def _server_name() -> str:
    return f"amq.gen-{secrets.token_urlsafe(16)}"


def _bind(exchange: Exchange, destination: Hashable, routing_key: str, args: Table) -> None:
    if exchange.type == LOCAL_RANDOM:
        check_local_binding(routing_key, _type_of(destination))
    check_binding(exchange.type, args)
    exchange.bind(Binding(destination=destination, routing_key=routing_key, arguments=args))


def _type_of(destination: Hashable) -> str | None:
    """None where it is no queue."""
    if not isinstance(destination, Queue):
        return None
    return QUORUM if destination.is_quorum else CLASSIC
