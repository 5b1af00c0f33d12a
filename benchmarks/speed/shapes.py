"""What is measured: a shape is one way of using RabbitMQ. Says how messages come and go and what they are made of; who
does it is a peer's, how often and how long is decided in `rounds`."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Final, Literal

from benchmarks.speed.task import Kind

QueueType = Literal["classic", "quorum"]

PREFETCHES: Final = (1, 10, 100, 500, 0)
SIZES: Final = (100, 4096)
AT_ONCE: Final = 100  # prefetch where a shape does not say another, and publishes without a confirm


@dataclass(frozen=True, kw_only=True)
class Shape:
    """`prefetch` 0 is no_ack. The name leaves out what is usual: 100 B, transient, classic."""

    kind: Kind
    prefetch: int = AT_ONCE
    body: int = 100
    persistent: bool = False
    queue_type: QueueType = "classic"

    @property
    def name(self) -> str:
        words = [f"consume-{self.prefetch or 'none'}" if self.kind == "consume" else self.kind]
        words += ["4k"] if self.body == 4096 else []
        words += ["quorum"] if self.queue_type == "quorum" else ["persistent"] if self.persistent else []
        return "-".join(words)

    @property
    def about(self) -> str:
        return _ABOUT[self.kind].format(
            settling=f"an ack each, prefetch {self.prefetch}" if self.prefetch else "no_ack", at_once=AT_ONCE
        )


_ABOUT: Final = {
    "consume": "consume, {settling}",
    "publish": "publish, {at_once} confirms outstanding",
    "pipe": "consume, handle, confirmed publish, ack; {at_once} at once",
}


def _all() -> tuple[Shape, ...]:
    """A quorum queue keeps every message on disk, so that it has no transient ones."""
    stored: tuple[tuple[bool, QueueType], ...] = ((False, "classic"), (True, "classic"), (True, "quorum"))
    ways: list[tuple[Kind, int]] = [("consume", prefetch) for prefetch in PREFETCHES]
    ways += [("publish", AT_ONCE), ("pipe", AT_ONCE)]
    return tuple(
        Shape(kind=kind, prefetch=prefetch, body=body, persistent=persistent, queue_type=queue_type)
        for (persistent, queue_type), body, (kind, prefetch) in product(stored, SIZES, ways)
    )


SHAPES: Final = _all()
HEADLINE: Final = ("consume-100", "publish", "pipe")
GROUPS: Final = {
    "Prefetch": ("consume-1", "consume-10", "consume-100", "consume-500", "consume-none"),
    "4 KiB": ("consume-100-4k", "publish-4k", "pipe-4k"),
    "Persistent messages, classic queues": ("consume-100-persistent", "publish-persistent", "pipe-persistent"),
    "Quorum queues": ("consume-100-quorum", "publish-quorum", "pipe-quorum"),
}


def named(patterns: Sequence[str]) -> list[Shape]:
    """Those whose name one of the patterns (`consume-*`) meets, in the order of the patterns."""
    found = [shape for pattern in patterns for shape in SHAPES if fnmatchcase(shape.name, pattern)]
    return list(dict.fromkeys(found))
