"""What a queue needs of the virtual host that it is in, and where its dead letters are taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.embedded.ground.shared import Shared
from pipeline.embedded.queues.entry import Entry, Home, Reason
from pipeline.embedded.wire.content import DeadLetter


class Undertaker(Protocol):
    """Where dead letters are taken to. Nothing moves before `work`: no queue is changed while another one, or it
    itself, is in the middle of its own change."""

    def bury(self, entry: Entry, reason: Reason) -> None:
        """At most once: where nobody takes it, it is gone."""

    def copy(self, entry: Entry, reason: Reason) -> DeadLetter:
        """What goes to the dead-letter exchange."""

    def targets(self, copy: DeadLetter) -> Sequence[Home]:
        """Where it goes from there."""

    def tell(self, copy: DeadLetter, target: Home, reason: Reason) -> None:
        """That it has come to one of them."""

    def later(self, act: Callable[[], None]) -> None:
        """Do something that changes other queues, in its turn."""

    def work(self) -> None:
        """Do all that has been asked for, unless that is being done."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """`drop` deletes the queue of that name."""

    vhost: str
    shared: Shared
    undertaker: Undertaker
    drop: Callable[[str], None]
