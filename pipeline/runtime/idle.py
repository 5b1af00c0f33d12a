"""When a pipeline with `until: idle` has nothing left to do. Two looks a second apart must find the same: what was in
flight between two queues at the first look has shown itself by the second."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pipeline.amqp.inspect import depth
from pipeline.amqp.link import Link
from pipeline.clock import Clock
from pipeline.errors import ConnectionLost
from pipeline.runtime.plan import ConsumerPlan, Plan
from pipeline.runtime.table import Phase, Row

LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look has seen. `waiting` is None when the broker was not asked, or gave no answer."""

    delivered: int
    waiting: int | None


async def until_idle(rows: Sequence[Row], waiting: Sequence[Callable[[], Awaitable[int | None]]], clock: Clock) -> None:
    """Returns when all sources are done, nothing is outstanding or in hand, and no queue that is consumed has a ready
    message, seen twice with no delivery in between. Dead-letter queues do not count."""
    before: Look | None = None
    while True:
        now = await _look(rows, waiting)
        if now.waiting == 0 and now == before:
            return
        before = now
        await clock.sleep(LOOK_EVERY)


async def waiting(plan: Plan, link_of: Callable[[ConsumerPlan], Link]) -> int | None:
    """How many messages are ready in the queues that this file consumes; None when the broker cannot be asked. Each is
    asked for on the connection that consumes it, since nobody else can see an exclusive queue."""
    links = {each.queue.name: link_of(each) for each in plan.consumers}
    count = 0
    for name, link in links.items():
        if link.generation is None:
            return None
        try:
            found = (await depth(link.generation, [name]))[name]
        except ConnectionLost:
            return None
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
