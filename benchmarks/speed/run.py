"""One run of one program: started, given its time, ended whatever happens, and its result read from its output."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.speed.node import Node
from benchmarks.speed.peers import Peer, Start
from benchmarks.speed.shapes import AT_ONCE, Shape
from benchmarks.speed.task import Result, Task, results

_OUTPUT = "output.txt"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR")


class RunError(RuntimeError):
    """A program did not do what it was told; the text says which, and what it said."""


def task_of(shape: Shape, peer: Peer, node: Node, messages: int, profile: str = "") -> Task:
    """A tenth of the messages is not timed."""
    return Task(
        url=node.url,
        kind=shape.kind,
        messages=messages,
        skip=max(1, messages // 10),
        prefetch=shape.prefetch,
        body=shape.body,
        persistent=shape.persistent,
        node_pid=node.pid,
        gather=peer.gather,
        in_flight=AT_ONCE,
        profile=profile,
    )


def measure(shape: Shape, peer: Peer, node: Node, messages: int, *, profile: str = "", patience: float = 120) -> Result:
    """Fresh queues, filled where the shape consumes; then the program, then what it must have left."""
    task = task_of(shape, peer, node, messages, profile)
    node.prepare(shape.queue_type)
    if shape.kind != "publish":
        node.fill(messages, body=shape.body, persistent=shape.persistent)
    with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
        start = peer.start(shape, task, Path(folder))
        with started(start, task, Path(folder)) as process:
            output = finished(process, Path(folder), patience)
    found = results(output)
    if len(found) != 1:
        raise RunError(f"{len(found)} results instead of one: {output[-1000:].strip()}")
    node.await_counts(0 if shape.kind == "consume" else messages, returned=_forgotten(shape))
    return found[0]


def _forgotten(shape: Shape) -> int:
    """Acks that RabbitMQ 3.10 may not carry out: on a quorum queue the last ones of a channel that is closed right
    behind them, in order and with an answer. Seen with every client that leaves at once, the one in C included."""
    return shape.prefetch if shape.queue_type == "quorum" else 0


def finished(process: subprocess.Popen[bytes], folder: Path, patience: float) -> str:
    """Its output. Raises RunError where it fails or does not end in time."""
    try:
        status = process.wait(patience)
    except subprocess.TimeoutExpired:
        raise RunError(f"not done within {patience:g} s: {said(folder)[-1000:].strip()}") from None
    if status:
        raise RunError(f"status {status}: {said(folder)[-1000:].strip()}")
    return said(folder)


def until_consuming(
    process: subprocess.Popen[bytes],
    node: Node,
    folder: Path,
    *,
    consumers: int = 1,
    vhost: str = "/",
    patience: float = 30,
) -> float:
    """Return when RabbitMQ counts so many consumers, and what the monotonic clock said then."""
    end = time.monotonic() + patience
    while (seen := node.consumers(vhost)) < consumers:
        if process.poll() is not None or time.monotonic() > end:
            raise RunError(f"{seen} of {consumers} consumers: {said(folder)[-1000:].strip()}")
        time.sleep(0.02)
    return time.monotonic()


def said(folder: Path) -> str:
    return (folder / _OUTPUT).read_text(errors="replace")


@contextmanager
def started(start: Start, task: Task, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process, in a group of its own that ends with the block. Its output goes to a file: nobody has to read it."""
    with (folder / _OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            start.command,
            cwd=folder,
            env=_environment(start.environment, task, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(own: Mapping[str, str], task: Task, folder: Path) -> dict[str, str]:
    """Nothing of the settings of whoever runs the benchmark."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, "HOME": str(folder), **own, **task.environment()}
