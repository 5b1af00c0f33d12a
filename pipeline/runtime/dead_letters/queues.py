"""Which dead-letter queues a file has, and which one somebody means. Pure; what is in them is not known here."""

from collections.abc import Iterator, Sequence

from pipeline.config.model import Pipeline, Queue
from pipeline.errors import UsageError
from pipeline.failure.queues import dead_letter_of
from pipeline.problems import did_you_mean
from pipeline.values import Frozen

# The broker drops a message of a quorum queue that came back more often than this says, from RabbitMQ 4.0 after twenty
# times where nothing is said. With a limit of that size nobody gets there by looking.
_LOOKS_ENOUGH = 1_000


class DeadLetterQueue(Frozen, frozen=True, kw_only=True):
    name: str
    sources: tuple[str, ...]  # the queues whose dead letters come here
    counts_looks: bool  # a quorum queue with a small delivery limit, or none: looking often may cost messages
    stream: bool  # RabbitMQ does not hand out its messages one by one: it can be counted, and no more


def dead_letter_queues(pipeline: Pipeline) -> tuple[DeadLetterQueue, ...]:
    """In the order of their work queues: where piperun copies what failed, and where the broker itself is told to send
    what it gives up."""
    sources: dict[str, list[str]] = {}
    for queue in pipeline.queues:
        for target in dict.fromkeys(_targets(queue, pipeline)):
            sources.setdefault(target, []).append(queue.name)
    declared = {queue.name: queue for queue in pipeline.queues}
    return tuple(_dead_letter_queue(name, come, declared.get(name)) for name, come in sources.items())


def choose(pipeline: Pipeline, asked: str | None) -> tuple[DeadLetterQueue, ...]:
    """All of the file; or those meant by `asked`, which is the name of a dead-letter queue, or the key or name of a
    work queue. Raises `UsageError`."""
    found = dead_letter_queues(pipeline)
    if asked is None:
        if not found:
            raise UsageError(f"{pipeline.path.name} has no dead-letter queue: none of its consumers can fail")
        return found
    named = tuple(each for each in found if each.name == asked)
    if named:
        return named
    work = next((each for each in pipeline.queues if asked in (each.key, each.name)), None)
    if work is None:
        known = dict.fromkeys([each.name for each in found] + [each.key for each in pipeline.queues])
        hint = did_you_mean(asked, known) or f"there are {', '.join(known) or 'none'}"
        raise UsageError(f'{pipeline.path.name} has no queue "{asked}"; {hint}')
    behind = tuple(each for each in found if each.name == work.name or work.name in each.sources)
    if not behind:
        why = "`dead_letter: false`" if work.dead_letter is False else "no consumer of the file can fail on it"
        raise UsageError(f'queue "{asked}" has no dead-letter queue: {why}')
    return behind


def one_of(found: Sequence[DeadLetterQueue]) -> DeadLetterQueue:
    """For what changes a queue: somebody has to say which. Raises `UsageError`."""
    if len(found) > 1:
        raise UsageError(f"there are several dead-letter queues; name one: {', '.join(each.name for each in found)}")
    return without_streams(found)[0]


def without_streams(found: Sequence[DeadLetterQueue]) -> tuple[DeadLetterQueue, ...]:
    """Those whose messages can be taken one by one. Raises `UsageError` where there is none."""
    queues = tuple(each for each in found if not each.stream)
    if not queues:
        names = ", ".join(f'"{each.name}"' for each in found)
        raise UsageError(
            f"{names} is a stream, whose messages RabbitMQ does not hand out one by one: read it by a consumer"
        )
    return queues


def _targets(queue: Queue, pipeline: Pipeline) -> Iterator[str]:
    can_fail = any(each.queue == queue.name and each.ack != "none" for each in pipeline.consumers)
    target = dead_letter_of(queue)
    if target is not None and (can_fail or queue.dead_letter):
        yield target
    exchange, key = (queue.arguments.get(f"x-dead-letter-{what}") for what in ("exchange", "routing-key"))
    if exchange == "" and isinstance(key, str):
        yield key
    elif exchange:
        # Which key leads where is the exchange's to know: every queue that is bound to it can hold dead letters.
        for each in pipeline.queues:
            if any(binding.exchange == exchange for binding in each.bindings):
                yield each.name


def _dead_letter_queue(name: str, sources: Sequence[str], declared: Queue | None) -> DeadLetterQueue:
    return DeadLetterQueue(
        name=name,
        sources=tuple(sources),
        counts_looks=_counts_looks(declared),
        stream=declared is not None and declared.type == "stream",
    )


def _counts_looks(queue: Queue | None) -> bool:
    if queue is None or queue.type != "quorum":
        return False
    limit = queue.arguments.get("x-delivery-limit")
    return not isinstance(limit, int) or limit < _LOOKS_ENOUGH
