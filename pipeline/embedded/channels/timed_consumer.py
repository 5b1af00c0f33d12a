"""A consumer of a queue that waits for its answers a limited time only (quorum queues of RabbitMQ 4.3). What it has
held for too long goes back, and it is told that it is cancelled; yet it stays, and gets messages again as soon as it
has answered for all it has lost."""

from pipeline.embedded.channels.deliveries import Consumer, Deliveries
from pipeline.embedded.ground.patience import Watch
from pipeline.embedded.queues.entry import Entry
from pipeline.embedded.queues.queue import Queue


class TimedConsumer(Consumer):
    __slots__ = ("_watch",)

    def __init__(
        self,
        *,
        tag: str,
        queue: Queue,
        deliveries: Deliveries,
        exclusive: bool,
        limit: int,
        priority: int,
        patience: float,
    ) -> None:
        super().__init__(
            tag=tag,
            queue=queue,
            deliveries=deliveries,
            no_ack=False,
            exclusive=exclusive,
            limit=limit,
            priority=priority,
        )
        self._watch = Watch(deliveries.session.vhost.timeline, patience, self._overdue, deliveries.watches)

    def has_credit(self) -> bool:
        return not self.late and super().has_credit()

    def take(self, entry: Entry) -> None:
        super().take(entry)
        self._watch.handed_out(self.deliveries.last_tag)

    def _overdue(self, before: int | None) -> None:
        if self.queue.deleted:
            return
        unacked = self.deliveries.unacked.items()
        tags = [tag for tag, entry in unacked if entry.taker is self and (before is None or tag < before)]
        if tags:
            self.deliveries.taken_back(self, tags)
