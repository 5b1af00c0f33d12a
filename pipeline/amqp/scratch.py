"""A channel to ask questions on, thrown away afterwards: a refusal closes the channel that it was asked on, and costs
nothing but itself here. What is asked is not known here."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TypeVar

from aiormq.abc import AbstractChannel as ClientChannel

from pipeline.amqp.faults import Refused, answered_within
from pipeline.amqp.generation import Generation
from pipeline.errors import ConnectionLost

T = TypeVar("T")


class Scratch:
    """`async with Scratch(generation) as scratch`. One channel serves until a refusal closes it, for the client keeps
    two small things of each channel until its connection ends."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._channel: ClientChannel | None = None

    async def __aenter__(self) -> "Scratch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is None or kind is not None:
            return  # the line is down, or somebody is in a hurry: the channel ends with its connection
        try:
            async with answered_within(self._generation.patience, "the closing of a channel"):
                await self._channel.close()
        except (Refused, ConnectionLost):
            pass  # closed is closed

    @property
    def fatal(self) -> dict[tuple[str, str], str]:
        return self._generation.fatal

    @asynccontextmanager
    async def apart(self) -> AsyncIterator["Scratch"]:
        """One on a connection of its own. Raises `BrokerError`."""
        async with self._generation.apart() as generation, Scratch(generation) as scratch:
            yield scratch

    async def refusal(self) -> str | None:
        """Asked after `ConnectionLost`: the broker's words, where it has ended the connection over a question."""
        return self._generation.refusal if await self._generation.is_over() else None

    async def ask(self, what: str, question: Callable[[ClientChannel], Awaitable[T]]) -> T:
        """The broker's answer. Raises `Refused` with its words, `ConnectionLost` when none came, and `ValueError` for
        what the client cannot write."""
        channel = self._channel
        if channel is None or channel.is_closed:
            opened = await self._generation.channel()
            channel = self._channel = await opened.get_underlay_channel()
        try:
            async with answered_within(self._generation.patience, what):
                return await question(channel)
        except Refused:
            self._channel = None
            raise
        except (TypeError, OverflowError, struct.error) as error:
            raise ValueError(str(error)) from error
