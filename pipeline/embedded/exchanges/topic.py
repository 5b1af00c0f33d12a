"""Topic exchanges: keys of words between dots, in a tree, so that a message is compared with all bindings at once."""

from collections.abc import Collection, Hashable

from pipeline.embedded.exchanges.binding import Binding, Destinations, of_each
from pipeline.embedded.wire.content import Message

_REMEMBERED = 4_096  # routing keys whose match is kept


class _Word:
    """A place in the tree of binding keys; the way from the root is the key so far."""

    __slots__ = ("destinations", "is_hash", "next")

    def __init__(self, *, is_hash: bool = False) -> None:
        self.is_hash = is_hash
        self.next: dict[str, _Word] = {}
        self.destinations = Destinations()


class Topic:
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
        if message.copies or message.blind_copies:
            return of_each(message.keys, self._match)
        known = self._remembered.get(message.routing_key)
        return self._match(message.routing_key) if known is None else known

    def _match(self, routing_key: str) -> Collection[Hashable]:
        known = self._remembered.get(routing_key)
        if known is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            known = self._remembered[routing_key] = tuple(self._walk(routing_key))
        return known

    def _walk(self, routing_key: str) -> dict[Hashable, None]:
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
