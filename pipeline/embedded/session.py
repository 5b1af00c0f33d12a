"""What the channels of one open connection share, and how one of them speaks. Knows frames and the outbox; what is
said, and why, is for those who speak."""

from dataclasses import dataclass, field
from typing import Protocol

from pipeline.embedded import frames
from pipeline.embedded.frames import Answer
from pipeline.embedded.outbox import Outbox
from pipeline.embedded.vhost import VHost


class Confirming(Protocol):
    """Somebody with confirms to send at the end of the step."""

    def send_confirms(self) -> None: ...


@dataclass(eq=False, kw_only=True)
class Session:
    """One open connection, seen from its channels. It is also who owns the connection's exclusive queues."""

    vhost: VHost
    user: str
    outbox: Outbox
    frame_max: int
    cancel_notify: bool  # the client's capability consumer_cancel_notify
    confirming: list[Confirming] = field(default_factory=list)

    def send_confirms(self) -> None:
        confirming, self.confirming = self.confirming, []
        for each in confirming:
            each.send_confirms()


class Line:
    """One channel's way out."""

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session

    def send(self, method: Answer) -> None:
        self.session.outbox.put(frames.encode_method(self.number, method))

    def send_content(self, method: bytes, header: bytes, body: bytes) -> None:
        pieces = frames.content(self.number, method, header, body, self.session.frame_max)
        self.session.outbox.put_pieces(pieces, len(method) + len(header) + len(body) + 8 * len(pieces))
