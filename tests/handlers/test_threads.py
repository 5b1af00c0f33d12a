"""Threads for plain functions: bounded, reused, and never waited for by the process."""

import asyncio
import subprocess
import sys
import threading
from functools import partial

import pytest

from pipeline.handlers.threads import NotStarted, Threads
from tests.waiting import deadline, eventually

SECONDS = deadline(10)


async def test_threads_are_made_when_needed_and_used_again() -> None:
    threads = Threads("work", 3)
    names = [await threads.run(lambda: threading.current_thread().name) for _ in range(5)]
    assert set(names) == {"work-1"}
    together = threading.Barrier(3)
    await asyncio.gather(*(threads.run(lambda: together.wait(SECONDS)) for _ in range(3)))
    assert threads.busy() == []


async def test_no_more_than_size_run_at_a_time_and_the_others_wait_their_turn() -> None:
    threads = Threads("work", 2)
    go = threading.Event()
    begun: list[int] = []

    def hold(number: int) -> int:
        begun.append(number)
        go.wait(SECONDS)
        return number

    running = [asyncio.create_task(threads.run(partial(hold, number))) for number in range(5)]
    await eventually(lambda: len(begun) == 2)
    assert threads.busy() == ["work-1", "work-2"]
    go.set()
    assert await asyncio.gather(*running) == [0, 1, 2, 3, 4]
    assert sorted(begun) == [0, 1, 2, 3, 4]


async def test_a_thread_that_hangs_keeps_its_place() -> None:
    # Given one thread, and a call in it that was given up
    threads = Threads("work", 1)
    go, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go.wait(SECONDS)

    hanging = asyncio.create_task(threads.run(hang))
    await eventually(begun.is_set)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert threads.busy() == ["work-1"]
    # When others come, one of whom gives up
    patient = asyncio.create_task(threads.run(lambda: "done"))
    impatient = asyncio.create_task(threads.run(lambda: "never"))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(NotStarted):
        await impatient
    assert not patient.done()
    # Then the patient one runs when the first has ended
    go.set()
    assert await patient == "done"
    assert threads.busy() == []


async def test_a_thread_that_came_too_late_is_handed_on() -> None:
    threads = Threads("work", 1)
    async with threads.one():
        late = asyncio.create_task(threads.run(lambda: "late"))
        await asyncio.sleep(0)
    # When the next user is cancelled in the moment in which the thread was handed on
    late.cancel()
    with pytest.raises(NotStarted):
        await late
    assert await threads.run(lambda: "after") == "after"


async def test_what_a_call_raises_comes_out() -> None:
    threads = Threads("work", 1)

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await threads.run(leave)
    assert await threads.run(lambda: 1) == 1


async def test_closing_ends_the_threads() -> None:
    threads = Threads("closing", 1)
    await threads.run(lambda: None)
    threads.close()
    await eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("closing-")])


PROGRAM = """
import asyncio, threading
from pipeline.handlers.threads import Threads

async def main():
    threads = Threads("work", 1)
    begun = threading.Event()
    def hang():
        begun.set()
        threading.Event().wait()
    running = asyncio.create_task(threads.run(hang))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    print("left behind:", *threads.busy(), flush=True)

asyncio.run(main())
print("leaving", flush=True)
"""

TOO_LATE = """
import asyncio, threading
from pipeline.handlers.threads import Threads

go = threading.Event()

async def main():
    threads = Threads("work", 1)
    running = asyncio.create_task(threads.run(lambda: go.wait(60)))
    while not threads.busy():
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

asyncio.run(main())
go.set()
for each in threading.enumerate():
    if each.name == "work-1":
        each.join(60)
print("leaving", flush=True)
"""


@pytest.mark.parametrize(
    ("program", "told"), [(PROGRAM, "left behind: work-1\nleaving\n"), (TOO_LATE, "leaving\n")], ids=["hangs", "late"]
)
def test_a_process_leaves_without_its_threads(program: str, told: str) -> None:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=deadline(30))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")
