"""Who uses a queue: its consumers in their turns, and the lease that ends when nobody does. What they get, `queue`
knows, and hands it out when it is told to `run`."""

from abc import ABC, abstractmethod

from pipeline.embedded.queues.entry import Taker
from pipeline.embedded.queues.expiry import Lease
from pipeline.embedded.queues.surroundings import Surroundings
from pipeline.embedded.queues.turns import RoundRobin, SingleActive, Turns
from pipeline.embedded.wire.tables import Table


class Attended(ABC):
    """The half of a queue that has consumers."""

    def __init__(self, name: str, arguments: Table, surroundings: Surroundings) -> None:
        self.name = name
        self.arguments = arguments
        self.deleted = False
        self.single_active = arguments.get("x-single-active-consumer") is True
        self._shared = surroundings.shared
        self._drop = surroundings.drop
        self.turns = self._make_turns()
        expires = number(arguments, "x-expires")
        self._lease = None if expires is None else Lease(expires, self._shared.timeline, self._is_used, self._end)

    def _make_turns(self) -> Turns:
        return SingleActive(by_priority=True) if self.single_active else RoundRobin()

    @abstractmethod
    def run(self) -> None:
        """Give out what can be given out: who may take it, or how much, has changed."""

    # Consumers

    @property
    def consumers(self) -> list[Taker]:
        return self.turns.consumers

    @property
    def consumer_count(self) -> int:
        """As declare-ok tells it."""
        return len(self.turns.consumers)

    def is_closed_to(self, *, exclusive: bool) -> bool:
        """Whether a consumer cannot be added because it, or the one that is there, would be alone."""
        if self.single_active:
            return exclusive
        consumers = self.turns.consumers
        return bool(consumers) and (exclusive or consumers[0].exclusive)

    def add(self, taker: Taker) -> None:
        self.turns.add(taker)
        self.run()

    def remove(self, taker: Taker) -> None:
        """A consumer is gone, with its channel or without. Nobody gets anything by that, see `run` and `cancelled`."""
        self.turns.remove(taker)
        self._used()

    def cancelled(self) -> None:
        """A consumer was cancelled, and its channel goes on. RabbitMQ 3.10 lets the next single active consumer wait
        until something else happens."""
        if self._shared.behaviour.cancel_runs_queue:
            self.run()

    def unpark(self, taker: Taker) -> None:
        """It may have some credit again, and its turn comes with the next thing that happens here."""
        self.turns.unpark(taker)

    def wake(self, taker: Taker) -> None:
        """A consumer that was without credit may have some again."""
        if taker.parked and not self.deleted:
            self.turns.unpark(taker)
            self.run()

    # The lease

    def declared(self) -> None:
        """Somebody has declared it again, or asked whether it is there."""
        self._used()

    def _used(self) -> None:
        if self._lease is not None and not self.deleted:
            self._lease.renew()

    def _is_used(self) -> bool:
        return self.consumer_count > 0

    def _end(self) -> None:
        self._drop(self.name)

    # The end

    def _close(self) -> None:
        self.deleted = True
        if self._lease is not None:
            self._lease.cancel()

    def dismiss(self) -> None:
        """The queue is deleted, and its consumers are told."""
        consumers = self.turns.consumers
        self.turns.clear()
        for taker in consumers:
            taker.queue_deleted()


def number(arguments: Table, name: str) -> int | None:
    value = arguments.get(name)
    return value if isinstance(value, int) else None
