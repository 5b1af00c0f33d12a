"""The connections of a command that works with dead letters: one each, not made again when it is lost, since the broker
then gives back by itself what was in hand. What is done over them is not known here."""

import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.amqp.link import Generation, Link
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.errors import BrokerError, ConnectionLost

_GOODBYE = 2.0  # seconds


@asynccontextmanager
async def connected(pipeline: Pipeline, purpose: str, clock: Clock) -> AsyncIterator[Generation]:
    """Nothing is declared. Raises `BrokerError`, also when the connection is lost on the way."""
    link = Link(
        broker=pipeline.broker,
        name=f"piperun {pipeline.name} {purpose} {platform.node()}:{os.getpid()}",
        purpose=purpose,
        clock=clock,
        emit=lambda _: None,
        declare=None,
        parts=[],
        plain=True,
    )
    await link.open(wait=False)
    try:
        generation = link.generation
        if generation is None:
            raise BrokerError("lost the connection before it was ready")
        yield generation
    except ConnectionLost as error:
        raise BrokerError(f"lost the connection ({error}); what was in hand is in its queue again") from None
    finally:
        await link.close(timeout=_GOODBYE)
