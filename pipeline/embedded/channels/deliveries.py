"""What one channel has been given: its consumers with their credit, the delivery tags, and what is settled or goes
back. Which message is next, and whose turn it is, the queue decides."""

from collections.abc import Iterable
from itertools import takewhile

from pipeline.embedded.channels.session import Line
from pipeline.embedded.ground.journal import Kind
from pipeline.embedded.ground.patience import Watch
from pipeline.embedded.queues.entry import Back, Entry, Home, Taker
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.queues.turns import UNLIMITED
from pipeline.embedded.wire import content, frames, refusals
from pipeline.embedded.wire.frames import Basic


class Deliveries:
    """The consumers of one channel, and all that is delivered on it and not settled yet."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.session = line.session
        self.journal = line.session.vhost.journal
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Entry] = {}  # by delivery tag, in the order of delivery
        self.aside: dict[int, Entry] = {}  # settled in a transaction that is not committed
        self.last_tag = 0
        self.limit = 0  # prefetch of the whole channel (basic.qos with global); 0 is without limit
        self.in_hand = 0  # unacknowledged deliveries of its consumers
        if not self.session.vhost.behaviour.queues_have_patience:
            self.session.vhost.patience.watch(self)
        self.late: dict[int, Consumer] = {}  # taken back by a queue that waited for too long
        self.watches: set[Watch] = set()
        self._get_watches: dict[Queue, Watch] = {}
        self._left: dict[Queue, None] = {}  # queues that its consumers have left at the end

    # Settling

    def acknowledge(self, tag: int, *, multiple: bool) -> None:
        self.acknowledged(self._named(tag, multiple))

    def acknowledged(self, entries: list[Entry]) -> None:
        if self.journal.open:
            for entry in entries:
                self.journal.tell("acknowledged", self.line.who, entry.message, queue=entry.queue.name)
        waiting = self._give_credit(entries)
        for entry in entries:
            entry.queue.acknowledge(entry)
        self._wake(waiting)

    def hand_back(self, tag: int, *, multiple: bool, requeue: bool, how: Back) -> None:
        """Back to the queue, or out of it and to its dead-letter exchange."""
        self.handed_back(self._named(tag, multiple), requeue=requeue, how=how)

    def handed_back(self, entries: list[Entry], *, requeue: bool, how: Back) -> None:
        """Whoever gave something back may be the next one to get it."""
        waiting = self._give_credit(entries)
        for taker in waiting:
            taker.queue.unpark(taker)
        for queue, theirs in _by_queue(entries).items():
            if requeue:
                queue.put_back(theirs, how)
            else:
                queue.discard(theirs, how)
        self._wake(waiting)

    def set_aside(self, tag: int, *, multiple: bool) -> dict[int, Entry]:
        """The same deliveries, taken out and not settled yet: a transaction will, or takes them back."""
        named = {each: self.unacked.pop(each) for each in self._tags(tag, multiple)}
        self.aside.update(named)
        return named

    def take_back(self) -> None:
        """Nothing of what was set aside is settled: all of it is as if it had not been named."""
        self.unacked = dict(sorted((self.unacked | self.aside).items()))
        self.aside.clear()

    def _named(self, tag: int, multiple: bool) -> list[Entry]:
        """Take out the deliveries that a tag names."""
        if not multiple and tag in self.unacked:
            return [self.unacked.pop(tag)]
        return [self.unacked.pop(each) for each in self._tags(tag, multiple)]

    def _tags(self, tag: int, multiple: bool) -> list[int]:
        """Zero with `multiple` is all of them (specification, basic.ack). Those that come too late count as well."""
        late = bool(self.late) and self._answer_late(tag, multiple)
        if multiple and tag == 0:
            return list(self.unacked)
        if tag not in self.unacked and not late:
            raise refusals.unknown_delivery_tag(tag)
        if not multiple:
            return [] if late else [tag]
        return list(takewhile(lambda each: each <= tag, self.unacked))

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

    # Answers that are waited for

    def too_long(self) -> None:
        """The oldest delivery has been out for too long, says `patience`."""
        milliseconds = round(self.session.vhost.consumer_timeout * 1000)
        self.session.refuse(self.line.number, refusals.delivery_timed_out(self.line.number, milliseconds))

    def taken_back(self, consumer: "Consumer", tags: list[int]) -> None:
        """Its queue has waited for too long. RabbitMQ tells clients that they are cancelled if they would understand,
        and refuses the channel of others, and of consumers that were cancelled before."""
        consumer.late.update(tags)
        if not self.session.cancel_notify or self.consumers.get(consumer.tag) is not consumer:
            self._refuse_without(tags)
            return
        self.late.update(dict.fromkeys(tags, consumer))
        self._tell_of(consumer, "consumer cancelled", "what it holds was waited for too long")
        self.line.send(Basic.Cancel(consumer.tag, True))
        self._put_back(tags)

    def _refuse_without(self, tags: list[int]) -> None:
        """Refuse the channel. What was waited for too long goes back by that, and not because the channel is gone."""
        self._put_back(tags)
        self.session.refuse(self.line.number, refusals.delivery_timed_out(self.line.number, -1))

    def _put_back(self, tags: list[int]) -> None:
        entries = [self.unacked.pop(tag) for tag in tags]
        self._give_credit(entries)
        for queue, theirs in _by_queue(entries).items():
            queue.put_back(theirs, Back.HANDED_BACK)

    def _answer_late(self, tag: int, multiple: bool) -> bool:
        """What is answered too late is forgotten. Whether it was that."""
        answered = [each for each in self.late if each == tag or (multiple and (each < tag or not tag))]
        consumers = {self.late.pop(each) for each in answered}
        for consumer in consumers:
            consumer.late.difference_update(answered)
            consumer.queue.wake(consumer)
        return bool(answered)

    def _watch_get(self, queue: Queue, patience: float) -> None:
        """Nobody can be told that basic.get is cancelled: the channel is refused."""

        def overdue(before: int | None) -> None:
            if queue.deleted:
                return
            unacked = self.unacked.items()
            gotten = [tag for tag, entry in unacked if entry.taker is None and entry.queue is queue]
            tags = [tag for tag in gotten if before is None or tag < before]
            if tags:
                self._refuse_without(tags)

        watch = self._get_watches.get(queue)
        if watch is None:
            timeline = self.session.vhost.timeline
            watch = self._get_watches[queue] = Watch(timeline, patience, overdue, self.watches)
        watch.handed_out(self.last_tag)

    # Consuming

    def consume(self, consumer: "Consumer") -> None:
        self.consumers[consumer.tag] = consumer
        self._tell_of(consumer, "consumer added")
        consumer.queue.add(consumer)

    def cancel(self, tag: str) -> None:
        """What the consumer has in hand stays with the channel. A tag that is not known counts as cancelled."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            self._tell_of(consumer, "consumer cancelled", "by the client")
            self.session.vhost.remove_consumer(consumer.queue, consumer)
            consumer.queue.cancelled()

    def cancelled(self, consumer: "Consumer") -> None:
        """Its queue is gone. RabbitMQ says so to clients that announced they would understand."""
        del self.consumers[consumer.tag]
        self._tell_of(consumer, "consumer cancelled", "by the broker")
        if self.session.cancel_notify:
            self.line.send(Basic.Cancel(consumer.tag, True))

    def revoke(self, queue: str | None, tag: str | None) -> int:
        """Cancel the consumers of this queue, of this tag, or all, and say so. How many there were."""
        consumers = [
            consumer
            for consumer in self.consumers.values()
            if queue in (None, consumer.queue.name) and tag in (None, consumer.tag)
        ]
        for consumer in consumers:
            self.session.vhost.remove_consumer(consumer.queue, consumer)
            consumer.queue.cancelled()
            self.cancelled(consumer)
        return len(consumers)

    def _tell_of(self, consumer: "Consumer", kind: Kind, reason: str = "") -> None:
        if self.journal.open:
            self.journal.tell(kind, self.line.who, queue=consumer.queue.name, consumer=consumer.tag, reason=reason)

    def tell_delivery(self, tag: int, entry: Entry, consumer: str = "") -> None:
        self.journal.tell(
            "delivered",
            self.line.who,
            entry.message,
            queue=entry.queue.name,
            consumer=consumer,
            tag=tag,
            redelivered=entry.redelivered,
        )

    def get(self, queue: Queue, *, no_ack: bool) -> None:
        """basic.get: the next message of a queue, past consumers and credit."""
        if queue.is_quorum and queue.single_active:
            kind = self.session.vhost.behaviour.quorum_in_text
            raise refusals.no_get_of_single_active(refusals.queue_in(self.session.vhost.name, queue.name), kind)
        entry = queue.get(no_ack=no_ack)
        if entry is None:
            self.line.send(Basic.GetEmpty())
            return
        self.last_tag += 1
        if not no_ack:
            self.unacked[self.last_tag] = entry
            if queue.patience is not None:
                self._watch_get(queue, queue.patience)
        if self.journal.open:
            self.tell_delivery(self.last_tag, entry)
        message = entry.message
        method = frames.get_ok(self.last_tag, entry.redelivered, message.address, len(queue.ready))
        self.line.send_content(method, _header(entry, got=True), message.body)

    def look_again(self) -> None:
        """A limit has changed, or the peer has read on: deliveries that waited for that may go."""
        for consumer in list(self.consumers.values()):
            consumer.queue.wake(consumer)

    # The end

    def stop_consuming(self) -> None:
        consumers, self.consumers = list(self.consumers.values()), {}
        for consumer in consumers:
            self._tell_of(consumer, "consumer cancelled", "its channel is gone")
            self._left[consumer.queue] = None
            self.session.vhost.remove_consumer(consumer.queue, consumer)

    def end(self) -> None:
        """Consumers go first, so that nothing comes back to this channel."""
        self.session.vhost.patience.leave(self)
        for watch in self.watches:
            watch.end()
        self.stop_consuming()
        self.take_back()
        entries = self._named(0, True)
        self._give_credit(entries)
        for queue, theirs in _by_queue(entries).items():
            queue.put_back(theirs, Back.LOST)
        for queue in self._left:
            queue.run()  # another consumer may be the single active one now


class Consumer:
    """What basic.consume made. `limit` is the prefetch that basic.qos had set by then; 0 is without limit."""

    __slots__ = (
        "deliveries",
        "exclusive",
        "in_hand",
        "late",
        "limit",
        "no_ack",
        "parked",
        "prefix",
        "priority",
        "queue",
        "tag",
    )

    def __init__(
        self,
        *,
        tag: str,
        queue: Queue,
        deliveries: Deliveries,
        no_ack: bool,
        exclusive: bool,
        limit: int,
        priority: int,
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.deliveries = deliveries
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.limit = limit or (UNLIMITED if queue.is_quorum else 0)
        self.priority = priority
        self.in_hand = 0
        self.late: set[int] = set()  # what its queue has taken back, and it has not answered for yet
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
        if channel.journal.open:
            channel.tell_delivery(tag, entry, self.tag)
        method = frames.deliver(self.prefix, tag, entry.redelivered, message.address)
        channel.line.send_content(method, _header(entry, got=False), message.body)

    def queue_deleted(self) -> None:
        self.deliveries.cancelled(self)


def _header(entry: Entry, *, got: bool) -> bytes:
    """The content header as it was published. A quorum queue tells in it how often the message came back."""
    header, queue = entry.message.header, entry.queue
    if queue.is_quorum:
        counts = queue.counts(entry, got=got)
        return content.rewrite(header, counts) if counts else header
    return header


def _by_queue(entries: list[Entry]) -> dict[Home, list[Entry]]:
    found: dict[Home, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.queue, []).append(entry)
    return found
