"""A received message that is decoded when somebody asks: the body at once, properties with the first that is read,
headers with themselves. What it is read from is `reading`'s. Hot: one is made for each delivery."""

from collections.abc import Callable
from typing import Any, Final

from pipeline.amqp.convert import DELIVERY_MODES, milliseconds
from pipeline.amqp.fast import reading
from pipeline.message import Message

_PROPERTIES: Final = frozenset(
    {
        *("app_id", "content_encoding", "content_type", "correlation_id", "delivery_mode", "exchange", "expiration"),
        *("message_id", "priority", "reply_to", "routing_key", "timestamp", "type", "user_id"),
    }
)
# Between the two short strings of basic.deliver and the property flags: an end octet, a frame header, and what the
# content header says first.
_TO_FLAGS = 1 + reading.FRAME_HEADER.size + reading.PROPERTY_FLAGS_AT


class Received(Message):
    """A `Message` whose properties stand in slots that are empty at first: reading one comes to `__getattr__`, which
    fills them. Afterwards they are like any other's."""

    __slots__ = ("_octets", "_table")

    def __init__(self, body: bytes, octets: bytes, queue: str, redelivered: bool) -> None:
        """`octets`: from the exchange of basic.deliver to the end of the content header's payload."""
        self.body = body
        self.queue = queue
        self.redelivered = redelivered
        self.attempt = 1
        self._settle = None
        self._octets = octets

    def __getattr__(self, name: str) -> Any:
        if name in _PROPERTIES:
            self._read_properties()
        elif name == "headers":
            if (table := self._table) is None:
                self.headers = {}
            else:
                self.headers = reading.headers(table)
        elif name == "_table":
            self._read_properties()
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return object.__getattribute__(self, name)

    def _read_properties(self) -> None:
        octets = self._octets
        try:
            self.exchange, at = reading.short_string(octets, 0)
            self.routing_key, at = reading.short_string(octets, at)
            found = reading.properties(octets, at + _TO_FLAGS)
        except IndexError:  # no broker sends that; it must not be the handler that hears of it
            self.exchange, self.routing_key, found = "", "", {}
        get: Callable[[str], Any] = found.get
        self._table = get("headers")
        self.content_type = get("content_type")
        self.content_encoding = get("content_encoding")
        self.delivery_mode = DELIVERY_MODES.get(get("delivery_mode"))
        self.priority = get("priority")
        self.correlation_id = get("correlation_id")
        self.reply_to = get("reply_to")
        self.expiration = milliseconds(get("expiration"))
        self.message_id = get("message_id")
        self.timestamp = get("timestamp")
        self.type = get("type")
        self.user_id = get("user_id")
        self.app_id = get("app_id")
