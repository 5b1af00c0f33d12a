"""The commands whose start is measured, and one measurement: a whole process, from its start to its end or, where it
would run on, to the first message handled. How often and in which order is not known here."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_HELLO = _ROOT / "configs/hello.yaml"
_HANDLER = Path(__file__).with_name("first_message.py")
_PATIENCE = 60  # seconds
# Byte code is kept, as after an installation, and the file runs on the embedded broker.
_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONDONTWRITEBYTECODE", "AMQP_URL") and not name.startswith("PIPERUN_")
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """`words` go to the interpreter. `first_message`: until a handler has one."""

    name: str
    words: tuple[str, ...]
    first_message: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement:
    seconds: float
    cpu_seconds: float


COMMANDS = (
    Command(name="python, nothing", words=("-c", "pass")),
    Command(name="import aio_pika", words=("-c", "import aio_pika")),
    Command(name="piperun --version", words=("-m", "pipeline", "--version")),
    Command(name="piperun --help", words=("-m", "pipeline", "--help")),
    Command(name="piperun validate", words=("-m", "pipeline", "validate", str(_HELLO))),
    Command(name="first message", words=("-m", "pipeline"), first_message=True),
)


def measure(command: Command) -> Measurement:
    """Raises RuntimeError with what the command said where it failed."""
    return _to_first_message(command) if command.first_message else _to_end(command)


def _to_end(command: Command) -> Measurement:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    _run(command.words)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measurement(seconds=seconds, cpu_seconds=cpu_seconds)


def _to_first_message(command: Command) -> Measurement:
    with tempfile.TemporaryDirectory(prefix="start-up-") as name:
        folder = Path(name)
        shutil.copy(_HELLO, folder)
        shutil.copy(_HANDLER, folder / "hello.py")  # where the file has its handler
        started = time.monotonic()
        said = _run((*command.words, str(folder / _HELLO.name)))
        called = folder / "called"
        if not called.exists():
            raise RuntimeError(f"{command.name}: the handler was not called\n{said}")
        at, cpu_seconds = (float(word) for word in called.read_text().split())
    return Measurement(seconds=at - started, cpu_seconds=cpu_seconds)


def _run(words: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=_ROOT,
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with status {done.returncode}\n{done.stdout}")
    return done.stdout
