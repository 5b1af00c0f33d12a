"""All lifespans of a process: entered before the first message, left after the last, in one task, as task groups and
cancel scopes inside them need it. Which consumer gets which value is the caller's."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from pipeline.errors import LifespanError
from pipeline.handlers.lifespan import open as opened
from pipeline.runtime.prepare import Lifespan


class Lifespans:
    """Lives from `enter` to `leave`."""

    def __init__(self, lifespans: Mapping[str, Lifespan]) -> None:
        self._lifespans = lifespans
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Mapping[str, object]:
        """Their values, by the same keys. Raises `LifespanError`; those entered before are left then. When it is
        cancelled, entering ends, and `leave` waits for those that were entered."""
        entered: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(entered))
        either: set[asyncio.Future[Any]] = {self._task, entered}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not entered.done():
            await self._task
        return entered.result()

    async def leave(self) -> None:
        """Raises `LifespanError` when one of them fails on its way out; the others are left all the same."""
        self._leaving.set()
        if self._task is not None:
            await self._task

    def give_up(self) -> None:
        """Time is up."""
        if self._task is not None:
            self._task.cancel()

    async def _live(self, entered: "asyncio.Future[Mapping[str, object]]") -> None:
        at = "a lifespan"
        try:
            async with AsyncExitStack() as stack:
                values: dict[str, object] = {}
                for key, lifespan in self._lifespans.items():
                    at = f'lifespan "{lifespan.path}"'
                    values[key] = await stack.enter_async_context(opened(lifespan.object))
                entered.set_result(values)
                await self._leaving.wait()  # ends with the run
        except Exception as error:
            when = "at the end" if entered.done() else "at the start"
            raise LifespanError(f"{at} failed {when}: {type(error).__name__}: {error}") from error
