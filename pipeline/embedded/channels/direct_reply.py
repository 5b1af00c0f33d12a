"""Direct reply-to on one channel: replies go straight to the channel that asked, with no queue between them. It
consumes from the name `amq.rabbitmq.reply-to`, and its messages carry a name of its own instead."""

from dataclasses import dataclass

from pipeline.embedded.channels.deliveries import Deliveries
from pipeline.embedded.ground.journal import Kind
from pipeline.embedded.vhosts import reply_names
from pipeline.embedded.wire import frames, refusals
from pipeline.embedded.wire.content import Message
from pipeline.embedded.wire.outbox import TOO_MUCH


@dataclass(eq=False, kw_only=True)
class Requester:
    """A channel that waits for replies under this name."""

    name: str
    tag: str
    deliveries: Deliveries
    counts: bool  # whether replies take delivery tags, as other deliveries do

    def push(self, message: Message) -> bool:
        """Replies ask for no credit, so a peer that does not read them loses those that are too many."""
        line = self.deliveries.line
        if line.session.outbox.size >= TOO_MUCH:
            self.tell("dropped", message, reason="the client does not read its answers")
            return True
        tag = self.deliveries.last_tag + 1
        if self.counts:
            self.deliveries.last_tag = tag
        self.tell("delivered", message, tag=tag)
        method = frames.deliver(frames.deliver_prefix(self.tag), tag, False, message.address)
        line.send_content(method, message.header, message.body)
        return True

    def tell(self, kind: Kind, message: Message | None = None, tag: int = 0, reason: str = "") -> None:
        journal, who = self.deliveries.journal, self.deliveries.line.who
        if journal.open:
            journal.tell(kind, who, message, queue=self.name, consumer=self.tag, tag=tag, reason=reason)


class DirectReply:
    """At most one requester."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._vhost = deliveries.session.vhost
        self._requester: Requester | None = None

    @property
    def name(self) -> str:
        """What a message of this channel carries. Refuses (406) where nobody waits."""
        if self._requester is None:
            raise refusals.no_reply_consumer()
        return self._requester.name

    def consume(self, tag: str, *, no_ack: bool) -> None:
        if not no_ack:
            raise refusals.reply_consumer_must_not_acknowledge()
        if self._requester is not None:
            raise refusals.second_reply_consumer()
        self._requester = Requester(
            name=reply_names.new_name(),
            tag=tag,
            deliveries=self._deliveries,
            counts=self._vhost.behaviour.reply_queues,
        )
        self._vhost.requesters.add(self._requester)
        self._requester.tell("consumer added")

    def cancel(self, tag: str) -> bool:
        """Whether it was this one."""
        if self._requester is None or self._requester.tag != tag:
            return False
        self.end("by the client")
        return True

    def end(self, why: str = "its channel is gone") -> None:
        if self._requester is not None:
            self._vhost.requesters.remove(self._requester)
            self._requester.tell("consumer cancelled", reason=why)
            self._requester = None
