"""What a user of piperun writes: handlers and a source. This file is copied beside the YAML file that names them; that
they also count, and stop the command after the last message, is all that they do for the benchmark."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.speed.computing import compute
from benchmarks.speed.stopwatch import Stopwatch
from benchmarks.speed.task import Task

task = Task.from_environment()
watch = Stopwatch(task)


async def handle(body: bytes) -> None:
    if watch.tick_with(body):
        stop()


async def forward(body: bytes) -> bytes:
    if watch.tick():
        stop()
    return body


async def items() -> AsyncIterator[bytes]:
    body = b"x" * task.body
    for _ in range(task.messages):
        watch.tick()
        yield body


async def work(body: bytes) -> None:
    """Uses the processor, as parsing or computing would. Its end is the pipeline's `until: idle`."""
    compute(task.work)
    watch.tick_of_some()


@asynccontextmanager
async def reported() -> AsyncIterator[None]:
    """Says at the end what this process has seen of the messages that several share."""
    yield
    watch.report()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
