"""RabbitMQ in a box: a small AMQP 0-9-1 server in memory, on loopback, on a thread of its own. Clients connect to
its URL as to any other broker. Behaviour and wording are those of RabbitMQ 3.10 or 4.3; what is missing is in
`NOT_DONE`."""

from pipeline.embedded.broker import EmbeddedBroker
from pipeline.embedded.controls import ConnectionSeen
from pipeline.embedded.ground.event_log import EventLog
from pipeline.embedded.ground.journal import Event

__all__ = ["NOT_DONE", "ConnectionSeen", "EmbeddedBroker", "Event", "EventLog"]

NOT_DONE = (
    "streams: refused with 540",
    "quorum queues: one replica, which no other node takes over",
    "direct reply-to: a client that leaves 8 MiB unread loses the answers that are too many",
    "x-modulus-hash: one key always leads to one queue, but not to the one that RabbitMQ would choose",
    "durability: everything is in memory and gone with the process",
    "TLS, policies, permissions beyond the login, clusters, plugins, the management API",
)
