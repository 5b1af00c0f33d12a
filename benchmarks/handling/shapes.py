"""The handlers whose cost is measured, one of each kind, with what the file says of their consumer. What runs them and
what stands in for the broker is not known here."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.handlers.context import Context
from pipeline.message import Message

JSON = "application/json"
ORDER = b'{"id": 4711, "customer": "ACME", "amount": 12.5, "lines": ["a", "b"]}'
TEXT = b"x" * 100


@dataclass
class Order:
    id: int
    customer: str
    amount: float
    lines: list[str]


async def takes_bytes(body: bytes) -> None:
    pass


async def takes_anything(body: object) -> None:
    pass


async def takes_message(message: Message) -> None:
    pass


async def takes_order(order: Order) -> None:
    pass


async def takes_three(body: bytes, headers: dict[str, object], context: Context) -> None:
    pass


async def acknowledges(message: Message) -> None:
    await message.ack()


def plain(body: bytes) -> None:
    pass


async def returns(body: bytes) -> bytes:
    return body


async def returns_order(order: Order) -> Order:
    return order


async def publishes(body: bytes, context: Context) -> None:
    await context.publish(body)


def plain_returns(body: bytes) -> bytes:
    return body


async def generates(body: bytes) -> AsyncIterator[bytes]:
    yield body


def generates_in_thread(body: bytes) -> Iterator[bytes]:
    yield body


@dataclass(frozen=True, kw_only=True)
class Shape:
    name: str
    about: str
    function: Callable[..., Any]
    body: bytes = TEXT
    content_type: str | None = None
    consumer: Mapping[str, object] = field(default_factory=dict)


_TO: dict[str, object] = {"publish": {"queue": "invoices"}}
_MANY: dict[str, object] = {"concurrency": 100}

SHAPES = (
    Shape(name="bytes", about="async def (body: bytes)", function=takes_bytes),
    Shape(name="bytes-100", about="the same, 100 at once", function=takes_bytes, consumer=_MANY),
    Shape(name="anything", about="async def (body)", function=takes_anything),
    Shape(name="message", about="async def (message)", function=takes_message),
    Shape(name="order", about="async def (order: Order)", function=takes_order, body=ORDER, content_type=JSON),
    Shape(name="three", about="async def (body, headers, context)", function=takes_three),
    Shape(name="timeout", about="bytes, with timeout: 30s", function=takes_bytes, consumer={"timeout": "30s"}),
    Shape(
        name="retry", about="bytes, with a retry", function=takes_bytes, consumer={"retry": {"delays": ["5s", "1m"]}}
    ),
    Shape(name="manual", about="ack: manual, message.ack()", function=acknowledges, consumer={"ack": "manual"}),
    Shape(name="thread", about="def (body: bytes)", function=plain),
    Shape(name="thread-8", about="the same, 8 at once", function=plain, consumer={"concurrency": 8}),
    Shape(name="pipe", about="returns bytes to publish, 100 at once", function=returns, consumer=_TO | _MANY),
    Shape(name="pipe-1", about="the same, 1 at once", function=returns, consumer=_TO),
    Shape(
        name="pipe-order",
        about="Order in, Order out, 100 at once",
        function=returns_order,
        body=ORDER,
        content_type=JSON,
        consumer=_TO | _MANY,
    ),
    Shape(
        name="pipe-timeout",
        about="pipe, with timeout: 30s",
        function=returns,
        consumer=_TO | _MANY | {"timeout": "30s"},
    ),
    Shape(name="context", about="context.publish, 100 at once", function=publishes, consumer=_TO | _MANY),
    Shape(name="generator", about="async generator, 1 output, 100 at once", function=generates, consumer=_TO | _MANY),
    Shape(
        name="pipe-thread", about="def returns, 8 at once", function=plain_returns, consumer=_TO | {"concurrency": 8}
    ),
    Shape(
        name="gen-thread",
        about="plain generator, 8 at once",
        function=generates_in_thread,
        consumer=_TO | {"concurrency": 8},
    ),
)
