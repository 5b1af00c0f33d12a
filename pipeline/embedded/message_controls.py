"""What a test may do to messages on their way: nack and return them, hold confirms, cancel consumers, pause queues. How
that is done, the core knows."""

from pipeline.embedded.connections.connection import Connection
from pipeline.embedded.controls import Controls, check_reason, listed, on_connection
from pipeline.embedded.ground.publish_faults import Fate, Nacked, Returned
from pipeline.embedded.queues.paused import pause, resume
from pipeline.embedded.queues.queue import Queue


class MessageControls(Controls):
    """Each is done when it returns."""

    # Publishers

    def nack_publishes(self, count: int = 1, *, queue: str | None = None) -> None:
        """The next so many messages that are published with confirms, to this queue or to any, go nowhere and are
        nacked. What is ordered here and below happens in turn."""
        self._order(Nacked(), count, queue, mandatory_only=False)

    def return_publishes(
        self,
        count: int = 1,
        *,
        queue: str | None = None,
        code: int = 312,
        reason: str = "NO_ROUTE",
        mandatory_only: bool = True,
    ) -> None:
        """The next so many messages that are published as mandatory, to this queue or to any, go nowhere and are
        returned, then confirmed. With `mandatory_only=False` it is the next of all."""
        check_reason(reason)
        if not 0 < code < 2**16:
            raise ValueError(f"no message is returned with code {code}; 312 and 313 are usual")
        self._order(Returned(code=code, reason=reason), count, queue, mandatory_only=mandatory_only)

    def _order(self, fate: Fate, count: int, queue: str | None, *, mandatory_only: bool) -> None:
        if count < 1:
            raise ValueError(f"cannot order this for {count} messages; 1 or more")
        faults = self._node.publish_faults
        self._over_there(lambda: faults.order(fate, count, queue=queue, mandatory_only=mandatory_only))

    def publish_normally(self) -> None:
        """What is still ordered for messages to come is not any more."""
        self._over_there(self._node.publish_faults.clear)

    def delay_confirms(self) -> None:
        """From now on messages are taken, and nobody is told so."""
        self._hold(True)

    def release_confirms(self) -> None:
        """Confirm all that waits for it, and from now on at once."""
        self._hold(False)
        self._each(None, on_connection(Connection.send_confirms))

    def _hold(self, holding: bool) -> None:
        def act() -> None:
            self._node.publish_faults.holding = holding

        self._over_there(act)

    # Consumers and queues

    def cancel_consumers(self, queue: str | None = None, *, tag: str | None = None) -> int:
        """Send basic.cancel to the consumers of this queue, in every virtual host, or of this tag, or to all. What
        they have in hand stays with them. How many there were."""
        return self._over_there(
            lambda: sum(client.connection.cancel_consumers(queue, tag) for client in self._running().clients)
        )

    def pause_queue(self, name: str) -> None:
        """From now on the queue delivers nothing to its consumers; it takes messages as ever, and answers basic.get.
        Queues outside of `/` are named `vhost:queue`. Raises LookupError where there is no such queue."""
        self._over_there(lambda: pause(self._queue(name)))

    def resume_queue(self, name: str) -> None:
        """It delivers again; consumers get what they have missed."""
        self._over_there(lambda: resume(self._queue(name)))

    def _queue(self, name: str) -> Queue:
        queue = self._node.queue(name)
        if queue is None:
            raise LookupError(f"no queue {name!r}; there are: {listed(self._node.queue_depths())}")
        return queue
