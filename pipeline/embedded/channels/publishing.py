"""What a client publishes on one channel: content put together from its frames and handed to the virtual host;
returns and confirms. What is looked at in a message, `incoming` knows; who consumes is not known here."""

from collections.abc import Collection
from itertools import groupby
from typing import Protocol

from pipeline.embedded.channels.direct_reply import DirectReply
from pipeline.embedded.channels.incoming import Incoming
from pipeline.embedded.channels.session import Line
from pipeline.embedded.ground.publish_faults import Returned
from pipeline.embedded.vhosts.routing import Target
from pipeline.embedded.wire import content, frames, refusals
from pipeline.embedded.wire.content import Message
from pipeline.embedded.wire.frames import Basic, Publish

PIECE_WEIGHT = 64  # octets that a frame weighs besides its payload, roughly


class Waiting(Protocol):
    """A transaction, seen from here: it keeps what is published until it is committed."""

    def check_room(self) -> None: ...

    def publish(self, message: Message, targets: Collection[Target], *, mandatory: bool) -> None: ...


class Publishing:
    """From basic.publish to its confirm. `confirms` is set by confirm.select and stays, `transaction` by tx.select."""

    def __init__(self, line: Line, direct_reply: DirectReply) -> None:
        self.confirms = False
        self.transaction: Waiting | None = None
        self._line = line
        self._session = line.session
        self._vhost = line.session.vhost
        self._behaviour = line.session.vhost.behaviour
        self._faults = line.session.vhost.publish_faults
        self._journal = line.session.vhost.journal
        self._incoming = Incoming(line.session.user, self._behaviour, direct_reply)
        self._publish: Publish | None = None  # its content is still coming
        self._header: bytes | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self._weight = 0  # of what has come of a body in several frames
        self._published = 0
        self._confirmed = 0
        self._refused: list[int] = []  # of those to be confirmed: not taken by some queue

    @property
    def in_content(self) -> bool:
        """Between basic.publish and the end of its body nothing else may come on the channel."""
        return self._publish is not None

    def begin(self, publish: Publish) -> None:
        self._publish = publish

    def take(self, kind: int, payload: bytes) -> None:
        """Specification 4.2.6: one header frame, then body frames until the announced size is there."""
        if self._header is None:
            self._take_header(kind, payload)
        elif kind != frames.BODY:
            raise refusals.no_body()
        elif len(payload) > self._missing:
            # RabbitMQ 3.10 goes on waiting for the rest, and stumbles over the next method only.
            raise refusals.too_much_body() if self._behaviour.body_excess_told else refusals.no_body()
        else:
            self._body.append(payload)
            self._missing -= len(payload)
            if self._missing or self._weight:
                self._weigh(payload)
        if self._missing == 0:
            publish, header, body = self._publish, self._header, b"".join(self._body)
            assert publish is not None and header is not None  # both came before the body was whole
            self._publish, self._header, self._body = None, None, []
            self._take_message(publish, header, body)

    def _weigh(self, payload: bytes) -> None:
        weight = len(payload) + PIECE_WEIGHT if self._missing else -self._weight
        self._weight += weight
        self._session.hold(weight)

    def end(self) -> None:
        """The channel is gone: what is not whole never will be, and nothing is confirmed any more."""
        self._session.unfinished -= self._weight
        self._session.forget(self)

    def _take_header(self, kind: int, payload: bytes) -> None:
        expected = "expected content header for class 60, got"
        if kind != frames.HEADER or content.weight(payload):
            raise refusals.unexpected_frame(f"{expected} non content header frame instead")
        if content.class_id(payload) != Basic.frame_id:
            raise refusals.unexpected_frame(f"{expected} one for class {content.class_id(payload)} instead")
        size = content.body_size(payload)
        if size > self._behaviour.body_max:
            raise refusals.too_large(size, self._behaviour.body_max)
        self._header = payload
        self._missing = size

    def _take_message(self, publish: Publish, header: bytes, body: bytes) -> None:
        if publish.immediate:
            raise refusals.not_implemented("immediate=true")
        if self.transaction is not None:
            self.transaction.check_room()
        exchange = self._vhost.entrance(publish.exchange)
        message = self._incoming.message(publish, header, body)
        targets: Collection[Target] = self._vhost.route(exchange, message)
        if not exchange.name and (not targets or message.copies or message.blind_copies):
            targets = self._with_replies(message, targets)
        if self.transaction is not None:
            self.transaction.publish(message, targets, mandatory=publish.mandatory)
            return
        taken = self.deliver(message, targets, mandatory=publish.mandatory)
        if self.confirms:
            # RabbitMQ: confirmed once all queues have it; one that goes nowhere at once, after its return.
            if self._published == self._confirmed:
                self._session.confirming.append(self)
            self._published += 1
            if not taken:
                self._refused.append(self._published)

    def _with_replies(self, message: Message, targets: Collection[Target]) -> Collection[Target]:
        """And to those who wait for it as a reply. RabbitMQ before 4 does that on the side: the message counts as
        unroutable, and is not part of a transaction."""
        replies = self._vhost.requesters.waiting_for(message)
        if self._behaviour.reply_queues:
            return (*targets, *replies)
        for reply in replies:
            reply.push(message)
        return targets

    def deliver(self, message: Message, targets: Collection[Target], *, mandatory: bool) -> bool:
        """Whether all of them took it."""
        if self._journal.open:
            self._journal.tell("published", self._line.who, message)
        if self._faults.armed:
            names = [target.name for target in targets]
            fate = self._faults.fate_of(names, mandatory=mandatory, confirms=self.confirms)
            if isinstance(fate, Returned):
                self._return(message, fate.code, fate.reason)
            if fate is not None:
                return isinstance(fate, Returned)
        taken = True
        for target in targets:
            if not target.push(message):
                taken = False
        if mandatory and not targets:
            self._return(message, 312, "NO_ROUTE")
        return taken

    def _return(self, message: Message, code: int, reason: str) -> None:
        self._line.send_content(frames.returned(code, reason, message.address), message.header, message.body)
        if self._journal.open:
            self._journal.tell("returned", self._line.who, message, reason=f"{code} {reason}")

    def send_confirms(self) -> None:
        """All since the last time, in as few methods as there can be (RabbitMQ, publisher confirms: `multiple`)."""
        first, last = self._confirmed + 1, self._published
        self._confirmed = last
        if self._journal.open:
            for tag in range(first, last + 1):
                self._journal.tell("nacked" if tag in self._refused else "confirmed", self._line.who, tag=tag)
        if not self._refused:
            self._line.send(Basic.Ack(last, last > first))
            return
        refused, self._refused = frozenset(self._refused), []
        for is_refused, tags in groupby(range(first, last + 1), refused.__contains__):
            run = list(tags)
            confirm = Basic.Nack if is_refused else Basic.Ack
            self._line.send(confirm(run[-1], len(run) > 1))
