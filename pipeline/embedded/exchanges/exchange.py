"""An exchange: its bindings, and the way its type routes. Which types there are, and what may be bound to each. How
each of them chooses is `routers`' business, the way of a message through several of them `routing`'s."""

from collections.abc import Callable, Hashable

from pipeline.embedded.exchanges.binding import Binding, Router
from pipeline.embedded.exchanges.routers import MATCHES, Direct, Fanout, Headers, LocalRandom, ModulusHash
from pipeline.embedded.exchanges.topic import Topic
from pipeline.embedded.ground.versions import Behaviour
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.tables import Table

LOCAL_RANDOM = "x-local-random"

_ROUTERS: dict[str, Callable[[Behaviour], Router]] = {
    "direct": lambda _: Direct(),
    "fanout": lambda _: Fanout(),
    "topic": lambda _: Topic(),
    "headers": lambda behaviour: Headers(behaviour),
    LOCAL_RANDOM: lambda _: LocalRandom(),
    "x-modulus-hash": lambda _: ModulusHash(),
}


class Exchange:
    """A name, its bindings, and the way its type routes."""

    def __init__(
        self,
        *,
        name: str,
        type: str,
        behaviour: Behaviour,
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
        self.alternate: str | None = self.arguments.get("alternate-exchange")  # takes what goes nowhere from here
        self.bindings: dict[Binding, None] = {}
        self._router = _ROUTERS[type](behaviour)
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


def check_type(type: str, behaviour: Behaviour) -> None:
    """Refuses a type that does not exist."""
    if type not in behaviour.exchange_types:
        raise refusals.unknown_exchange_type(type, behaviour.unknown_exchange_type_code)


def check_binding(type: str, arguments: Table) -> None:
    """Refuses (406) an x-match that is none of the four words."""
    if type != "headers" or "x-match" not in arguments:
        return
    match, kind = arguments["x-match"], arguments.kinds["x-match"]
    if kind != "longstr":
        raise refusals.invalid_x_match_type(kind, match)
    if match not in MATCHES:
        raise refusals.invalid_x_match(match)


def check_local_binding(routing_key: str, queue_type: str | None) -> None:
    """Refuses (406) a key, and a destination that is no classic queue; None is no queue at all."""
    if routing_key:
        raise refusals.key_not_permitted(routing_key)
    if queue_type is None:
        raise refusals.no_destination()
    if queue_type != "classic":
        raise refusals.queue_type_not_valid(queue_type)
