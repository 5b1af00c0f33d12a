"""Which destinations a message goes to, for each type of exchange (specification 3.1.3, RabbitMQ's documentation of
exchanges); topics have a file of their own. Pure: a routing key and headers in, destinations out. A destination may
be a queue or an exchange; what it is does not matter here."""

import random
from collections.abc import Collection, Hashable, Mapping
from datetime import datetime
from zlib import crc32

from pipeline.embedded.exchanges.binding import Binding, Destinations, of_each
from pipeline.embedded.ground.versions import Behaviour
from pipeline.embedded.wire.content import Message


class Direct:
    """The binding's key equals the message's."""

    def __init__(self) -> None:
        self._by_key: dict[str, Destinations] = {}

    def add(self, binding: Binding) -> None:
        self._by_key.setdefault(binding.routing_key, Destinations()).add(binding.destination)

    def remove(self, binding: Binding) -> None:
        destinations = self._by_key[binding.routing_key]
        destinations.drop(binding.destination)
        if not destinations:
            del self._by_key[binding.routing_key]

    def route(self, message: Message) -> Collection[Hashable]:
        if message.copies or message.blind_copies:
            return of_each(message.keys, self._match)
        return self._by_key.get(message.routing_key, ())

    def _match(self, routing_key: str) -> Collection[Hashable]:
        return self._by_key.get(routing_key, ())


class _Keyless:
    """The key of a binding does not matter."""

    def __init__(self) -> None:
        self._all = Destinations()

    def add(self, binding: Binding) -> None:
        self._all.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._all.drop(binding.destination)


class Fanout(_Keyless):
    """Everything goes everywhere."""

    def route(self, message: Message) -> Collection[Hashable]:
        return self._all


MATCHES = ("all", "any", "all-with-x", "any-with-x")


class Headers:
    """The binding's arguments against the message's headers. `x-match` says whether all or any must agree, and
    whether those that begin with `x-` count. An argument without a value asks only that the header is there."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._bindings: dict[Binding, None] = {}
        self._numbers_alike = behaviour.numbers_alike
        self._moment = 1000 if behaviour.moments_are_milliseconds else 1  # a second of a message's moment

    def add(self, binding: Binding) -> None:
        self._bindings[binding] = None

    def remove(self, binding: Binding) -> None:
        del self._bindings[binding]

    def route(self, message: Message) -> Collection[Hashable]:
        headers = message.headers
        return {binding.destination: None for binding in self._bindings if self._agrees(binding.arguments, headers)}

    def _agrees(self, wanted: Mapping[str, object], headers: Mapping[str, object]) -> bool:
        match = wanted.get("x-match", "all")
        with_x = match in ("all-with-x", "any-with-x")
        answers = (
            key in headers
            and (value is None or self._equal(_comparable(value), _comparable(headers[key], self._moment)))
            for key, value in wanted.items()
            if key != "x-match" and (with_x or not key.startswith("x-"))
        )
        return any(answers) if match in ("any", "any-with-x") else all(answers)

    def _equal(self, one: object, other: object) -> bool:
        if self._numbers_alike and type(one) in (int, float) and type(other) in (int, float):
            return one == other
        return type(one) is type(other) and one == other  # True is not 1 here


def _comparable(value: object, moment: int = 1) -> object:
    """Of the types on the wire, RabbitMQ tells strings from numbers, but not text from octets or moments from whole
    numbers."""
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="surrogateescape")
    return int(value.timestamp()) * moment if isinstance(value, datetime) else value


class LocalRandom(_Keyless):
    """One of the destinations, whichever key the message has."""

    def route(self, message: Message) -> Collection[Hashable]:
        return (random.choice(tuple(self._all)),) if self._all else ()


class ModulusHash(_Keyless):
    """One of the destinations, and the same one for the same routing key as long as the bindings stay. Which one
    that is differs from RabbitMQ, whose hash is Erlang's."""

    def route(self, message: Message) -> Collection[Hashable]:
        if not self._all:
            return ()
        number = crc32(".".join(message.keys).encode(errors="surrogateescape"))
        return (tuple(self._all)[number % len(self._all)],)
