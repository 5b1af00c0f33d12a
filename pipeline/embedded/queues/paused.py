"""A queue that a test has paused: its consumers keep their places, and none of them is ever next. Whose turn it was,
and will be again, is `turns`' business."""

from pipeline.embedded.queues.entry import Taker
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.queues.turns import Turns


class Paused:
    """Stands in the place of a queue's turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    @property
    def consumers(self) -> list[Taker]:
        return self.turns.consumers

    def add(self, taker: Taker) -> None:
        self.turns.add(taker)

    def remove(self, taker: Taker) -> None:
        self.turns.remove(taker)

    def unpark(self, taker: Taker) -> None:
        self.turns.unpark(taker)

    def next(self) -> Taker | None:
        return None

    def active(self) -> int:
        return self.turns.active()

    def clear(self) -> None:
        self.turns.clear()


def pause(queue: Queue) -> None:
    """One that is paused stays so."""
    if not isinstance(queue.turns, Paused):
        queue.turns = Paused(queue.turns)


def resume(queue: Queue) -> None:
    """Consumers get what they have missed. A queue that is not paused stays as it is."""
    if isinstance(queue.turns, Paused):
        queue.turns = queue.turns.turns
        queue.run()
