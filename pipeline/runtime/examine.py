"""Looks at the broker of a file over a connection of its own, and comes back with what it saw. Makes nothing there,
with the one exception that `compare` names. What it means is `drift`'s."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence

from pipeline.amqp.declare import compare
from pipeline.amqp.generation import Generation
from pipeline.amqp.inspect import Depth, Unseen, look, server
from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.config.model import Exchange, Queue, Topology
from pipeline.errors import BrokerError, ConnectionLost, PublishError, Unroutable
from pipeline.message import Message
from pipeline.runtime.drift import Publishing, Seen
from pipeline.runtime.errand import connected
from pipeline.runtime.plan import Plan
from pipeline.runtime.rights import objects

_LOOK_EVERY = 0.02  # seconds
_AN_ANSWER = 3.0  # seconds; on a line that was quick until then, no answer is an answer, too


def examine(plan: Plan, *, comparing: bool, clock: Clock) -> Seen:
    """Raises `BrokerError` where the broker cannot be reached, or goes away in the middle."""
    return asyncio.run(_examine(plan, comparing, clock))


async def _examine(plan: Plan, comparing: bool, clock: Clock) -> Seen:
    publisher = Publisher(clock=clock, emit=lambda _: None)
    async with connected(plan.pipeline, "doctor", clock, publisher) as link:
        if link.generation is None:
            raise BrokerError("lost the connection before anything was asked")
        try:
            return await _seen(plan, link.generation, publisher, comparing, clock)
        except ConnectionLost as error:
            raise BrokerError(f"lost the connection while looking ({error})") from None


async def _seen(plan: Plan, generation: Generation, publisher: Publisher, comparing: bool, clock: Clock) -> Seen:
    wanted = objects(plan)
    exchanges, queues = await look(
        generation,
        exchanges=[each.name for each in wanted if isinstance(each, Exchange)],
        queues=[each.name for each in wanted if isinstance(each, Queue)],
    )
    differences = await compare(generation, _comparable(wanted, exchanges, queues)) if comparing else None
    # Last: once a connection has published, an alarm keeps it from asking anything else.
    publishing = await _try_to_publish(generation, publisher, clock)
    return Seen(
        server=server(generation),
        exchanges=exchanges,
        queues=queues,
        differences=differences,
        publishing=publishing,
    )


def _comparable(
    wanted: Sequence[Exchange | Queue], exchanges: Mapping[str, Unseen | None], queues: Mapping[str, Depth | Unseen]
) -> Topology:
    """What is there: to compare anything else could make it. An exclusive queue is compared by its own connection."""
    return Topology(
        exchanges=tuple(each for each in wanted if isinstance(each, Exchange) and exchanges[each.name] is None),
        queues=tuple(
            each
            for each in wanted
            if isinstance(each, Queue) and isinstance(queues[each.name], Depth) and not each.exclusive
        ),
    )


async def _try_to_publish(generation: Generation, publisher: Publisher, clock: Clock) -> Publishing:
    """A message to a queue of a name that nobody has: the broker returns it, if it takes messages at all."""
    message_id = secrets.token_hex(8)
    # Not empty: under an alarm RabbitMQ stops reading behind the header, and would take a message without a body.
    message = Message(b"?", message_id=message_id)
    outgoing = Outgoing.of(message, exchange="", routing_key=f"piperun.doctor.{message_id}", mandatory=True)
    sending = asyncio.ensure_future(publisher.send(outgoing, timeout=None))
    try:
        async with clock.deadline(_AN_ANSWER):
            while not sending.done() and not generation.blocked:
                await clock.sleep(_LOOK_EVERY)
    except TimeoutError:
        return "unanswered"
    finally:
        sending.cancel()  # no matter where it has got to; done, it stays as it is
        (end,) = await asyncio.gather(sending, return_exceptions=True)
    match end:
        case None | Unroutable():
            return "taken"
        case PublishError():
            return "forbidden"
        case asyncio.CancelledError():
            return "blocked"
        case _:
            raise end
