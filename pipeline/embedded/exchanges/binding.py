"""What leads from an exchange to a destination, and what every way of choosing among them has in common."""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.embedded.wire.content import Keys, Message


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Where to, with which key and arguments. Two bindings are the same if all three are."""

    destination: Hashable
    routing_key: str
    arguments: Mapping[str, object] = field(compare=False, default_factory=dict)
    identity: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        identity = tuple(sorted((key, repr(value)) for key, value in self.arguments.items()))
        object.__setattr__(self, "identity", identity)


class Router(Protocol):
    """The way of one type of exchange: bindings in, and for each message destinations out."""

    def add(self, binding: Binding) -> None: ...

    def remove(self, binding: Binding) -> None: ...

    def route(self, message: Message) -> Collection[Hashable]: ...


class Destinations(dict[Hashable, int]):
    """A set that counts: two bindings may lead to one destination, and one of them may be removed."""

    def add(self, destination: Hashable) -> None:
        self[destination] = self.get(destination, 0) + 1

    def drop(self, destination: Hashable) -> None:
        self[destination] -= 1
        if not self[destination]:
            del self[destination]


def of_each(keys: Keys, match: Callable[[str], Collection[Hashable]]) -> Collection[Hashable]:
    """Where a message with several routing keys goes to: each place once."""
    return {destination: None for key in keys for destination in match(key)}
