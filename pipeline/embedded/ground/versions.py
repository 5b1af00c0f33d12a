"""In what the versions of RabbitMQ differ that the broker in the box can behave like: one flag each, named for what
it means. Who obeys it asks `Behaviour`; nobody else compares version numbers."""

from dataclasses import dataclass

from pipeline.embedded.declarations import queue_arguments
from pipeline.embedded.declarations.queue_arguments import QueueArguments


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How a version of RabbitMQ behaves."""

    version: str
    full_version: str  # told to clients in the server's properties
    best_protocol_header: bytes  # in answer to a wrong one
    smallest_frame_max: int  # octets; also what is taken before it is negotiated
    queue_arguments: QueueArguments
    transient_queues: bool  # neither durable nor exclusive
    master_locator: bool  # x-queue-master-locator is taken
    body_max: int  # octets of the largest message (max_message_size)
    exchange_types: tuple[str, ...]
    unknown_exchange_type_code: int  # and with it, what is closed
    moments_are_milliseconds: bool  # of a message, to a headers exchange; those of its bindings are seconds
    numbers_alike: bool  # a headers exchange takes 1 and 1.0 for the same
    any_delivery_mode: bool  # not only 1 and 2
    global_qos: bool  # basic.qos with `global` is for the whole channel, not for each consumer to come
    expiration_is_number: bool  # `060000` is delivered as `60000`
    body_excess_told: bool  # a body frame that is longer than what is still to come is an error of its own
    user_id_last: bool  # of the checks of a message; before, it came first
    reply_queues: bool  # a name of direct reply-to is a queue: routable, counted in delivery tags, not bindable
    transaction_max: int | None  # publishes before tx.commit
    transactions_keep_names: bool  # queues are looked up when it is committed, not when it was published
    deaths_apart: bool  # x-death, keys and counts of a dead letter stand beside its headers: nobody can forge them
    cancel_runs_queue: bool  # the next single active consumer gets messages as soon as the active one is cancelled
    queues_have_patience: bool  # quorum queues alone, with a cancel; before, any channel ended with a refusal
    usual_delivery_limit: int | None  # of quorum queues that are declared without one
    counts_failures_only: bool  # basic.nack counts not towards the delivery limit, and -1 is no limit
    requeues_at_end: bool  # a quorum queue without delivery limit puts what is handed back behind all others
    quorum_priorities: bool  # 32 strict levels of messages; single active consumers yield to a higher priority
    quorum_weighs_properties: bool  # x-max-length-bytes of quorum queues counts the properties, too
    quorum_in_text: str  # how the type of a queue is called in a refusal of basic.get
    purges_forwarded: bool  # queue.purge takes away dead letters that wait for being forwarded


_EXCHANGE_TYPES = ("direct", "fanout", "topic", "headers")
_BEHAVIOURS = {
    "3.10": Behaviour(
        version="3.10",
        full_version="3.10.8",
        best_protocol_header=b"AMQP\x00\x00\x09\x01",
        smallest_frame_max=4096,
        queue_arguments=queue_arguments.OF_3_10,
        transient_queues=True,
        master_locator=True,
        body_max=128 * 1024 * 1024,
        exchange_types=_EXCHANGE_TYPES,
        unknown_exchange_type_code=503,
        moments_are_milliseconds=False,
        numbers_alike=True,
        any_delivery_mode=False,
        global_qos=True,
        expiration_is_number=False,
        body_excess_told=False,
        user_id_last=False,
        reply_queues=False,
        transaction_max=None,
        transactions_keep_names=True,
        deaths_apart=False,
        cancel_runs_queue=False,
        queues_have_patience=False,
        usual_delivery_limit=None,
        counts_failures_only=False,
        requeues_at_end=True,
        quorum_priorities=False,
        quorum_weighs_properties=False,
        quorum_in_text="quorum",
        purges_forwarded=False,
    ),
    "4.3": Behaviour(
        version="4.3",
        full_version="4.3.6",
        best_protocol_header=b"AMQP\x03\x01\x00\x00",  # of AMQP 1.0, which it speaks as well
        smallest_frame_max=8192,
        queue_arguments=queue_arguments.OF_4_3,
        transient_queues=False,
        master_locator=False,
        body_max=16 * 1024 * 1024,
        exchange_types=(*_EXCHANGE_TYPES, "x-local-random", "x-modulus-hash"),
        unknown_exchange_type_code=406,
        moments_are_milliseconds=True,
        numbers_alike=False,
        any_delivery_mode=True,
        global_qos=False,
        expiration_is_number=True,
        body_excess_told=True,
        user_id_last=True,
        reply_queues=True,
        transaction_max=10_000,
        transactions_keep_names=False,
        deaths_apart=True,
        cancel_runs_queue=True,
        queues_have_patience=True,
        usual_delivery_limit=20,
        counts_failures_only=True,
        requeues_at_end=False,
        quorum_priorities=True,
        quorum_weighs_properties=True,
        quorum_in_text='<<"quorum">>',
        purges_forwarded=True,
    ),
}
VERSIONS = tuple(_BEHAVIOURS)
NEWEST = VERSIONS[-1]


def behaviour_of(version: str) -> Behaviour:
    """Raises ValueError for a version that is not in `VERSIONS`."""
    try:
        return _BEHAVIOURS[version]
    except KeyError:
        known = " or ".join(VERSIONS)
        raise ValueError(f"the embedded broker behaves like RabbitMQ {known}, not like {version!r}") from None
