"""The connection of a command that looks or sends and then ends: up at once or not at all, through the client alone,
with nothing declared. What is done over it is not known here."""

import asyncio
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.amqp.link import Link, Part
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.events import Event

_GOODBYE = 2.0  # seconds


@asynccontextmanager
async def connected(pipeline: Pipeline, purpose: str, clock: Clock, *parts: Part) -> AsyncIterator[Link]:
    """With `parts` living in it, to the end of the block. Raises `BrokerError`. The fast line is not worth the look
    whether it can be had."""
    link = Link(
        broker=pipeline.broker,
        name=f"piperun {pipeline.name} {purpose} {platform.node()}:{os.getpid()}",
        purpose=purpose,
        clock=clock,
        emit=_unheard,
        declare=None,
        parts=parts,
        plain=True,
    )
    await link.open(wait=False)
    keeping = asyncio.create_task(link.keep()) if parts else None
    try:
        yield link
    finally:
        await link.close(timeout=_GOODBYE)
        if keeping is not None:
            await keeping


def _unheard(_: Event) -> None:
    """What is wrong with the line is told at the end, by who has the errand."""
