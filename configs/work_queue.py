"""The tasks of work_queue.yaml, and two consumers that take different times for one."""

import time
from collections.abc import Iterator


def tasks() -> Iterator[str]:
    """A source: each yield is one message."""
    for number in range(1, 13):
        yield f"task {number}"


# Plain functions run in a thread each, so that they may block.
def fast(task: str) -> None:
    time.sleep(0.05)
    print(f" [fast] {task}", flush=True)


def slow(task: str) -> None:
    time.sleep(0.5)
    print(f" [slow] {task}", flush=True)
