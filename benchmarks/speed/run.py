"""One run of one program: started, given its time, ended whatever happens, and its result read from its output."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.speed.node import Node
from benchmarks.speed.peers import Peer, Start
from benchmarks.speed.shapes import AT_ONCE, Shape
from benchmarks.speed.task import Result, Task, results

_OUTPUT = "output.txt"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR")


class RunError(Exception):
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


def measure(shape: Shape, peer: Peer, node: Node, messages: int, *, profile: str = "", patience: float = 60) -> Result:
    """Fresh queues, filled where the shape consumes; then the program, then what it must have left."""
    task = task_of(shape, peer, node, messages, profile)
    node.prepare(shape.queue_type)
    if shape.kind != "publish":
        node.fill(messages, body=shape.body, persistent=shape.persistent)
    with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
        output = finished(peer.start(shape, task, Path(folder)), task, Path(folder), patience)
    node.await_counts(0, 0 if shape.kind == "consume" else messages)
    (result,) = results(output) or [_no_result(peer, output)]
    return result


def finished(start: Start, task: Task, folder: Path, patience: float) -> str:
    """Its output. Raises RunError where it fails or does not end in time."""
    with started(start, task, folder) as process:
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            raise RunError(f"not done within {patience:g} s: {said(folder)[-1000:].strip()}") from None
    if status:
        raise RunError(f"status {status}: {said(folder)[-1000:].strip()}")
    return said(folder)


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


def _no_result(peer: Peer, output: str) -> Result:
    raise RunError(f"{peer.name} ended without a result: {output[-1000:].strip()}")
