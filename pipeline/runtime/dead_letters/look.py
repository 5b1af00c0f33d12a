"""Looking into dead-letter queues without changing them: each message is taken, read, and given back to its place at
the end. How it is shown is not known here."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from pipeline.amqp.hand import Hand, Taken, hand
from pipeline.amqp.inspect import Depth, depth
from pipeline.amqp.link import Generation
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.failure.story import Kind, Story, story
from pipeline.failure.wanted import Wanted
from pipeline.message import Message
from pipeline.runtime.dead_letters.line import connected
from pipeline.runtime.dead_letters.queues import DeadLetterQueue
from pipeline.values import Frozen

MOST_HELD = 2_000  # what a quorum queue hands out unacknowledged at most, and a bound on memory


class Group(Frozen, frozen=True, kw_only=True):
    """Dead letters of one kind. `error` is the text of the first; `oldest` and `newest` are milliseconds since 1970."""

    kind: Kind
    error: str
    count: int
    oldest: int | None
    newest: int | None


class Listed(Frozen, frozen=True, kw_only=True):
    """`depth` is None for a queue that is not there. `looked_into` says how many messages the groups stand for."""

    queue: DeadLetterQueue
    depth: Depth | None
    looked_into: int
    groups: tuple[Group, ...]


class Found(Frozen, frozen=True, kw_only=True):
    """A dead letter, the `number`th from the front of its queue."""

    queue: DeadLetterQueue
    number: int
    message: Message
    story: Story


async def listing(pipeline: Pipeline, queues: Sequence[DeadLetterQueue], sample: int, clock: Clock) -> list[Listed]:
    """Each queue with its depth and what the first `sample` messages tell. A queue that counts looks is only counted.
    Raises `BrokerError`."""
    async with connected(pipeline, "dlq", clock) as generation:
        depths = await depth(generation, [each.name for each in queues])
        return [await _listed(generation, each, depths[each.name], sample) for each in queues]


async def found(
    pipeline: Pipeline, queue: DeadLetterQueue, wanted: Wanted, limit: int, clock: Clock
) -> AsyncGenerator[Found | None, None]:
    """The first `limit` that are wanted, as they are read. None instead of the first where there is no such queue.
    Raises `BrokerError`."""
    async with connected(pipeline, "dlq", clock) as generation:
        there = (await depth(generation, [queue.name]))[queue.name]
        if there is None:
            yield None
            return
        async with hand(generation, queue.name) as one:
            shown = 0
            async with aclosing(taken(one, min(there.ready, MOST_HELD))) as all_of_them:
                async for each in all_of_them:
                    tale = story(each.message.headers)
                    if wanted.matches(each.message, tale):
                        yield Found(queue=queue, number=one.held, message=each.message, story=tale)
                        shown += 1
                    if shown >= limit:
                        return


async def taken(one: Hand, most: int) -> AsyncGenerator[Taken, None]:
    """At most so many, one after the other."""
    for _ in range(most):
        each = await one.take()
        if each is None:
            return  # somebody else takes from this queue, too
        yield each


async def _listed(generation: Generation, queue: DeadLetterQueue, there: Depth | None, sample: int) -> Listed:
    stories: list[Story] = []
    if there is not None and there.ready and sample and not (queue.counts_looks or queue.stream):
        async with hand(generation, queue.name) as one, aclosing(taken(one, min(there.ready, sample))) as all_of_them:
            async for each in all_of_them:
                stories.append(story(each.message.headers))
    return Listed(queue=queue, depth=there, looked_into=len(stories), groups=grouped(stories))


def grouped(stories: Sequence[Story]) -> tuple[Group, ...]:
    """The largest group first; of equal ones the one that came first."""
    kinds: dict[Kind, list[Story]] = {}
    for each in stories:
        kinds.setdefault(each.kind, []).append(each)
    groups = [_group(kind, alike) for kind, alike in kinds.items()]
    return tuple(sorted(groups, key=lambda group: -group.count))


def _group(kind: Kind, alike: Sequence[Story]) -> Group:
    times = [each.last_failure for each in alike if each.last_failure is not None]
    return Group(
        kind=kind,
        error="" if kind.by_broker else alike[0].error,
        count=len(alike),
        oldest=min(times, default=None),
        newest=max(times, default=None),
    )
