"""The methods of one channel: what each of them does, in a table at the end, and what is answered. Publishing and
deliveries keep their own books. Refuses by raising; who is told, and what is closed, `connection` decides."""

import secrets
from collections.abc import Callable, Hashable
from typing import Any

from pipeline.embedded import arguments, frames, refusals
from pipeline.embedded.deliveries import Consumer, Deliveries
from pipeline.embedded.frames import Ack, Basic, Confirm, Exchange, Method, Publish, Tx
from pipeline.embedded.frames import Channel as Methods
from pipeline.embedded.frames import Queue as QueueMethods
from pipeline.embedded.publishing import Publishing
from pipeline.embedded.queue import Queue
from pipeline.embedded.session import Line, Session
from pipeline.embedded.vhost import ExchangeWish, QueueWish


class Channel:
    """One channel from open to close. `receive` takes its frames one by one."""

    def __init__(self, number: int, session: Session) -> None:
        self.session = session
        self.line = Line(number, session)
        self.publishing = Publishing(self.line)
        self.deliveries = Deliveries(self.line)
        self._method = b""  # the method that is being worked on, as it came
        self._consumer_limit = 0  # prefetch that the next consumer gets
        self._last_queue = ""  # what an empty queue name means

    def receive(self, kind: int, payload: bytes) -> None:
        if self.publishing.in_content:
            self.publishing.take(kind, payload)
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

    @property
    def at(self) -> tuple[int, int]:
        """Class and method id for a close: what the channel is working on."""
        return frames.ids_of(self._method)

    # The channel itself

    def _open(self, method: Methods.Open) -> None:
        raise refusals.channel_open_already()

    def _flow(self, method: Methods.Flow) -> None:
        if not method.active:
            raise refusals.not_implemented("active=false")
        self.line.send(Methods.FlowOk(True))

    # Publishing

    def _publish(self, method: Publish) -> None:
        self.publishing.begin(method)

    def _confirm_select(self, method: Confirm.Select) -> None:
        self.publishing.confirms = True
        if not method.nowait:
            self.line.send(Confirm.SelectOk())

    def _tx_select(self, method: Tx.Select) -> None:
        if self.publishing.confirms:
            raise refusals.confirm_to_tx()
        raise refusals.not_implemented("transactions are not supported by the embedded broker")

    def _tx_end(self, method: Tx.Commit | Tx.Rollback) -> None:
        raise refusals.not_transactional()

    # Settling

    def _ack(self, method: Ack) -> None:
        self.deliveries.acknowledge(method.delivery_tag, multiple=method.multiple)

    def _nack(self, method: Basic.Nack) -> None:
        self.deliveries.hand_back(
            method.delivery_tag or 0, multiple=bool(method.multiple), requeue=bool(method.requeue)
        )

    def _reject(self, method: Basic.Reject) -> None:
        self.deliveries.hand_back(method.delivery_tag or 0, multiple=False, requeue=bool(method.requeue))

    def _recover(self, method: Basic.Recover | Basic.RecoverAsync) -> None:
        """All deliveries of this channel go back; what is delivered next may go to anyone."""
        if not method.requeue:
            raise refusals.not_implemented("requeue=false")
        if isinstance(method, Basic.Recover):
            self.line.send(Basic.RecoverOk())
        self.deliveries.hand_back(0, multiple=True, requeue=True)

    # Consuming

    def _qos(self, method: Basic.Qos) -> None:
        """RabbitMQ reads `global` otherwise than the specification: false is for each consumer to come, true for
        the whole channel, those that are there included."""
        if method.prefetch_size:
            raise refusals.not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_:
            self.deliveries.limit = method.prefetch_count or 0
        else:
            self._consumer_limit = method.prefetch_count or 0
        self.line.send(Basic.QosOk())
        self.deliveries.look_again()

    def _consume(self, method: Basic.Consume) -> None:
        queue = self._queue(method.queue)
        thing = refusals.queue_in(self.session.vhost.name, queue.name)
        tag = method.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self.deliveries.consumers:
            raise refusals.consumer_tag_reused(tag)
        arguments.check_consumer(frames.arguments_of(method), thing)
        if queue.is_quorum and self.deliveries.limit:
            raise refusals.no_global_qos(thing)
        if queue.consumers and (method.exclusive or queue.consumers[0].exclusive):
            raise refusals.exclusive_use(thing)
        consumer = Consumer(
            tag=tag,
            queue=queue,
            deliveries=self.deliveries,
            no_ack=bool(method.no_ack),
            exclusive=bool(method.exclusive),
            limit=self._consumer_limit,
        )
        if not method.nowait:
            self.line.send(Basic.ConsumeOk(tag))
        self.deliveries.consume(consumer)

    def _cancel(self, method: Basic.Cancel) -> None:
        tag = method.consumer_tag or ""
        self.deliveries.cancel(tag)
        if not method.nowait:
            self.line.send(Basic.CancelOk(tag))

    def _get(self, method: Basic.Get) -> None:
        self.deliveries.get(self._queue(method.queue), no_ack=bool(method.no_ack))

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
            self.line.send(Exchange.DeclareOk())

    def _exchange_delete(self, method: Exchange.Delete) -> None:
        self.session.vhost.delete_exchange(method.exchange or "", if_unused=bool(method.if_unused))
        if not method.nowait:
            self.line.send(Exchange.DeleteOk())

    def _exchange_bind(self, method: Exchange.Bind) -> None:
        destination = self._destination(method.destination)
        self.session.vhost.bind(method.source or "", destination, method.routing_key or "", frames.arguments_of(method))
        if not method.nowait:
            self.line.send(Exchange.BindOk())

    def _exchange_unbind(self, method: Exchange.Unbind) -> None:
        vhost = self.session.vhost
        destination = vhost.exchanges.get(method.destination or "")
        vhost.unbind(method.source or "", destination, method.routing_key or "", method.arguments or {})
        if not method.nowait:
            self.line.send(Exchange.UnbindOk())

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
            ok = frames.declare_ok(self.line.number, queue.name, len(queue.ready), len(queue.consumers))
            self.session.outbox.put(ok)

    def _queue_bind(self, method: QueueMethods.Bind) -> None:
        name = method.queue or self._named_before()
        key = self._binding_key(method.queue, method.routing_key)
        self.session.vhost.bind_queue(method.exchange or "", name, self.session, key, frames.arguments_of(method))
        if not method.nowait:
            self.line.send(QueueMethods.BindOk())

    def _queue_unbind(self, method: QueueMethods.Unbind) -> None:
        vhost = self.session.vhost
        queue = vhost.queues.get(method.queue or self._named_before())
        key = self._binding_key(method.queue, method.routing_key)
        vhost.unbind(method.exchange or "", queue, key, method.arguments or {})
        self.line.send(QueueMethods.UnbindOk())

    def _queue_purge(self, method: QueueMethods.Purge) -> None:
        count = self._queue(method.queue).purge()
        if not method.nowait:
            self.line.send(QueueMethods.PurgeOk(count))

    def _queue_delete(self, method: QueueMethods.Delete) -> None:
        count = self.session.vhost.delete_queue(
            method.queue or self._named_before(),
            self.session,
            if_unused=bool(method.if_unused),
            if_empty=bool(method.if_empty),
        )
        if not method.nowait:
            self.line.send(QueueMethods.DeleteOk(count))

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
    Publish: Channel._publish,
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
