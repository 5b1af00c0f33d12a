"""What is measured: each shape is one way of using a broker. Says what is published, where it goes and how it is
settled; how that becomes octets is `wire`'s, how they are sent and counted `load`'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

PREFETCH = 100
WINDOW = 100  # unconfirmed messages at most, where there are confirms


class Settle(Enum):
    EACH = auto()
    GATHERED = auto()  # one ack with `multiple` for all that came in one read
    NOT = auto()  # no_ack: settled with the delivery


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One message, its body left out. All letters of a shape have the same length on the wire."""

    routing_key: str
    properties: Mapping[str, Any] = field(default_factory=dict)  # by the names of `pamqp`


@dataclass(frozen=True, kw_only=True)
class Shape:
    """`publishes` without `consumes` fills a queue; `consumes` without `publishes` empties one that was filled before
    the clock started; both at once is the full path."""

    name: str
    about: str
    publishes: bool = True
    consumes: bool = True
    body: int = 100
    queues: tuple[str, ...] = ("bench.0",)
    arguments: Mapping[str, int | str] = field(default_factory=dict)
    exchange: str = ""
    binding_keys: tuple[str, ...] = ()  # each binds each queue
    letters: tuple[Letter, ...] = (Letter(routing_key="bench.0"),)  # published in turn
    confirms: bool = False
    settle: Settle = Settle.EACH


_KIB_4 = 4096
_QUORUM = {"x-queue-type": "quorum"}
_TYPICAL = {
    "content_type": "application/json",
    "delivery_mode": 2,
    "message_id": "0f8fad5bd9cb469fa16570867728950e",
    "headers": {"x-attempt": 1, "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
}

SHAPES = (
    Shape(name="publish", about="publish only, to the default exchange", consumes=False),
    Shape(name="publish-confirmed", about="publish with confirms", consumes=False, confirms=True),
    Shape(name="publish-4k", about="publish, 4 KiB", consumes=False, body=_KIB_4),
    Shape(name="publish-quorum", about="publish to a quorum queue", consumes=False, arguments=_QUORUM),
    Shape(name="deliver", about="empty a full queue, an ack each", publishes=False),
    Shape(
        name="deliver-gathered", about="deliver, acks gathered by `multiple`", publishes=False, settle=Settle.GATHERED
    ),
    Shape(name="deliver-no-ack", about="deliver without acks", publishes=False, settle=Settle.NOT),
    Shape(name="deliver-4k", about="deliver, 4 KiB", publishes=False, body=_KIB_4),
    Shape(name="deliver-quorum", about="deliver from a quorum queue", publishes=False, arguments=_QUORUM),
    Shape(name="full", about="publish, route, deliver and ack each, all at once"),
    Shape(name="full-confirmed", about="full with confirms", confirms=True),
    Shape(name="full-gathered", about="full, acks gathered by `multiple`", settle=Settle.GATHERED),
    Shape(name="full-no-ack", about="full without acks", settle=Settle.NOT),
    Shape(
        name="full-direct",
        about="full through a direct exchange",
        exchange="amq.direct",
        binding_keys=("bench",),
        letters=(Letter(routing_key="bench"),),
    ),
    Shape(
        name="full-topic-100",
        about="full through a topic exchange with 100 bindings",
        exchange="amq.topic",
        binding_keys=tuple(f"*.{number:02}.#" for number in range(100)),
        letters=tuple(Letter(routing_key=f"bench.{number:02}.made") for number in range(100)),
    ),
    Shape(
        name="full-fanout-3",
        about="full through a fanout exchange to 3 queues",
        exchange="amq.fanout",
        queues=("bench.0", "bench.1", "bench.2"),
        binding_keys=("",),
        letters=(Letter(routing_key=""),),
    ),
    Shape(
        name="full-headers",
        about="full with three properties and two headers",
        letters=(Letter(routing_key="bench.0", properties=_TYPICAL),),
    ),
    Shape(name="full-4k", about="full, 4 KiB", body=_KIB_4),
    Shape(name="full-quorum", about="full, quorum queue", arguments=_QUORUM),
    Shape(name="full-quorum-4k", about="full, quorum queue, 4 KiB", arguments=_QUORUM, body=_KIB_4),
    Shape(
        name="full-priority",
        about="full, ten priorities in turn",
        arguments={"x-max-priority": 9},
        letters=tuple(Letter(routing_key="bench.0", properties={"priority": priority}) for priority in range(10)),
    ),
    Shape(name="full-ttl", about="full, x-message-ttl on the queue", arguments={"x-message-ttl": 600_000}),
    Shape(
        name="full-expiration",
        about="full, an expiration on each message",
        letters=(Letter(routing_key="bench.0", properties={"expiration": "600000"}),),
    ),
)
