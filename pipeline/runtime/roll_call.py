"""Whether the consumers of a file are registered: those that believe it are looked for in the client every five
seconds, and every minute in the broker's own count. Who is missing is started again; why it went missing is not known
here."""

from collections.abc import Sequence

from pipeline.amqp.consume import Subscription
from pipeline.amqp.generation import Generation
from pipeline.amqp.inspect import Depth, depth_of
from pipeline.amqp.link import Link
from pipeline.amqp.scratch import Scratch
from pipeline.clock import Clock
from pipeline.errors import ConnectionLost
from pipeline.runtime.plan import ConsumerPlan

LOOK_EVERY = 5.0  # seconds
COUNT_AFTER = 12  # looks: a minute
_NOT_FOUND = 404  # AMQP 0-9-1, 1.2

Present = tuple[ConsumerPlan, Subscription, Link]


class RollCall:
    """The consumers of one file, each with the link that it lives in."""

    def __init__(self, consumers: Sequence[Present], *, clock: Clock) -> None:
        self._consumers = consumers
        self._clock = clock
        self._asking: dict[Link, tuple[Generation, Scratch]] = {}
        self._short: dict[str, frozenset[str]] = {}  # by queue, who was there when the broker counted too few

    async def keep(self) -> None:
        """Until it is cancelled."""
        looks = 0
        while True:
            await self._clock.sleep(LOOK_EVERY)
            self.look()
            looks += 1
            if looks % COUNT_AFTER == 0:
                await self.count()

    def look(self) -> None:
        """Compare with the client of this process."""
        for _, subscription, _ in self._consumers:
            if (reason := subscription.missing()) is not None:
                subscription.begin_again(reason)

    async def count(self) -> None:
        """Compare with the broker. It counts consumers of other processes too, so it can show that one of ours is
        missing, and not that all are there. Twice in a row: while a quorum queue is without its leader, none is
        counted, and to cancel and consume would only disturb it."""
        short, self._short = self._short, {}
        for queue, ours in self._registered().items():
            plan, _, link = ours[0]
            try:
                counted = await self._counted(link, queue)
            except ConnectionLost:
                continue
            if counted is None or counted >= _expected(plan, len(ours)):
                continue
            tags = frozenset(str(subscription.tag) for _, subscription, _ in ours)
            if short.get(queue) != tags:
                self._short[queue] = tags
                continue
            for _, subscription, _ in ours:
                few = f"{counted} consumer{'' if counted == 1 else 's'}"
                subscription.begin_again(f"the broker counts {few} of its queue, and {len(ours)} should be from here")

    def _registered(self) -> dict[str, list[Present]]:
        found: dict[str, list[Present]] = {}
        for each in self._consumers:
            plan, subscription, _ = each
            if subscription.tag is not None:
                found.setdefault(plan.queue.name, []).append(each)
        return found

    async def _counted(self, link: Link, queue: str) -> int | None:
        """None where that is not known. The connection that consumes is asked, since nobody else sees an exclusive
        queue, and on one channel as long as it lasts, since the client keeps something of each."""
        generation = link.generation
        if generation is None:
            return None
        asked, scratch = self._asking.get(link, (None, None))
        if asked is not generation or scratch is None:
            scratch = Scratch(generation)
            self._asking[link] = (generation, scratch)
        found = await depth_of(scratch, queue)
        if isinstance(found, Depth):
            return found.consumers
        return 0 if found.code == _NOT_FOUND else None


def _expected(plan: ConsumerPlan, ours: int) -> int:
    """Of a queue with a single active consumer a quorum queue counts that one; and whether a queue that somebody else
    declares is one, cannot be known."""
    single = plan.queue.arguments.get("x-single-active-consumer") is True or plan.queue.declare != "assert"
    return min(ours, 1) if single else ours
