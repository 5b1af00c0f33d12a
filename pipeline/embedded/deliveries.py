"""What one channel has been given: its consumers with their credit, the delivery tags, and what is settled or goes
back. Which message is next, and whose turn it is, the queue decides."""

from collections.abc import Iterable
from itertools import takewhile

from pipeline.embedded import content, frames, refusals
from pipeline.embedded.frames import Basic
from pipeline.embedded.queue import Entry, Queue, Taker
from pipeline.embedded.session import Line


class Deliveries:
    """The consumers of one channel, and all that is delivered on it and not settled yet."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.session = line.session
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Entry] = {}  # by delivery tag, in the order of delivery
        self.last_tag = 0
        self.limit = 0  # prefetch of the whole channel (basic.qos with global); 0 is without limit
        self.in_hand = 0  # unacknowledged deliveries of its consumers

    # Settling

    def acknowledge(self, tag: int, *, multiple: bool) -> None:
        entries = self._named(tag, multiple)
        for entry in entries:
            entry.queue.acknowledge(entry)
        self._wake(self._give_credit(entries))

    def hand_back(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        """To the old place in the queue, or out of it and to its dead-letter exchange."""
        entries = self._named(tag, multiple)
        waiting = self._give_credit(entries)
        if requeue:
            _put_back(entries)
        else:
            for entry in entries:
                entry.queue.reject(entry)
        self._wake(waiting)

    def _named(self, tag: int, multiple: bool) -> list[Entry]:
        """Take out the deliveries that a tag names. Zero with `multiple` is all of them (specification, basic.ack)."""
        if multiple and tag == 0:
            entries = list(self.unacked.values())
            self.unacked.clear()
            return entries
        if tag not in self.unacked:
            raise refusals.unknown_delivery_tag(tag)
        if not multiple:
            return [self.unacked.pop(tag)]
        upto = list(takewhile(lambda each: each <= tag, self.unacked))
        return [self.unacked.pop(each) for each in upto]

    def _give_credit(self, entries: list[Entry]) -> list[Taker]:
        """The consumers that had none and may have some now."""
        waiting = []
        for entry in entries:
            taker = entry.taker
            if taker is not None:  # basic.get takes no credit
                taker.in_hand -= 1
                self.in_hand -= 1
                if taker.parked:
                    waiting.append(taker)
        return waiting

    def _wake(self, waiting: Iterable[Taker]) -> None:
        for taker in self.consumers.values() if self.limit else waiting:
            taker.queue.wake(taker)

    # Consuming

    def consume(self, consumer: "Consumer") -> None:
        self.consumers[consumer.tag] = consumer
        consumer.queue.add(consumer)

    def cancel(self, tag: str) -> None:
        """What the consumer has in hand stays with the channel. A tag that is not known counts as cancelled."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            self.session.vhost.remove_consumer(consumer.queue, consumer)

    def cancelled(self, consumer: "Consumer") -> None:
        """Its queue is gone. RabbitMQ says so to clients that announced they would understand."""
        del self.consumers[consumer.tag]
        if self.session.cancel_notify:
            self.line.send(Basic.Cancel(consumer.tag, True))

    def get(self, queue: Queue, *, no_ack: bool) -> None:
        """basic.get: the next message of a queue, past consumers and credit."""
        entry = queue.get(no_ack=no_ack)
        if entry is None:
            self.line.send(Basic.GetEmpty())
            return
        self.last_tag += 1
        if not no_ack:
            self.unacked[self.last_tag] = entry
        message = entry.message
        method = frames.get_ok(self.last_tag, entry.redelivered, message.address, len(queue.ready))
        self.line.send_content(method, _header(entry), message.body)

    def look_again(self) -> None:
        """A limit has changed, or the peer has read on: deliveries that waited for that may go."""
        for consumer in list(self.consumers.values()):
            consumer.queue.wake(consumer)

    # The end

    def stop_consuming(self) -> None:
        consumers, self.consumers = list(self.consumers.values()), {}
        for consumer in consumers:
            self.session.vhost.remove_consumer(consumer.queue, consumer)

    def end(self) -> None:
        """Consumers go first, so that nothing comes back to this channel."""
        self.stop_consuming()
        entries = self._named(0, True)
        self._give_credit(entries)
        _put_back(entries)


class Consumer:
    """What basic.consume made. `limit` is the prefetch that basic.qos had set by then; 0 is without limit."""

    __slots__ = ("deliveries", "exclusive", "in_hand", "limit", "no_ack", "parked", "prefix", "queue", "tag")

    def __init__(
        self, *, tag: str, queue: Queue, deliveries: Deliveries, no_ack: bool, exclusive: bool, limit: int
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.deliveries = deliveries
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.limit = limit
        self.in_hand = 0
        self.parked = False
        self.prefix = frames.deliver_prefix(tag)

    def has_credit(self) -> bool:
        """Prefetch counts for neither `no_ack` consumers nor basic.get (RabbitMQ, consumer prefetch)."""
        channel = self.deliveries
        if channel.session.outbox.full:
            return False
        if self.no_ack:
            return True
        if channel.limit and channel.in_hand >= channel.limit:
            return False
        return not self.limit or self.in_hand < self.limit

    def take(self, entry: Entry) -> None:
        channel = self.deliveries
        message = entry.message
        channel.last_tag = tag = channel.last_tag + 1
        if not self.no_ack:
            entry.taker = self
            self.in_hand += 1
            channel.in_hand += 1
            channel.unacked[tag] = entry
        method = frames.deliver(self.prefix, tag, entry.redelivered, message.address)
        channel.line.send_content(method, _header(entry), message.body)

    def queue_deleted(self) -> None:
        self.deliveries.cancelled(self)


def _header(entry: Entry) -> bytes:
    """The content header as it was published. A quorum queue tells in it how often the message came back."""
    header = entry.message.header
    return content.rewrite(header, {"x-delivery-count": entry.returns}) if entry.returns else header


def _put_back(entries: list[Entry]) -> None:
    by_queue: dict[Queue, list[Entry]] = {}
    for entry in entries:
        by_queue.setdefault(entry.queue, []).append(entry)
    for queue, theirs in by_queue.items():
        queue.put_back(theirs)
