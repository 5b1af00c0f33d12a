"""The methods of one channel: what each of them does to the virtual host, and what is answered. Keeps delivery
tags, prefetch, confirms and returns. Refuses by raising; who is told, and what is closed, `connection` decides."""

import secrets
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from pipeline.embedded import arguments, content, frames, refusals
from pipeline.embedded.consumer import Consumer, counted
from pipeline.embedded.content import Message
from pipeline.embedded.frames import Ack, Basic, Confirm, Exchange, Method, Publish, Tx
from pipeline.embedded.frames import Channel as Methods
from pipeline.embedded.frames import Queue as QueueMethods
from pipeline.embedded.outbox import Outbox
from pipeline.embedded.queue import Entry, Queue, Taker
from pipeline.embedded.vhost import ExchangeWish, QueueWish, VHost

BODY_MAX = 128 * 1024 * 1024  # RabbitMQ 3.10's max_message_size


@dataclass(eq=False, kw_only=True)
class Session:
    """What the channels of one open connection share. It is also who owns the connection's exclusive queues."""

    vhost: VHost
    user: str
    outbox: Outbox
    frame_max: int
    cancel_notify: bool  # the client's capability consumer_cancel_notify
    confirming: "list[Channel]" = field(default_factory=list)  # have confirms to send at the end of this step


class Channel:
    """One channel from open to close. `receive` takes its frames one by one."""

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session
        self._method = b""  # the method that is being worked on, as it came
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Entry] = {}  # by delivery tag, in the order of delivery
        self.last_tag = 0
        self.limit = 0  # prefetch of the whole channel (basic.qos with global); 0 is without limit
        self.in_hand = 0  # unacknowledged deliveries of its consumers
        self._consumer_limit = 0  # prefetch that the next consumer gets
        self._last_queue = ""  # what an empty queue name means
        self._publish: Publish | None = None  # its content is still coming
        self._header: bytes | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self._confirms = False
        self._published = 0
        self._confirmed = 0

    # Frames

    def receive(self, kind: int, payload: bytes) -> None:
        if self._publish is not None:
            self._content(kind, payload)
        elif kind != frames.METHOD:
            self._method = b""
            raise refusals.unexpected_frame("expected method frame, got non method frame instead")
        else:
            self._method = payload
            method = frames.decode_method(payload)
            act = _METHODS.get(type(method))
            if act is None:
                raise refusals.unimplemented_method()
            act(self, method)

    def _content(self, kind: int, payload: bytes) -> None:
        """Specification 4.2.6: one header frame, then body frames until the announced size is there."""
        if self._header is None:
            self._take_header(kind, payload)
        elif kind != frames.BODY or len(payload) > self._missing:
            raise refusals.unexpected_frame("expected content body, got non content body frame instead")
        else:
            self._body.append(payload)
            self._missing -= len(payload)
        if self._missing == 0:
            publish, header, body = self._publish, self._header, b"".join(self._body)
            assert publish is not None and header is not None  # both came before the body was whole
            self._publish, self._header, self._body = None, None, []
            self._published_whole(publish, header, body)

    def _take_header(self, kind: int, payload: bytes) -> None:
        expected = "expected content header for class 60, got"
        if kind != frames.HEADER:
            raise refusals.unexpected_frame(f"{expected} non content header frame instead")
        if content.class_id(payload) != Basic.frame_id:
            raise refusals.unexpected_frame(f"{expected} one for class {content.class_id(payload)} instead")
        size = content.body_size(payload)
        if size > BODY_MAX:
            raise refusals.too_large(size, BODY_MAX)
        self._header = payload
        self._missing = size

    @property
    def at(self) -> tuple[int, int]:
        """Class and method id for a close: what the channel is working on."""
        return frames.ids_of(self._method)

    def send(self, method: Method) -> None:
        assert not isinstance(method, Publish | Ack)  # those only ever come in
        self.session.outbox.put(frames.encode_method(self.number, method))

    def send_content(self, method: bytes, header: bytes, body: bytes) -> None:
        pieces = frames.content(self.number, method, header, body, self.session.frame_max)
        self.session.outbox.put_pieces(pieces, len(method) + len(header) + len(body) + 8 * len(pieces))

    # Publishing

    def _begin_publish(self, method: Publish) -> None:
        self._publish = method

    def _published_whole(self, publish: Publish, header: bytes, body: bytes) -> None:
        if publish.immediate:
            raise refusals.not_implemented("immediate=true")
        message = Message(publish.exchange, publish.routing_key, publish.address, header, body)
        queues = self.session.vhost.route(message)
        self._check_properties(header)
        for queue in queues:
            queue.push(message)
        if publish.mandatory and not queues:
            self.send_content(frames.returned(312, "NO_ROUTE", message.address), header, body)
        if self._confirms:
            # RabbitMQ: confirmed once all queues have it; one that goes nowhere at once, after its return.
            if self._published == self._confirmed:
                self.session.confirming.append(self)
            self._published += 1

    def _check_properties(self, header: bytes) -> None:
        try:
            content.check(header)
        except ValueError:
            raise refusals.malformed("content header") from None
        flags = content.flags(header)
        if flags & content.USER_ID:
            claimed = content.text(header, "user_id")
            if claimed != self.session.user:
                raise refusals.foreign_user_id(str(claimed), self.session.user)
        if flags & content.EXPIRATION:
            arguments.check_expiration(str(content.text(header, "expiration")))

    def send_confirms(self) -> None:
        """All that were published since the last time, in one basic.ack (specification of confirms: `multiple`)."""
        many = self._published - self._confirmed > 1
        if self._published > self._confirmed:
            self._confirmed = self._published
            self.send(Basic.Ack(self._published, many))

    def _confirm_select(self, method: Confirm.Select) -> None:
        self._confirms = True
        if not method.nowait:
            self.send(Confirm.SelectOk())

    def _tx_select(self, method: Tx.Select) -> None:
        if self._confirms:
            raise refusals.confirm_to_tx()
        raise refusals.not_implemented("transactions are not supported by the embedded broker")

    def _tx_end(self, method: Tx.Commit | Tx.Rollback) -> None:
        raise refusals.not_transactional()

    # Settling

    def _ack(self, method: Ack) -> None:
        entries = self._named(method.delivery_tag, method.multiple)
        for entry in entries:
            entry.queue.acknowledge(entry)
        self._wake(self._give_credit(entries))

    def _nack(self, method: Basic.Nack) -> None:
        entries = self._named(method.delivery_tag or 0, bool(method.multiple))
        self._hand_back(entries, requeue=bool(method.requeue))

    def _reject(self, method: Basic.Reject) -> None:
        entries = self._named(method.delivery_tag or 0, False)
        self._hand_back(entries, requeue=bool(method.requeue))

    def _recover(self, method: Basic.Recover | Basic.RecoverAsync) -> None:
        """All deliveries of this channel go back; what is delivered next may go to anyone."""
        if not method.requeue:
            raise refusals.not_implemented("requeue=false")
        if isinstance(method, Basic.Recover):
            self.send(Basic.RecoverOk())
        self._hand_back(self._named(0, True), requeue=True)

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

    def _hand_back(self, entries: list[Entry], *, requeue: bool) -> None:
        """To the old place in the queue, or out of it and to its dead-letter exchange."""
        waiting = self._give_credit(entries)
        if requeue:
            _put_back(entries)
        else:
            for entry in entries:
                entry.queue.reject(entry)
        self._wake(waiting)

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

    def drained(self) -> None:
        """The peer has read on: deliveries that waited for that may go."""
        for consumer in list(self.consumers.values()):
            consumer.queue.wake(consumer)

    # Consuming

    def _qos(self, method: Basic.Qos) -> None:
        """RabbitMQ reads `global` otherwise than the specification: false is for each consumer to come, true for
        the whole channel, those that are there included."""
        if method.prefetch_size:
            raise refusals.not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_:
            self.limit = method.prefetch_count or 0
        else:
            self._consumer_limit = method.prefetch_count or 0
        self.send(Basic.QosOk())
        self.drained()

    def _consume(self, method: Basic.Consume) -> None:
        queue = self._queue(method.queue)
        tag = method.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self.consumers:
            raise refusals.consumer_tag_reused(tag)
        thing = refusals.queue_in(self.session.vhost.name, queue.name)
        arguments.check_consumer(frames.arguments_of(method), thing)
        if queue.is_quorum and self.limit:
            raise refusals.no_global_qos(thing)
        if queue.consumers and (method.exclusive or queue.consumers[0].exclusive):
            raise refusals.exclusive_use(thing)
        consumer = Consumer(
            tag=tag,
            queue=queue,
            channel=self,
            no_ack=bool(method.no_ack),
            exclusive=bool(method.exclusive),
            limit=self._consumer_limit,
        )
        self.consumers[tag] = consumer
        if not method.nowait:
            self.send(Basic.ConsumeOk(tag))
        queue.add(consumer)

    def _cancel(self, method: Basic.Cancel) -> None:
        """What the consumer has in hand stays with the channel. A tag that is not known counts as cancelled."""
        tag = method.consumer_tag or ""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            self.session.vhost.remove_consumer(consumer.queue, consumer)
        if not method.nowait:
            self.send(Basic.CancelOk(tag))

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """Its queue is gone. RabbitMQ says so to clients that announced they would understand."""
        del self.consumers[consumer.tag]
        if self.session.cancel_notify:
            self.send(Basic.Cancel(consumer.tag, True))

    def _get(self, method: Basic.Get) -> None:
        queue = self._queue(method.queue)
        entry = queue.get(no_ack=bool(method.no_ack))
        if entry is None:
            self.send(Basic.GetEmpty())
            return
        self.last_tag += 1
        if not method.no_ack:
            self.unacked[self.last_tag] = entry
        message = entry.message
        ok = frames.get_ok(self.last_tag, entry.redelivered, message.address, len(queue.ready))
        self.send_content(ok, counted(entry) if entry.returns else message.header, message.body)

    # Declaring

    def _exchange_declare(self, method: Exchange.Declare) -> None:
        vhost, name = self.session.vhost, method.exchange or ""
        if method.passive:
            if not name:
                raise refusals.default_exchange()
            vhost.exchange(name)
        else:
            vhost.declare_exchange(
                ExchangeWish(
                    name=name,
                    type=method.exchange_type or "",
                    durable=bool(method.durable),
                    auto_delete=bool(method.auto_delete),
                    internal=bool(method.internal),
                    arguments=frames.arguments_of(method),
                )
            )
        if not method.nowait:
            self.send(Exchange.DeclareOk())

    def _exchange_delete(self, method: Exchange.Delete) -> None:
        self.session.vhost.delete_exchange(method.exchange or "", if_unused=bool(method.if_unused))
        if not method.nowait:
            self.send(Exchange.DeleteOk())

    def _exchange_bind(self, method: Exchange.Bind) -> None:
        destination = self._destination(method.destination)
        self.session.vhost.bind(method.source or "", destination, method.routing_key or "", frames.arguments_of(method))
        if not method.nowait:
            self.send(Exchange.BindOk())

    def _exchange_unbind(self, method: Exchange.Unbind) -> None:
        vhost = self.session.vhost
        destination = vhost.exchanges.get(method.destination or "")
        vhost.unbind(method.source or "", destination, method.routing_key or "", method.arguments or {})
        if not method.nowait:
            self.send(Exchange.UnbindOk())

    def _destination(self, name: str | None) -> Hashable:
        if not name:
            raise refusals.default_exchange()
        return self.session.vhost.exchange(name)

    def _queue_declare(self, method: QueueMethods.Declare) -> None:
        name = method.queue or ""
        if method.passive:
            queue = self.session.vhost.queue(name, self.session)
        else:
            wish = QueueWish(
                name=name,
                durable=bool(method.durable),
                exclusive=bool(method.exclusive),
                auto_delete=bool(method.auto_delete),
                arguments=frames.arguments_of(method),
            )
            queue = self.session.vhost.declare_queue(wish, self.session)
        self._last_queue = queue.name
        if not method.nowait:
            ok = frames.declare_ok(self.number, queue.name, len(queue.ready), len(queue.consumers))
            self.session.outbox.put(ok)

    def _queue_bind(self, method: QueueMethods.Bind) -> None:
        name = method.queue or self._named_before()
        key = self._binding_key(method.queue, method.routing_key)
        self.session.vhost.bind_queue(method.exchange or "", name, self.session, key, frames.arguments_of(method))
        if not method.nowait:
            self.send(QueueMethods.BindOk())

    def _queue_unbind(self, method: QueueMethods.Unbind) -> None:
        vhost = self.session.vhost
        queue = vhost.queues.get(method.queue or self._named_before())
        key = self._binding_key(method.queue, method.routing_key)
        vhost.unbind(method.exchange or "", queue, key, method.arguments or {})
        self.send(QueueMethods.UnbindOk())

    def _queue_purge(self, method: QueueMethods.Purge) -> None:
        count = self._queue(method.queue).purge()
        if not method.nowait:
            self.send(QueueMethods.PurgeOk(count))

    def _queue_delete(self, method: QueueMethods.Delete) -> None:
        count = self.session.vhost.delete_queue(
            method.queue or self._named_before(),
            self.session,
            if_unused=bool(method.if_unused),
            if_empty=bool(method.if_empty),
        )
        if not method.nowait:
            self.send(QueueMethods.DeleteOk(count))

    def _queue(self, name: str | None) -> Queue:
        return self.session.vhost.queue(name or self._named_before(), self.session)

    def _named_before(self) -> str:
        """Specification, queue.bind and others: an empty name is the queue last declared on this channel."""
        if not self._last_queue:
            raise refusals.no_previous_queue()
        return self._last_queue

    def _binding_key(self, queue: str | None, routing_key: str | None) -> str:
        """Specification, queue.bind: with both names empty the key is the name of the queue."""
        return routing_key or (self._last_queue if not queue else "")

    # The channel itself

    def _open(self, method: Methods.Open) -> None:
        raise refusals.channel_open_already()

    def _flow(self, method: Methods.Flow) -> None:
        if not method.active:
            raise refusals.not_implemented("active=false")
        self.send(Methods.FlowOk(True))

    def stop_consuming(self) -> None:
        consumers, self.consumers = list(self.consumers.values()), {}
        for consumer in consumers:
            self.session.vhost.remove_consumer(consumer.queue, consumer)

    def end(self) -> None:
        """Closed, by whomever, or lost: consumers go first, so that nothing comes back to this channel."""
        self.stop_consuming()
        entries = self._named(0, True)
        self._give_credit(entries)
        _put_back(entries)


def _put_back(entries: list[Entry]) -> None:
    by_queue: dict[Queue, list[Entry]] = {}
    for entry in entries:
        by_queue.setdefault(entry.queue, []).append(entry)
    for queue, theirs in by_queue.items():
        queue.put_back(theirs)


_METHODS: dict[type[Method], Callable[[Channel, Any], None]] = {
    Methods.Open: Channel._open,
    Methods.Flow: Channel._flow,
    Exchange.Declare: Channel._exchange_declare,
    Exchange.Delete: Channel._exchange_delete,
    Exchange.Bind: Channel._exchange_bind,
    Exchange.Unbind: Channel._exchange_unbind,
    QueueMethods.Declare: Channel._queue_declare,
    QueueMethods.Bind: Channel._queue_bind,
    QueueMethods.Unbind: Channel._queue_unbind,
    QueueMethods.Purge: Channel._queue_purge,
    QueueMethods.Delete: Channel._queue_delete,
    Basic.Qos: Channel._qos,
    Basic.Consume: Channel._consume,
    Basic.Cancel: Channel._cancel,
    Publish: Channel._begin_publish,
    Basic.Get: Channel._get,
    Ack: Channel._ack,
    Basic.Nack: Channel._nack,
    Basic.Reject: Channel._reject,
    Basic.Recover: Channel._recover,
    Basic.RecoverAsync: Channel._recover,
    Confirm.Select: Channel._confirm_select,
    Tx.Select: Channel._tx_select,
    Tx.Commit: Channel._tx_end,
    Tx.Rollback: Channel._tx_end,
}
