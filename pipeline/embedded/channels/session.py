"""What the channels of one open connection share, and how one of them speaks. Knows frames and the outbox; what is
said, and why, is for those who speak."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.embedded.ground.journal import Who
from pipeline.embedded.vhosts.vhost import VHost
from pipeline.embedded.wire import frames, refusals
from pipeline.embedded.wire.frames import Answer
from pipeline.embedded.wire.outbox import Outbox
from pipeline.embedded.wire.refusals import Refusal

UNFINISHED_MAX = 256 * 1024 * 1024


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
    peer: str
    name: str  # what the client calls its connection
    refuse: Callable[[int, Refusal], None]  # close a channel by its number
    confirming: list[Confirming] = field(default_factory=list)
    unfinished: int = 0  # octets of messages that are not whole or not committed yet, on all channels

    def who(self, channel: int = 0) -> Who:
        """This connection, or one of its channels, in the journal's words."""
        return Who(connection=self.peer, name=self.name, vhost=self.vhost.name, channel=channel)

    def send_confirms(self) -> None:
        if self.vhost.publish_faults.holding:
            return
        confirming, self.confirming = self.confirming, []
        for each in confirming:
            each.send_confirms()

    def hold(self, octets: int) -> None:
        """What is unfinished stands in no queue, so the memory alarm does not see it: it is bounded for itself."""
        self.unfinished += octets
        if self.unfinished > UNFINISHED_MAX:
            raise refusals.too_much_unfinished(UNFINISHED_MAX)

    def forget(self, confirming: Confirming) -> None:
        """Its channel is gone, and with it all that was still to be confirmed."""
        if confirming in self.confirming:
            self.confirming.remove(confirming)


class Line:
    """One channel's way out."""

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session
        self.who = session.who(number)

    def send(self, method: Answer) -> None:
        self.session.outbox.put(frames.encode_method(self.number, method))

    def send_content(self, method: bytes, header: bytes, body: bytes) -> None:
        pieces = frames.content(self.number, method, header, body, self.session.frame_max)
        self.session.outbox.put_pieces(pieces, len(method) + len(header) + len(body) + 8 * len(pieces))
