"""Which dead-letter queues a file needs beside what it declares, as model objects. A connection is not known here.
The order in which they are declared is `runtime.plan`'s."""

from pipeline.config.model import Declare, Pipeline, Queue


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


def _dead_letter_queue(name: str, declare: Declare) -> Queue:
    # Classic: looking into a quorum queue counts as a return, and after twenty looks RabbitMQ may drop the message.
    # No TTL, no limit, no dead-letter queue of its own: what ends here waits for a person.
    return Queue(
        key=name,
        name=name,
        type="classic",
        durable=True,
        exclusive=False,
        auto_delete=False,
        arguments={"x-queue-type": "classic"},
        bindings=(),
        dead_letter=False,
        declare=declare,
    )
