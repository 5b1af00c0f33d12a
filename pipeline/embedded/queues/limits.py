"""How much a queue may hold: `x-max-length`, `x-max-length-bytes`, and what `x-overflow` says of more. Ready messages
count, and those that wait for being ready again. What becomes of what is too much is the queue's business."""

from collections.abc import Callable, Mapping

from pipeline.embedded.queues.entry import Entry
from pipeline.embedded.wire.content import Message

_SOFT = 0.8  # of a limit: where a quorum queue that refused takes messages again


class Limit:
    """Counts what came and has not left: no queue without a limit needs that."""

    def __init__(
        self,
        length: int | None,
        max_octets: int | None,
        overflow: object,
        weigh: Callable[[Message], int],
    ) -> None:
        self.clear()
        self.drops = overflow not in ("reject-publish", "reject-publish-dlx")
        self.buries_refused = overflow == "reject-publish-dlx"
        self._length = length
        self._max_octets = max_octets
        self._weigh = weigh

    def clear(self) -> None:
        self._count = 0
        self._octets = 0

    def came(self, entry: Entry) -> None:
        self._count += 1
        self._octets += self._weigh(entry.message)

    def left(self, entry: Entry) -> None:
        self._count -= 1
        self._octets -= self._weigh(entry.message)

    def is_over(self, count: int = 0, octets: int = 0) -> bool:
        """With so many messages and octets more than are counted here."""
        if self._length is not None and self._count + count > self._length:
            return True
        return self._max_octets is not None and self._octets + octets > self._max_octets

    def would_be_over(self, message: Message) -> bool:
        """If this message came."""
        return self.is_over(1, self._weigh(message))

    def is_well_below(self, count: int, octets: int) -> bool:
        """With so many messages and octets more, too."""
        if self._length is not None and self._count + count > int(self._length * _SOFT):
            return False
        return self._max_octets is None or self._octets + octets <= int(self._max_octets * _SOFT)


def body_size(message: Message) -> int:
    return len(message.body)


def body_and_properties(message: Message) -> int:
    """As quorum queues of RabbitMQ 4.3 count: the content header weighs from its flags on (specification 4.2.6.1)."""
    return len(message.body) + len(message.header) - 12


def limit_of(arguments: Mapping[str, object], overflow: object, weigh: Callable[[Message], int]) -> Limit | None:
    """The limit of a queue with these arguments; None where it has none."""
    length, octets = arguments.get("x-max-length"), arguments.get("x-max-length-bytes")
    if length is None and octets is None:
        return None
    return Limit(
        length if isinstance(length, int) else None, octets if isinstance(octets, int) else None, overflow, weigh
    )
