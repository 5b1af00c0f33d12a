"""Which destinations a message goes to: direct, fanout, topic and headers, each as specification 3.1.3 and
RabbitMQ's documentation of exchanges have it. Pure: a routing key and headers in, destinations out. A
destination may be a queue or an exchange; what it is does not matter here."""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.embedded import refusals
from pipeline.embedded.content import Message
from pipeline.embedded.tables import Table

_REMEMBERED = 4_096  # routing keys whose topic match is kept


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


class _Router(Protocol):
    def add(self, binding: Binding) -> None: ...

    def remove(self, binding: Binding) -> None: ...

    def route(self, message: Message) -> Collection[Hashable]: ...


class Exchange:
    """A name, its bindings, and the way its type routes."""

    def __init__(
        self,
        *,
        name: str,
        type: str,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = Table({}, {}) if arguments is None else arguments
        self.bindings: dict[Binding, None] = {}
        self._router = _router(type)
        self.route = self._router.route  # once per message: one call less

    def bind(self, binding: Binding) -> None:
        """Idempotent (specification, queue.bind: a server must ignore duplicate bindings)."""
        if binding not in self.bindings:
            self.bindings[binding] = None
            self._router.add(binding)

    def unbind(self, binding: Binding) -> bool:
        """Whether there was such a binding."""
        if binding not in self.bindings:
            return False
        del self.bindings[binding]
        self._router.remove(binding)
        return True

    def forget(self, destination: Hashable) -> bool:
        """Remove all bindings to a destination that is gone. Whether there were any."""
        theirs = [binding for binding in self.bindings if binding.destination is destination]
        for binding in theirs:
            self.unbind(binding)
        return bool(theirs)


def check_type(type: str) -> None:
    """Refuses (503) a type that does not exist, as RabbitMQ 3.10 does for a word it has never heard."""
    if type not in _ROUTERS:
        raise refusals.unknown_exchange_type(type)


def check_binding(type: str, arguments: Table) -> None:
    """Refuses (406) an x-match that is none of the four words."""
    if type != "headers" or "x-match" not in arguments:
        return
    match, kind = arguments["x-match"], arguments.kinds["x-match"]
    if kind != "longstr":
        raise refusals.invalid_x_match_type(kind, match)
    if match not in _MATCHES:
        raise refusals.invalid_x_match(match)


class _Destinations(dict[Hashable, int]):
    """A set that counts: two bindings may lead to one destination, and one of them may be removed."""

    def add(self, destination: Hashable) -> None:
        self[destination] = self.get(destination, 0) + 1

    def drop(self, destination: Hashable) -> None:
        self[destination] -= 1
        if not self[destination]:
            del self[destination]


class _Direct:
    """The binding's key equals the message's."""

    def __init__(self) -> None:
        self._by_key: dict[str, _Destinations] = {}

    def add(self, binding: Binding) -> None:
        self._by_key.setdefault(binding.routing_key, _Destinations()).add(binding.destination)

    def remove(self, binding: Binding) -> None:
        destinations = self._by_key[binding.routing_key]
        destinations.drop(binding.destination)
        if not destinations:
            del self._by_key[binding.routing_key]

    def route(self, message: Message) -> Collection[Hashable]:
        return self._by_key.get(message.routing_key, ())


class _Fanout:
    """Everything goes everywhere."""

    def __init__(self) -> None:
        self._all = _Destinations()

    def add(self, binding: Binding) -> None:
        self._all.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._all.drop(binding.destination)

    def route(self, message: Message) -> Collection[Hashable]:
        return self._all


class _Word:
    """A place in the tree of binding keys; the way from the root is the key so far."""

    __slots__ = ("destinations", "is_hash", "next")

    def __init__(self, *, is_hash: bool = False) -> None:
        self.is_hash = is_hash
        self.next: dict[str, _Word] = {}
        self.destinations = _Destinations()


class _Topic:
    """Words between dots; `*` stands for one word, `#` for any number of them."""

    def __init__(self) -> None:
        self._root = _Word()
        self._remembered: dict[str, tuple[Hashable, ...]] = {}

    def add(self, binding: Binding) -> None:
        self._remembered.clear()
        word = self._root
        for text in _words(binding.routing_key):
            word = word.next.setdefault(text, _Word(is_hash=text == "#"))
        word.destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._remembered.clear()
        way = [self._root]
        words = _words(binding.routing_key)
        for text in words:
            way.append(way[-1].next[text])
        way[-1].destinations.drop(binding.destination)
        for parent, text in zip(reversed(way[:-1]), reversed(words), strict=True):
            child = parent.next[text]
            if not child.destinations and not child.next:
                del parent.next[text]

    def route(self, message: Message) -> Collection[Hashable]:
        known = self._remembered.get(message.routing_key)
        if known is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            known = self._remembered[message.routing_key] = tuple(self._match(message.routing_key))
        return known

    def _match(self, routing_key: str) -> dict[Hashable, None]:
        # All places at once, word by word: following one way after another would take time exponential in the
        # number of `#` of a key.
        places = _with_hashes({self._root: None})
        for text in _words(routing_key):
            following: dict[_Word, None] = {}
            for place in places:
                if place.is_hash:
                    following[place] = None
                for step in (text, "*"):
                    if step in place.next:
                        following[place.next[step]] = None
            places = _with_hashes(following)
        return {destination: None for place in places for destination in place.destinations}


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _with_hashes(places: dict[_Word, None]) -> dict[_Word, None]:
    """`#` may stand for no word at all, so the place behind it is reached at once."""
    reached = dict(places)
    for place in places:
        while "#" in place.next:
            place = place.next["#"]
            reached[place] = None
    return reached


_MATCHES = ("all", "any", "all-with-x", "any-with-x")


class _Headers:
    """The binding's arguments against the message's headers. `x-match` says whether all or any must agree, and
    whether those that begin with `x-` count. An argument without a value asks only that the header is there."""

    def __init__(self) -> None:
        self._bindings: dict[Binding, None] = {}

    def add(self, binding: Binding) -> None:
        self._bindings[binding] = None

    def remove(self, binding: Binding) -> None:
        del self._bindings[binding]

    def route(self, message: Message) -> Collection[Hashable]:
        headers = message.headers
        return {binding.destination: None for binding in self._bindings if _agrees(binding.arguments, headers)}


def _agrees(wanted: Mapping[str, object], headers: Mapping[str, object]) -> bool:
    match = wanted.get("x-match", "all")
    with_x = match in ("all-with-x", "any-with-x")
    answers = (
        key in headers and (value is None or _equal(value, headers[key]))
        for key, value in wanted.items()
        if key != "x-match" and (with_x or not key.startswith("x-"))
    )
    return any(answers) if match in ("any", "any-with-x") else all(answers)


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


_ROUTERS: dict[str, type[_Router]] = {
    "direct": _Direct,
    "fanout": _Fanout,
    "topic": _Topic,
    "headers": _Headers,
}


def _router(type: str) -> _Router:
    return _ROUTERS[type]()
