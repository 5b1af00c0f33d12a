"""Begin something at once, in this task, and let only what must wait for something go on in a task of its own. What is
begun, and who waits for its end, is not known here."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


def begun(step: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """The task in which the rest of it runs; None when it came to its end without waiting. Raises what it raises until
    then. The plain form, a task from the beginning, costs several turns of the loop for what is done in none.

    Only for steps that ask neither for the current task nor for a deadline before they wait for the first time: these
    would get the caller's."""
    try:
        waits_for = step.send(None)
    except StopIteration:
        return None
    rest = asyncio.create_task(_rest(step, waits_for))
    rest.add_done_callback(lambda _: step.close())  # for one that is cancelled before its first turn
    return rest


async def _rest(step: Coroutine[Any, Any, None], waits_for: object) -> None:
    await _going_on(step, waits_for)


@types.coroutine
def _going_on(step: Coroutine[Any, Any, None], waits_for: object) -> Generator[object, Any, None]:
    """`yield from`, for a coroutine that has told already what it waits for first."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = step.throw(error)
            else:
                waits_for = step.send(sent)
    except StopIteration:
        return
