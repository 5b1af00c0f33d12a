"""One consumer: its credit, and the moment a message leaves its queue for a channel. Which message, and whose turn
it is, the queue decides."""

from typing import TYPE_CHECKING

from pipeline.embedded import content, frames
from pipeline.embedded.queue import Entry, Queue

if TYPE_CHECKING:
    from pipeline.embedded.channel import Channel


class Consumer:
    """What basic.consume made. `limit` is the prefetch that basic.qos had set by then; 0 is without limit."""

    __slots__ = ("channel", "exclusive", "in_hand", "limit", "no_ack", "parked", "prefix", "queue", "tag")

    def __init__(
        self, *, tag: str, queue: Queue, channel: "Channel", no_ack: bool, exclusive: bool, limit: int
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.channel = channel
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.limit = limit
        self.in_hand = 0
        self.parked = False
        self.prefix = frames.deliver_prefix(tag)

    def has_credit(self) -> bool:
        """Prefetch counts for neither `no_ack` consumers nor basic.get (RabbitMQ, consumer prefetch)."""
        channel = self.channel
        if channel.session.outbox.full:
            return False
        if self.no_ack:
            return True
        if channel.limit and channel.in_hand >= channel.limit:
            return False
        return not self.limit or self.in_hand < self.limit

    def take(self, entry: Entry) -> None:
        channel = self.channel
        message = entry.message
        channel.last_tag = tag = channel.last_tag + 1
        if not self.no_ack:
            entry.taker = self
            self.in_hand += 1
            channel.in_hand += 1
            channel.unacked[tag] = entry
        method = frames.deliver(self.prefix, tag, entry.redelivered, message.address)
        channel.send_content(method, counted(entry) if entry.returns else message.header, message.body)

    def queue_deleted(self) -> None:
        self.channel.consumer_cancelled(self)


def counted(entry: Entry) -> bytes:
    """A quorum queue tells how often the message came back."""
    return content.rewrite(entry.message.header, {"x-delivery-count": entry.returns})
