"""What consumers ask of one channel: prefetch, basic.consume with its refusals, cancel and basic.get. What is
delivered to them, `deliveries` keeps; which of them is next, the queue decides."""

import secrets

from pipeline.embedded.channels.declaring import Declaring
from pipeline.embedded.channels.deliveries import Consumer, Deliveries
from pipeline.embedded.channels.direct_reply import DirectReply
from pipeline.embedded.channels.timed_consumer import TimedConsumer
from pipeline.embedded.declarations import arguments
from pipeline.embedded.declarations.queue_arguments import CLASSIC, QUORUM
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.vhosts import reply_names
from pipeline.embedded.wire import frames, refusals
from pipeline.embedded.wire.frames import Basic
from pipeline.embedded.wire.tables import Table


class Consuming:
    """One channel's consumers, while they come and go."""

    def __init__(self, deliveries: Deliveries, declaring: Declaring, direct_reply: DirectReply) -> None:
        self._deliveries = deliveries
        self._declaring = declaring
        self._direct_reply = direct_reply
        self._line = deliveries.line
        self._vhost = deliveries.session.vhost
        self._consumer_limit = 0  # prefetch that the next consumer gets

    def qos(self, method: Basic.Qos) -> None:
        """RabbitMQ reads `global` otherwise than the specification: false is for each consumer to come, true for
        the whole channel, those that are there included. The one ends the other."""
        if method.prefetch_size:
            raise refusals.not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_ and self._vhost.behaviour.global_qos:
            self._deliveries.limit = method.prefetch_count or 0
        else:
            self._consumer_limit = method.prefetch_count or 0
            self._deliveries.limit = 0
        self._line.send(Basic.QosOk())
        self._deliveries.look_again()

    def consume(self, method: Basic.Consume) -> None:
        if method.queue == reply_names.GENERIC:
            self._consume_replies(method)
            return
        tag = self._consumer_tag(method)
        queue = self._declaring.named(method.queue)
        thing = refusals.queue_in(self._vhost.name, queue.name)
        args = frames.arguments_of(method)
        of_type = QUORUM if queue.is_quorum else CLASSIC
        arguments.check_consumer(args, thing, of_type, self._vhost.behaviour.queue_arguments)
        if queue.is_quorum and self._deliveries.limit:
            raise refusals.no_global_qos(thing)
        if queue.is_closed_to(exclusive=bool(method.exclusive)):
            raise refusals.exclusive_use(thing)
        consumer = self._consumer(tag, queue, method, args)
        if not method.nowait:
            self._line.send(Basic.ConsumeOk(tag))
        self._deliveries.consume(consumer)

    def _consumer(self, tag: str, queue: Queue, method: Basic.Consume, args: Table) -> Consumer:
        exclusive, priority = bool(method.exclusive), args.get("x-priority", 0)
        if queue.patience is None or method.no_ack:
            return Consumer(
                tag=tag,
                queue=queue,
                deliveries=self._deliveries,
                no_ack=bool(method.no_ack),
                exclusive=exclusive,
                limit=self._consumer_limit,
                priority=priority,
            )
        own = args.get("x-consumer-timeout")  # milliseconds
        return TimedConsumer(
            tag=tag,
            queue=queue,
            deliveries=self._deliveries,
            exclusive=exclusive,
            limit=self._consumer_limit,
            priority=priority,
            patience=queue.patience if own is None else own / 1000,
        )

    def _consume_replies(self, method: Basic.Consume) -> None:
        tag = self._consumer_tag(method)
        self._direct_reply.consume(tag, no_ack=bool(method.no_ack))
        if not method.nowait:
            self._line.send(Basic.ConsumeOk(tag))

    def _consumer_tag(self, method: Basic.Consume) -> str:
        tag = method.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self._deliveries.consumers:
            raise refusals.consumer_tag_reused(tag)
        return tag

    def cancel(self, method: Basic.Cancel) -> None:
        tag = method.consumer_tag or ""
        if not self._direct_reply.cancel(tag):
            self._deliveries.cancel(tag)
        if not method.nowait:
            self._line.send(Basic.CancelOk(tag))

    def get(self, method: Basic.Get) -> None:
        self._deliveries.get(self._declaring.named(method.queue), no_ack=bool(method.no_ack))
