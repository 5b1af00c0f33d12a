"""One virtual host: names to exchanges and queues, what is bound to what, and who owns what. Frames and channels are
not known here; whoever asks is an owner, no more."""

import secrets
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from pipeline.embedded import arguments, dead_letters, refusals
from pipeline.embedded.content import Message
from pipeline.embedded.exchange import Binding, Exchange, check_binding, check_type
from pipeline.embedded.queue import Queue, Reason, Taker
from pipeline.embedded.routing import Routing
from pipeline.embedded.shared import Shared
from pipeline.embedded.tables import Table

# RabbitMQ declares these in each virtual host (specification 3.1.3 asks for the first of each type).
_PREDECLARED = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


@dataclass(frozen=True, kw_only=True)
class QueueWish:
    """A queue as somebody declares it."""

    name: str
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: Table


@dataclass(frozen=True, kw_only=True)
class ExchangeWish:
    """An exchange as somebody declares it."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Table


class VHost:
    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self._shared = shared
        self.exchanges = {name: Exchange(name=name, type=type, durable=True) for name, type in _PREDECLARED.items()}
        self.queues: dict[str, Queue] = {}
        self._routing = Routing(name, self.exchanges, self.queues)
        self.route = self._routing.route  # once per message: one call less

    @property
    def message_count(self) -> int:
        return sum(queue.message_count for queue in self.queues.values())

    def _bury(self, queue: Queue, message: Message, reason: Reason) -> None:
        """To the dead-letter exchange, at most once: where it is missing or routes nowhere, the message is gone."""
        copy = dead_letters.dead_letter(message, queue, reason, self._shared.timeline.time)
        if copy is not None:
            for target in dead_letters.outside_a_circle(copy, self._routing.route_dead(copy)):
                target.push(copy)

    # Exchanges

    def exchange(self, name: str) -> Exchange:
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise refusals.not_found(self._exchange(name))
        return exchange

    def declare_exchange(self, wish: ExchangeWish) -> None:
        """Idempotent; refuses (406) a difference to the one that is there."""
        if not wish.name:
            raise refusals.default_exchange()
        check_type(wish.type)
        thing = self._exchange(wish.name)
        current = self.exchanges.get(wish.name)
        if current is None:
            if wish.name.startswith("amq."):
                raise refusals.reserved_prefix("exchange", wish.name)
            arguments.check_exchange(wish.arguments, thing)
            self.exchanges[wish.name] = Exchange(
                name=wish.name,
                type=wish.type,
                durable=wish.durable,
                auto_delete=wish.auto_delete,
                internal=wish.internal,
                arguments=wish.arguments,
            )
            return
        arguments.check_exchange(wish.arguments, thing)
        if wish.type != current.type:
            raise refusals.inequivalent("type", thing, f"'{wish.type}'", f"'{current.type}'")
        for flag in ("durable", "auto_delete", "internal"):
            arguments.same_flag(flag, thing, received=getattr(wish, flag), current=getattr(current, flag))
        arguments.same_exchange(current.arguments, wish.arguments, thing)

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
        del self.exchanges[exchange.name]
        self._forget(exchange)

    def _forget(self, destination: Hashable) -> None:
        for exchange in list(self.exchanges.values()):
            if exchange.forget(destination):
                self._end_if_unused(exchange)

    def _end_if_unused(self, exchange: Exchange) -> None:
        # RabbitMQ: an auto-delete exchange goes when the last binding *from* it is removed.
        if exchange.auto_delete and not exchange.bindings and self.exchanges.get(exchange.name) is exchange:
            self._drop_exchange(exchange)

    # Bindings

    def bind(self, source: str, destination: Hashable, routing_key: str, args: Table) -> None:
        """Idempotent."""
        if not source:
            raise refusals.default_exchange()
        exchange = self.exchange(source)
        check_binding(exchange.type, args)
        exchange.bind(Binding(destination=destination, routing_key=routing_key, arguments=args))

    def bind_queue(self, source: str, name: str, owner: object, routing_key: str, args: Table) -> None:
        """The same. Where neither exists it is the exchange that is named, as by RabbitMQ."""
        if source:
            self.exchange(source)
        self.bind(source, self.queue(name, owner), routing_key, args)

    def unbind(self, source: str, destination: Hashable | None, routing_key: str, args: Mapping[str, object]) -> None:
        """A binding that is not there counts as removed, whichever of its ends is missing."""
        if not source:
            raise refusals.default_exchange()
        exchange = self.exchanges.get(source)
        if exchange is None or destination is None:
            return
        if exchange.unbind(Binding(destination=destination, routing_key=routing_key, arguments=args)):
            self._end_if_unused(exchange)

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
        if wish.name in self.queues:
            queue = self.queue(wish.name, owner)
            self._same(queue, wish)
            return queue
        if wish.name.startswith("amq."):
            raise refusals.reserved_prefix("queue", wish.name)
        thing = self._queue(wish.name)
        arguments.check_queue(wish.arguments, thing)
        if arguments.queue_type(wish.arguments, thing) == arguments.QUORUM:
            self._check_quorum(wish, thing)
        queue = Queue(
            name=wish.name or _server_name(),
            durable=wish.durable,
            auto_delete=wish.auto_delete,
            arguments=wish.arguments,
            owner=owner if wish.exclusive else None,
            bury=self._bury,
        )
        self.queues[queue.name] = queue
        return queue

    def _check_quorum(self, wish: QueueWish, thing: str) -> None:
        if not wish.name:
            raise refusals.server_named("rabbit_quorum_queue")
        if not wish.durable:
            raise refusals.invalid_property("non-durable", thing)
        if wish.auto_delete:
            raise refusals.invalid_property("auto-delete", thing)
        if wish.exclusive:
            raise refusals.invalid_property("exclusive-owner", thing)

    def _same(self, queue: Queue, wish: QueueWish) -> None:
        thing = self._queue(queue.name)
        arguments.same_flag("durable", thing, received=wish.durable, current=queue.durable)
        arguments.same_flag("auto_delete", thing, received=wish.auto_delete, current=queue.auto_delete)
        if wish.exclusive != (queue.owner is not None):
            raise refusals.locked(thing)
        arguments.same_queue(queue.arguments, wish.arguments, thing)

    def delete_queue(self, name: str, owner: object, *, if_unused: bool, if_empty: bool) -> int:
        """The number of messages that were ready in it; one that does not exist had none."""
        if name not in self.queues:
            return 0
        queue = self.queue(name, owner)
        if if_unused and queue.consumers:
            raise refusals.in_use(self._queue(name))
        if if_empty and queue.ready:
            raise refusals.not_empty(self._queue(name))
        return self._drop_queue(queue)

    def _drop_queue(self, queue: Queue) -> int:
        del self.queues[queue.name]
        self._forget(queue)
        return queue.delete()

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


def _server_name() -> str:
    return f"amq.gen-{secrets.token_urlsafe(16)}"
