"""Throw dead letters away: all that are in a queue, or those that are wanted gone. Who was asked whether that is meant
is not known here."""

from contextlib import aclosing

from pipeline.amqp.hand import hand
from pipeline.amqp.inspect import depth
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.errors import ChannelGone, ConnectionLost
from pipeline.failure.story import story
from pipeline.failure.wanted import Wanted
from pipeline.runtime.dead_letters.line import connected
from pipeline.runtime.dead_letters.look import MOST_HELD, taken
from pipeline.values import Frozen


class Purged(Frozen, frozen=True, kw_only=True):
    thrown_away: int
    stay: int  # of those that were looked at
    unseen: bool  # whether some were not looked at, because too many stay in front of them


async def ready(pipeline: Pipeline, queue: str, clock: Clock) -> int | None:
    """How many messages there are to throw away; None: there is no such queue. Raises `BrokerError`."""
    async with connected(pipeline, "dlq", clock) as generation:
        there = (await depth(generation, [queue]))[queue]
        return None if there is None else there.ready


async def purge(pipeline: Pipeline, queue: str, wanted: Wanted, most: int, clock: Clock) -> Purged:
    """At most as many as `most`, which somebody was asked about. Without conditions all that is there. Raises
    `BrokerError`."""
    async with connected(pipeline, "dlq purge", clock) as generation, hand(generation, queue) as one:
        if wanted.everything:
            return Purged(thrown_away=await one.purge(), stay=0, unseen=False)
        gone = seen = 0
        async with aclosing(taken(one, most)) as all_of_them:
            async for each in all_of_them:
                seen += 1
                if wanted.matches(each.message, story(each.message.headers)):
                    try:
                        await each.ack()
                    except ChannelGone as error:
                        raise ConnectionLost(str(error)) from None
                    gone += 1
                if one.held >= MOST_HELD:
                    break
        return Purged(thrown_away=gone, stay=one.held, unseen=seen < most and one.held >= MOST_HELD)
