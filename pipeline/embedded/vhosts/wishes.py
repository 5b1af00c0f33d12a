"""What somebody declares, and whether RabbitMQ would take it: by the rules for each type of queue and exchange, and
by what is there already. What is there, `vhost` knows."""

from dataclasses import dataclass

from pipeline.embedded.declarations import arguments
from pipeline.embedded.declarations.queue_arguments import CLASSIC, QUORUM
from pipeline.embedded.exchanges.exchange import Exchange, check_type
from pipeline.embedded.ground.versions import Behaviour
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.tables import Table


@dataclass(frozen=True, kw_only=True)
class QueueWish:
    """A queue as somebody declares it."""

    name: str
    durable: bool  # means nothing in an exclusive queue, which goes with its connection
    exclusive: bool
    auto_delete: bool
    arguments: Table

    @property
    def lasting(self) -> bool:
        return self.durable and not self.exclusive


@dataclass(frozen=True, kw_only=True)
class ExchangeWish:
    """An exchange as somebody declares it."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Table


# Queues


def check_new_queue(wish: QueueWish, thing: str, behaviour: Behaviour) -> str:
    """Its type. Refuses what RabbitMQ would, in its order; `thing` is how the queue is called in the text."""
    rules = behaviour.queue_arguments
    of_type = arguments.queue_type(wish.arguments, thing, rules)
    if of_type == QUORUM and not wish.name:
        raise refusals.server_named(arguments.in_text(of_type))
    if wish.name.startswith("amq."):
        raise refusals.reserved_prefix("queue", wish.name)
    arguments.check_queue(wish.arguments, thing, of_type, rules)
    if not (wish.durable or wish.exclusive or behaviour.transient_queues):
        raise refusals.deprecated("transient_nonexcl_queues")
    if "x-queue-master-locator" in wish.arguments and not behaviour.master_locator:
        raise refusals.deprecated("queue_master_locator")
    if of_type == QUORUM:
        _check_quorum(wish, thing)
    return of_type


def _check_quorum(wish: QueueWish, thing: str) -> None:
    if wish.auto_delete:
        raise refusals.invalid_property("auto-delete", thing)
    if wish.exclusive:
        raise refusals.invalid_property("exclusive-owner", thing)
    if not wish.durable:
        raise refusals.invalid_property("non-durable", thing)


def check_same_queue(queue: Queue, wish: QueueWish, thing: str, behaviour: Behaviour) -> None:
    """Refuses (405, 406) a difference to the one that is there."""
    if wish.exclusive != (queue.owner is not None):
        raise refusals.locked(thing)
    arguments.same_flag("durable", thing, received=wish.lasting, current=queue.durable)
    arguments.same_flag("auto_delete", thing, received=wish.auto_delete, current=queue.auto_delete)
    of_type = QUORUM if queue.is_quorum else CLASSIC
    arguments.same_queue(queue.arguments, wish.arguments, thing, of_type, behaviour.queue_arguments)


def check_deleting(queue: Queue, thing: str, *, if_unused: bool, if_empty: bool) -> None:
    """Refuses (406) a queue that is used or holds something; and (540) to look for that in a quorum queue."""
    if queue.is_quorum and (if_unused or if_empty):
        raise refusals.no_conditional_delete(thing, "if-unused" if if_unused else "if-empty")
    if if_unused and queue.consumers:
        raise refusals.in_use(thing)
    if if_empty and queue.ready:
        raise refusals.not_empty(thing)


# Exchanges


def check_new_exchange(wish: ExchangeWish, thing: str) -> None:
    if wish.name.startswith("amq."):
        raise refusals.reserved_prefix("exchange", wish.name)
    arguments.check_exchange(wish.arguments, thing)


def check_same_exchange(exchange: Exchange, wish: ExchangeWish, thing: str) -> None:
    """Refuses (406) a difference to the one that is there."""
    if wish.type != exchange.type:
        raise refusals.inequivalent("type", thing, f"'{_atom(wish.type)}'", f"'{_atom(exchange.type)}'")
    for flag in ("durable", "auto_delete", "internal"):
        arguments.same_flag(flag, thing, received=getattr(wish, flag), current=getattr(exchange, flag))
    arguments.same_exchange(exchange.arguments, wish.arguments, thing)


def check_exchange_wish(wish: ExchangeWish, behaviour: Behaviour) -> None:
    """Whatever is there: the type comes first, then the name."""
    check_type(wish.type, behaviour)
    if not wish.name:
        raise refusals.default_exchange()


def _atom(name: str) -> str:
    """As Erlang writes it: with quotes where it has a dash."""
    return f"'{name}'" if "-" in name else name
