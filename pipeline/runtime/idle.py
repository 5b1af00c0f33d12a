"""When a pipeline with `until: idle` has nothing left to do. Two looks a second apart must find the same: what was in
flight between two queues at the first look has shown itself by the second."""

import math
from collections.abc import Awaitable, Callable, Sequence

from pipeline.amqp.inspect import depth
from pipeline.amqp.link import Link
from pipeline.clock import Clock
from pipeline.errors import ConnectionLost
from pipeline.runtime.plan import ConsumerPlan, Plan
from pipeline.runtime.table import Phase, Row
from pipeline.values import Frozen

LOOK_EVERY = 1.0  # seconds


class Look(Frozen, frozen=True, kw_only=True):
    """What one look has seen. `waiting` is None when the broker was not asked, or gave no answer."""

    delivered: int
    waiting: int | None


async def until_idle(
    rows: Sequence[Row],
    waiting: Sequence[Callable[[], Awaitable[int | None]]],
    clock: Clock,
    *,
    unseen: float = 0.0,
) -> None:
    """Returns when all sources are done, nothing is outstanding or in hand, and no queue that is consumed has a ready
    message, seen twice with no delivery in between. Dead-letter queues do not count.

    `unseen`: so many seconds after the last attempt that failed a message may still wait where no look finds it."""
    before: Look | None = None
    retried, since = 0, -math.inf
    while True:
        now = await _look(rows, waiting)
        count = sum(row.retried for row in rows)
        if count != retried:
            retried, since = count, clock.now()
        if now.waiting == 0 and now == before and clock.now() - since >= unseen:
            return
        before = now
        await clock.sleep(LOOK_EVERY)


def unseen(plans: Sequence[Plan]) -> float:
    """RabbitMQ does not count as ready what it delays in a queue itself. (What somebody else, or a run before this one,
    has made wait there is seen by nobody.)"""
    retries = [each.consumer.retry for plan in plans for each in plan.consumers]
    native = [retry.delays[-1] for retry in retries if retry is not None and retry.strategy == "native"]
    return max(native) + LOOK_EVERY if native else 0.0


async def waiting(plan: Plan, link_of: Callable[[ConsumerPlan], Link]) -> int | None:
    """How many messages are ready in the queues that this file consumes, or wait to come back to them; None when the
    broker cannot be asked. Each is asked for on the connection that consumes it, since nobody else can see an exclusive
    queue."""
    links = {each.queue.name: link_of(each) for each in plan.consumers}
    links |= {name: link_of(each) for each in plan.consumers for name in each.wait_queues}
    wait_queues = {name for each in plan.consumers for name in each.wait_queues}
    count = 0
    for name, link in links.items():
        if link.generation is None:
            return None
        try:
            found = (await depth(link.generation, [name]))[name]
        except ConnectionLost:
            return None
        if found is None and name in wait_queues:
            continue  # somebody deleted it; the next message that has to wait makes it again
        if found is None:
            return None
        count += found.ready
    return count


async def _look(rows: Sequence[Row], waiting: Sequence[Callable[[], Awaitable[int | None]]]) -> Look:
    delivered = sum(row.delivered for row in rows)
    if any(row.phase is Phase.STARTING or row.sources_left or row.pending or row.in_hand for row in rows):
        return Look(delivered=delivered, waiting=None)  # the broker is asked only when it matters
    counts = [await count() for count in waiting]
    known = [count for count in counts if count is not None]
    return Look(delivered=delivered, waiting=sum(known) if len(known) == len(counts) else None)
