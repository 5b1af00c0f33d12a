"""What a client publishes on one channel: content put together from its frames, checked and handed to the virtual
host; returns and confirms. Who consumes is not known here."""

from pipeline.embedded import arguments, content, frames, refusals
from pipeline.embedded.content import Message
from pipeline.embedded.frames import Basic, Publish
from pipeline.embedded.session import Line

BODY_MAX = 128 * 1024 * 1024  # RabbitMQ 3.10's max_message_size


class Publishing:
    """From basic.publish to its confirm. `confirms` is set by confirm.select and stays."""

    def __init__(self, line: Line) -> None:
        self.confirms = False
        self._line = line
        self._session = line.session
        self._publish: Publish | None = None  # its content is still coming
        self._header: bytes | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self._published = 0
        self._confirmed = 0

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
        elif kind != frames.BODY or len(payload) > self._missing:
            raise refusals.unexpected_frame("expected content body, got non content body frame instead")
        else:
            self._body.append(payload)
            self._missing -= len(payload)
        if self._missing == 0:
            publish, header, body = self._publish, self._header, b"".join(self._body)
            assert publish is not None and header is not None  # both came before the body was whole
            self._publish, self._header, self._body = None, None, []
            self._take_message(publish, header, body)

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

    def _take_message(self, publish: Publish, header: bytes, body: bytes) -> None:
        if publish.immediate:
            raise refusals.not_implemented("immediate=true")
        message = Message(publish.exchange, publish.routing_key, publish.address, header, body)
        queues = self._session.vhost.route(message)
        self._check_properties(header)
        for queue in queues:
            queue.push(message)
        if publish.mandatory and not queues:
            self._line.send_content(frames.returned(312, "NO_ROUTE", message.address), header, body)
        if self.confirms:
            # RabbitMQ: confirmed once all queues have it; one that goes nowhere at once, after its return.
            if self._published == self._confirmed:
                self._session.confirming.append(self)
            self._published += 1

    def _check_properties(self, header: bytes) -> None:
        try:
            content.check(header)
        except ValueError:
            raise refusals.malformed("content header") from None
        flags = content.flags(header)
        if flags & content.USER_ID:
            claimed = content.text(header, "user_id")
            if claimed != self._session.user:
                raise refusals.foreign_user_id(str(claimed), self._session.user)
        if flags & content.EXPIRATION:
            arguments.check_expiration(str(content.text(header, "expiration")))

    def send_confirms(self) -> None:
        """All since the last time in one basic.ack (RabbitMQ, publisher confirms: `multiple`)."""
        many = self._published - self._confirmed > 1
        self._confirmed = self._published
        self._line.send(Basic.Ack(self._published, many))
