"""The connections of a command that works with dead letters: one each, not made again when it is lost, since the broker
then gives back by itself what was in hand. What is done over them is not known here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.amqp.generation import Generation
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.errors import BrokerError, ConnectionLost
from pipeline.runtime.errand import connected as link_of


@asynccontextmanager
async def connected(pipeline: Pipeline, purpose: str, clock: Clock) -> AsyncIterator[Generation]:
    """Nothing is declared. Raises `BrokerError`, also when the connection is lost on the way."""
    async with link_of(pipeline, purpose, clock) as link:
        generation = link.generation
        if generation is None:
            raise BrokerError("lost the connection before it was ready")
        try:
            yield generation
        except ConnectionLost as error:
            raise BrokerError(f"lost the connection ({error}); what was in hand is in its queue again") from None
