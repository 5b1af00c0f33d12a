"""What is begun at once: it ends at once, or what is left of it goes on in a task, and ends as it would have ended."""

import asyncio

import pytest

from pipeline.runtime.begun import begun
from tests.runtime.stand_ins import some_turns


class Step:
    def __init__(self, turns: int = 0, *, waits: bool = False, fails: bool = False) -> None:
        self.turns, self.waits, self.fails = turns, waits, fails
        self.go = asyncio.Event()
        self.journal: list[str] = []

    async def __call__(self) -> None:
        self.journal.append("begun")
        try:
            for _ in range(self.turns):
                await asyncio.sleep(0)
            if self.waits:
                await self.go.wait()
            if self.fails:
                raise ValueError("no")
            self.journal.append("done")
        except (asyncio.CancelledError, GeneratorExit) as end:
            self.journal.append(type(end).__name__)
            raise


async def test_what_waits_for_nothing_has_ended() -> None:
    step = Step()
    assert begun(step()) is None
    assert step.journal == ["begun", "done"]


async def test_what_fails_before_it_waits_fails_at_once() -> None:
    with pytest.raises(ValueError):
        begun(Step(fails=True)())


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_waits_goes_on_in_a_task(turns: int, fails: bool) -> None:
    step = Step(turns, waits=True, fails=fails)
    rest = begun(step())
    assert rest is not None
    await some_turns()
    assert step.journal == ["begun"]
    step.go.set()
    await asyncio.wait({rest})
    assert isinstance(rest.exception(), ValueError) is fails
    assert step.journal == ["begun", *([] if fails else ["done"])]


async def test_it_hears_of_its_cancellation() -> None:
    step = Step(waits=True)
    rest = begun(step())
    assert rest is not None
    await some_turns()
    rest.cancel()
    await asyncio.wait({rest})
    assert rest.cancelled()
    assert step.journal == ["begun", "CancelledError"]


async def test_cancelled_before_its_first_turn_it_ends_all_the_same() -> None:
    step = Step(waits=True)
    rest = begun(step())
    assert rest is not None
    rest.cancel()
    await asyncio.wait({rest})
    assert rest.cancelled()
    assert step.journal == ["begun", "GeneratorExit"]  # closed, as any coroutine that nobody goes on with
