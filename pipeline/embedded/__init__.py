"""RabbitMQ in a box: a small AMQP 0-9-1 server in memory, on loopback, on a thread of its own. Clients connect to
its URL as to any other broker. Behaviour and wording follow RabbitMQ 3.10; what is missing is in `NOT_DONE`."""

from pipeline.embedded.broker import ConnectionSeen, EmbeddedBroker

__all__ = ["NOT_DONE", "ConnectionSeen", "EmbeddedBroker"]

NOT_DONE = (
    "message TTL, queue TTL and expires: the arguments and `expiration` are checked and kept, nothing expires",
    "x-max-length, x-max-length-bytes and x-overflow: checked and kept, no queue is ever full",
    "x-max-priority and consumer priorities: messages keep their order, consumers take turns",
    "x-single-active-consumer: all consumers of the queue are active",
    "alternate-exchange: checked and kept, unroutable messages do not go there",
    "CC and BCC headers, direct reply-to",
    "transactions: tx.select is refused with 540",
    "streams: refused with 540",
    "x-dead-letter-strategy: dead-lettering is always at most once (in memory, where nothing is lost on the way)",
    "quorum queues: one replica, and a message that is put back stands at its old place, not before all others",
    "names, binding keys and consumer tags that are not UTF-8: refused with 501 (routing keys and headers may be)",
    "durability: everything is in memory and gone with the process",
    "TLS, policies, permissions beyond the login, clusters, plugins, the management API",
)
