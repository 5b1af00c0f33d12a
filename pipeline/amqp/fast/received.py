"""A received message that is decoded when somebody asks: the body at once, properties with the first that is asked for,
headers with themselves. What it is read from is `reading`'s. Hot: one is made for each delivery."""

from contextlib import suppress
from typing import Any, Final

from pipeline.amqp.convert import DELIVERY_MODES, milliseconds
from pipeline.amqp.fast import reading
from pipeline.message import Message

# Between the two short strings of basic.deliver and the property flags: an end octet, a frame header, and what the
# content header says first.
_TO_FLAGS: Final = 1 + reading.FRAME_HEADER.size + reading.PROPERTY_FLAGS_AT


def _property(name: str) -> Any:
    """Stands before the slot of that name. (A `__getattr__` behind the empty slot is asked only once; but that once,
    which is all that most messages come to, an exception comes first: 3.4 us instead of 2.1, the reading included.)"""

    def get(message: "Received") -> Any:
        found = message._found
        return (message._read() if found is None else found).get(name)

    def put(message: "Received", value: object) -> None:
        found = message._found
        (message._read() if found is None else found)[name] = value

    return property(get, put)


def _where(name: str) -> Any:
    """The same for the exchange and the routing key, which most handlers and all outputs do without."""

    def get(message: "Received") -> Any:
        found = message._read() if message._found is None else message._found
        if name not in found:
            message._read_where(found)
        return found[name]

    def put(message: "Received", value: object) -> None:
        found = message._found
        (message._read() if found is None else found)[name] = value

    return property(get, put)


def _own_id() -> Any:
    """The same for the message id, which is asked for more often than all others together."""

    def get(message: "Received") -> Any:
        found = message._found
        return reading.message_id(message._octets, message._flags_at()) if found is None else found.get("message_id")

    return property(get, _property("message_id").fset)


class Received(Message):
    """A `Message` whose properties are read from the octets when they are asked for, and may be changed like any
    other's. Copied or pickled it becomes a plain one."""

    __slots__ = ("_found", "_octets")

    exchange = _where("exchange")
    routing_key = _where("routing_key")
    content_type = _property("content_type")
    content_encoding = _property("content_encoding")
    delivery_mode = _property("delivery_mode")
    priority = _property("priority")
    correlation_id = _property("correlation_id")
    reply_to = _property("reply_to")
    expiration = _property("expiration")
    message_id = _own_id()
    timestamp = _property("timestamp")
    type = _property("type")
    user_id = _property("user_id")
    app_id = _property("app_id")

    def __init__(self, body: bytes, octets: bytes, queue: str, redelivered: bool) -> None:
        """`octets`: from the exchange of basic.deliver to the end of the content header's payload."""
        self.body = body
        self.queue = queue
        self.redelivered = redelivered
        self.attempt = 1
        self._settle = None
        self._octets = octets
        self._found: dict[str, Any] | None = None

    @property
    def headers(self) -> dict[str, object]:
        found = self._read() if self._found is None else self._found
        headers = found.get("headers")
        if not isinstance(headers, dict):
            headers = found["headers"] = {} if headers is None else reading.headers(headers)
        return headers

    @headers.setter
    def headers(self, headers: dict[str, object]) -> None:
        (self._read() if self._found is None else self._found)["headers"] = headers

    def mentions(self, name: bytes) -> bool:
        return name in self._octets  # a twentieth of what it costs to decode them

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = reading.properties(self._octets, self._flags_at())
        self._found = found
        if (mode := found.get("delivery_mode")) is not None:
            found["delivery_mode"] = DELIVERY_MODES.get(mode)
        if (expiration := found.get("expiration")) is not None:
            found["expiration"] = milliseconds(expiration)
        return found

    def _flags_at(self) -> int:
        octets = self._octets
        try:
            at = 1 + octets[0]  # behind the exchange
            return at + 1 + octets[at] + _TO_FLAGS  # behind the routing key
        except IndexError:  # no broker sends that; it must not be the handler that hears of it
            return len(octets)

    def _read_where(self, found: dict[str, Any]) -> None:
        """What was put there meanwhile stays."""
        exchange = routing_key = ""
        with suppress(IndexError):
            exchange, at = reading.short_string(self._octets, 0)
            routing_key, _ = reading.short_string(self._octets, at)
        found.setdefault("exchange", exchange)
        found.setdefault("routing_key", routing_key)

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain, (self.body, {name: getattr(self, name) for name in _NAMES})


_NAMES = [name for name in Message.__slots__ if name not in ("body", "_settle")]


def _plain(body: bytes, rest: dict[str, Any]) -> Message:
    return Message(body, **rest)
