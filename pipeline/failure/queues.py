"""Which queues a file needs for what fails, beside those it declares: dead-letter queues and wait queues, as model
objects. A connection is not known here. The order in which they are declared is `runtime.plan`'s."""

from pipeline.config.model import Arguments, Consumer, Declare, Pipeline, Queue, QueueType, wait_queue

# As the work queue's own: above the broker's default of 20, because before 4.3 every return counts.
_FUSE = 50


def dead_letter_of(queue: Queue) -> str | None:
    """The queue that failed messages of `queue` are copied to; None where the file says that they are dropped."""
    if queue.dead_letter is False:
        return None
    return queue.dead_letter or f"{queue.name}.dlq"


def dead_letter_queues(pipeline: Pipeline) -> tuple[Queue, ...]:
    """The dead-letter queues that the file needs and does not declare itself: `<queue>.dlq`, or the one that
    `dead_letter` names, of each queue with a consumer that can fail."""
    declared = {queue.name for queue in pipeline.queues}
    consumed = {consumer.queue for consumer in pipeline.consumers if consumer.ack != "none"}
    needed: dict[str, Queue] = {}
    for queue in pipeline.queues:
        target = dead_letter_of(queue)
        if target is None or target in declared:
            continue
        if queue.name in consumed or queue.dead_letter:
            needed.setdefault(target, _dead_letter_queue(target, pipeline.declare))
    return tuple(needed.values())


def wait_queues_of(consumer: Consumer) -> tuple[str, ...]:
    """The queues in which messages of this consumer wait to be handled again, one for each delay."""
    if consumer.retry is None or consumer.retry.strategy != "broker":
        return ()
    return tuple(wait_queue(consumer.queue, delay) for delay in dict.fromkeys(consumer.retry.delays))


def wait_queues(pipeline: Pipeline) -> tuple[Queue, ...]:
    """The wait queues of all consumers of the file."""
    types = {queue.name: queue.type for queue in pipeline.queues}
    needed: dict[str, Queue] = {}
    for consumer in pipeline.consumers:
        retry = consumer.retry
        for delay in retry.delays if retry is not None and retry.strategy == "broker" else ():
            name = wait_queue(consumer.queue, delay)
            arguments = _waiting(consumer.queue, types[consumer.queue] == "quorum", delay)
            needed.setdefault(name, _made(name, types[consumer.queue], arguments, pipeline.declare))
    return tuple(needed.values())


def _waiting(queue: str, quorum: bool, delay: float) -> Arguments:
    # One queue for each delay, since RabbitMQ expires at the head only: a message that waits 10 minutes would hold up
    # all behind it that wait 5 seconds. Back by name through the default exchange: the exchange that it first came
    # through would deliver it to every other queue again. No x-expires: an expired queue dead-letters nothing.
    arguments: Arguments = {
        "x-queue-type": "quorum" if quorum else "classic",  # what is replicated must not wait on one copy
        "x-message-ttl": round(delay * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }
    if not quorum:
        return arguments
    return {
        **arguments,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # at-least-once needs it
        "x-delivery-limit": _FUSE,
    }


def _dead_letter_queue(name: str, declare: Declare) -> Queue:
    # Classic: looking into a quorum queue counts as a return, and after twenty looks RabbitMQ may drop the message.
    # No TTL, no limit, no dead-letter queue of its own: what ends here waits for a person.
    return _made(name, "classic", {"x-queue-type": "classic"}, declare)


def _made(name: str, kind: QueueType, arguments: Arguments, declare: Declare) -> Queue:
    return Queue(
        key=name,
        name=name,
        type=kind,
        durable=True,
        exclusive=False,
        auto_delete=False,
        arguments=arguments,
        bindings=(),
        dead_letter=False,
        declare=declare,
    )
