"""What is declared, bound and deleted on one channel, and what an empty queue name means there. Which of it is
refused, and what becomes of it, `vhost` knows."""

from pipeline.embedded.channels.session import Line
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.vhosts import reply_names
from pipeline.embedded.vhosts.wishes import ExchangeWish, QueueWish
from pipeline.embedded.wire import frames, refusals
from pipeline.embedded.wire.frames import Exchange
from pipeline.embedded.wire.frames import Queue as QueueMethods


class Declaring:
    """One channel's declarations."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._session = line.session
        self._last_queue = ""  # what an empty queue name means

    # Exchanges

    def exchange_declare(self, method: Exchange.Declare) -> None:
        vhost, name = self._session.vhost, method.exchange or ""
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
            self._line.send(Exchange.DeclareOk())

    def exchange_delete(self, method: Exchange.Delete) -> None:
        self._session.vhost.delete_exchange(method.exchange or "", if_unused=bool(method.if_unused))
        if not method.nowait:
            self._line.send(Exchange.DeleteOk())

    def exchange_bind(self, method: Exchange.Bind) -> None:
        self._session.vhost.bind_exchange(
            method.source or "", method.destination or "", method.routing_key or "", frames.arguments_of(method)
        )
        if not method.nowait:
            self._line.send(Exchange.BindOk())

    def exchange_unbind(self, method: Exchange.Unbind) -> None:
        if not method.destination:
            raise refusals.default_exchange()
        vhost = self._session.vhost
        destination = vhost.exchanges.get(method.destination)
        vhost.unbind(method.source or "", destination, method.routing_key or "", method.arguments or {})
        if not method.nowait:
            self._line.send(Exchange.UnbindOk())

    # Queues

    def queue_declare(self, method: QueueMethods.Declare) -> None:
        name = method.queue or ""
        if name.startswith(reply_names.GENERIC):
            self._declare_replies(method, name)
            return
        if method.passive:
            queue = self._session.vhost.queue(name, self._session)
        else:
            wish = QueueWish(
                name=name,
                durable=bool(method.durable),
                exclusive=bool(method.exclusive),
                auto_delete=bool(method.auto_delete),
                arguments=frames.arguments_of(method),
            )
            queue = self._session.vhost.declare_queue(wish, self._session)
        queue.declared()
        self._last_queue = queue.name
        if not method.nowait:
            ok = frames.declare_ok(self._line.number, queue.name, len(queue.ready), queue.consumer_count)
            self._session.outbox.put(ok)

    def _declare_replies(self, method: QueueMethods.Declare, name: str) -> None:
        """A name of direct reply-to is there as long as somebody waits under it, however it is declared."""
        self._session.vhost.requesters.check(name)
        self._last_queue = name
        if not method.nowait:
            self._session.outbox.put(frames.declare_ok(self._line.number, name, 0, 1))

    def queue_bind(self, method: QueueMethods.Bind) -> None:
        name = method.queue or self._named_before()
        key = self._binding_key(method.queue, method.routing_key)
        self._session.vhost.bind_queue(method.exchange or "", name, self._session, key, frames.arguments_of(method))
        if not method.nowait:
            self._line.send(QueueMethods.BindOk())

    def queue_unbind(self, method: QueueMethods.Unbind) -> None:
        vhost = self._session.vhost
        name = method.queue or self._named_before()
        vhost.requesters.check_bindable(name)
        queue = vhost.queues.get(name)
        key = self._binding_key(method.queue, method.routing_key)
        vhost.unbind(method.exchange or "", queue, key, method.arguments or {})
        self._line.send(QueueMethods.UnbindOk())

    def queue_purge(self, method: QueueMethods.Purge) -> None:
        count = self.named(method.queue).purge()
        if not method.nowait:
            self._line.send(QueueMethods.PurgeOk(count))

    def queue_delete(self, method: QueueMethods.Delete) -> None:
        self._session.vhost.delete_queue(
            method.queue or self._named_before(),
            self._session,
            if_unused=bool(method.if_unused),
            if_empty=bool(method.if_empty),
            answer=lambda count: None if method.nowait else self._line.send(QueueMethods.DeleteOk(count)),
        )

    def named(self, name: str | None) -> Queue:
        return self._session.vhost.queue(name or self._named_before(), self._session)

    def _named_before(self) -> str:
        """Specification, queue.bind and others: an empty name is the queue last declared on this channel."""
        if not self._last_queue:
            raise refusals.no_previous_queue()
        return self._last_queue

    def _binding_key(self, queue: str | None, routing_key: str | None) -> str:
        """Specification, queue.bind: with both names empty the key is the name of the queue."""
        return routing_key or (self._last_queue if not queue else "")
