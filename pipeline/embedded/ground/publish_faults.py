"""What a test does to those who publish: some messages are nacked or returned although they could be delivered, and
confirms wait. Publishing asks here, and only while something is armed; how it tells the publisher, it knows itself."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Nacked:
    """The message goes nowhere, and its publisher gets basic.nack."""


@dataclass(frozen=True, kw_only=True)
class Returned:
    """The message goes nowhere, and comes back to its publisher before it is confirmed."""

    code: int
    reason: str


Fate = Nacked | Returned


@dataclass(kw_only=True)
class _Order:
    fate: Fate
    left: int
    queue: str | None
    mandatory_only: bool


class PublishFaults:
    """`armed` and `holding` are there to be asked before anything else: while they are false, nothing is different."""

    def __init__(self) -> None:
        self.armed = False
        self.holding = False  # confirms wait until this is over
        self._orders: list[_Order] = []

    def order(self, fate: Fate, count: int, *, queue: str | None, mandatory_only: bool) -> None:
        """For the next so many messages that it fits. Orders are worked off one after the other."""
        self._orders.append(_Order(fate=fate, left=count, queue=queue, mandatory_only=mandatory_only))
        self.armed = True

    def clear(self) -> None:
        """Whatever is still ordered, is not any more."""
        self._orders.clear()
        self.armed = False

    def fate_of(self, queues: Iterable[str], *, mandatory: bool, confirms: bool) -> Fate | None:
        """What happens to a message that would go to these queues. Only channels with confirms can be told of a nack,
        so a message of another channel is none of those that are counted."""
        names = set(queues)
        for order in self._orders:
            meant = order.queue is None or order.queue in names
            hears = confirms if isinstance(order.fate, Nacked) else mandatory or not order.mandatory_only
            if meant and hears:
                order.left -= 1
                if order.left == 0:
                    self._orders.remove(order)
                    self.armed = bool(self._orders)
                return order.fate
        return None
