"""The YAML files that piperun is measured with. Each is what a user would write for the shape; which keys there are is
in docs/reference.md."""

import shutil
from pathlib import Path

from benchmarks.speed.environments import PROGRAMS
from benchmarks.speed.shapes import Shape
from benchmarks.speed.task import IN, OUT, Task

FILE = "pipeline.yaml"


def write(text: str, folder: Path) -> Path:
    """The file, and beside it the handlers."""
    shutil.copy(PROGRAMS / "handlers.py", folder)
    file = folder / FILE
    file.write_text(text, encoding="utf-8")
    return file


def pipeline(shape: Shape, task: Task) -> str:
    mode = "persistent" if shape.persistent else "transient"
    publish = f"{{queue: {OUT}, delivery_mode: {mode}}}"
    queue = f"{{type: {shape.queue_type}}}"
    head = f"broker: {task.url}\n\nqueues:\n"
    if shape.kind == "publish":
        return head + (
            f"  {OUT}: {queue}\n\n"
            "producers:\n"
            f"  bench:\n    source: handlers:items\n    publish: {publish}\n    max_in_flight: {task.in_flight}\n\n"
            "runtime:\n  until: idle\n"
        )
    settling = f"    prefetch: {shape.prefetch}\n" if shape.prefetch else "    ack: none\n"
    if shape.kind == "consume":
        return (
            head + f"  {IN}: {queue}\n\nconsumers:\n  bench:\n    queue: {IN}\n    handler: handlers:handle\n{settling}"
        )
    return head + (
        f"  {IN}: {queue}\n  {OUT}: {queue}\n\n"
        f"consumers:\n  bench:\n    queue: {IN}\n    handler: handlers:forward\n"
        f"{settling}    concurrency: {shape.prefetch}\n    publish: {publish}\n"
    )


def idle(url: str, queues: int) -> str:
    """So many queues, each with its consumer."""
    names = [f"bench.{number}" for number in range(queues)]
    return (
        f"broker: {url}\n\nqueues:\n"
        + "".join(f"  {name}:\n" for name in names)
        + "\nconsumers:\n"
        + "".join(f"  {name}: {{queue: {name}, handler: 'handlers:handle'}}\n" for name in names)
    )


def working(url: str, workers: int) -> str:
    """Handlers that need the processor, in so many processes."""
    return (
        f"broker: {url}\n\nqueues:\n  {IN}:\n\n"
        f"consumers:\n  bench:\n    queue: {IN}\n    handler: handlers:work\n    prefetch: 10\n\n"
        f"runtime:\n  until: idle\n  workers: {workers}\n  lifespan: handlers:reported\n"
    )
