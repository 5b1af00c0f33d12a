"""Who is measured: piperun, and beside it programs that do the same with other clients. Says how each is started and
which versions it runs on; what it does stands in `programs/`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from benchmarks.speed import environments, pipelines
from benchmarks.speed.environments import PROGRAMS, ROOT
from benchmarks.speed.shapes import Shape
from benchmarks.speed.task import Kind, Task
from pipeline.amqp.self_check import PLAIN_BY_HAND

PIPERUN: Final = "piperun"
_ALL_KINDS: Final[tuple[Kind, ...]] = ("consume", "publish", "pipe")


@dataclass(frozen=True, kw_only=True)
class Start:
    """A command, and the variables it needs beside those of the task."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`start` writes what it needs into a folder; it and `versions` raise MissingError where something is not there."""

    name: str
    title: str
    start: Callable[[Shape, Task, Path], Start]
    versions: Callable[[], Mapping[str, str]]
    kinds: tuple[Kind, ...] = _ALL_KINDS
    gather: int = 1  # acks at once
    stamps: bool = True  # reads the time in a body
    usual: bool = True  # else measured only when it is named

    def can(self, shape: Shape) -> bool:
        """One that differs from another by its acks alone has nothing to show where there are none to gather."""
        return shape.kind in self.kinds and (self.gather == 1 or shape.prefetch >= 2 * self.gather)


def _piperun(shape: Shape, task: Task, folder: Path) -> Start:
    file = pipelines.write(pipelines.pipeline(shape, task), folder)
    return Start(command=piperun_command(file), environment={})


def _piperun_on_the_plain_line(shape: Shape, task: Task, folder: Path) -> Start:
    return replace(_piperun(shape, task, folder), environment={PLAIN_BY_HAND: "1"})


def piperun_command(file: Path) -> tuple[str, ...]:
    return str(Path(sys.executable).with_name("piperun")), str(file), "--app-dir", str(ROOT)


def _module(interpreter: Callable[[], Path], name: str, *arguments: str) -> Callable[[Shape, Task, Path], Start]:
    def start(_shape: Shape, _task: Task, _folder: Path) -> Start:
        command = (str(interpreter()), "-m", f"benchmarks.speed.programs.{name}", *arguments)
        return Start(command=command, environment={"PYTHONPATH": str(ROOT)})

    return start


def _script(name: str) -> Callable[[Shape, Task, Path], Start]:
    def start(_shape: Shape, _task: Task, _folder: Path) -> Start:
        modules = environments.npm()
        return Start(command=("node", str(PROGRAMS / name)), environment={"NODE_PATH": str(modules)})

    return start


def _compiled(_shape: Shape, _task: Task, _folder: Path) -> Start:
    return Start(command=(str(environments.c_program()),), environment={})


def _here() -> Path:
    return Path(sys.executable)


def _own_versions(*packages: str) -> Callable[[], Mapping[str, str]]:
    """Of those that are there: piperun takes uvloop where it finds it."""

    def ask() -> Mapping[str, str]:
        there = {distribution.name: distribution.version for distribution in distributions()}
        return {package: there[package] for package in packages if package in there}

    return ask


def _other_versions(*packages: str) -> Callable[[], Mapping[str, str]]:
    def ask() -> Mapping[str, str]:
        code = "import json, sys, importlib.metadata as m; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
        said = _said(str(environments.python()), "-c", code, *packages)
        return {str(name): str(number) for name, number in json.loads(said).items()}

    return ask


def _npm_versions(package: str) -> Callable[[], Mapping[str, str]]:
    def ask() -> Mapping[str, str]:
        described = json.loads((environments.npm() / package / "package.json").read_text())
        return {package: str(described["version"]), "Node": _said("node", "--version").removeprefix("v")}

    return ask


def _c_versions() -> Mapping[str, str]:
    environments.c_program()
    if shutil.which("dpkg-query") is None:
        return {"librabbitmq": "unknown"}
    return {"librabbitmq": _said("dpkg-query", "-W", "-f", "${Version}", "librabbitmq-dev") or "unknown"}


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


PEERS: Final = (
    Peer(
        name=PIPERUN, title="piperun", start=_piperun, versions=_own_versions("piperun", "aio-pika", "aiormq", "uvloop")
    ),
    Peer(
        name="piperun-plain",
        title="piperun, plain line",
        start=_piperun_on_the_plain_line,
        versions=_own_versions("piperun", "aio-pika", "aiormq", "uvloop"),
        usual=False,
    ),
    Peer(
        name="aio-pika",
        title="aio-pika",
        start=_module(_here, "plain_aio_pika"),
        versions=_own_versions("aio-pika", "aiormq"),
    ),
    Peer(
        name="aio-pika-uvloop",
        title="aio-pika on uvloop",
        start=_module(environments.python, "plain_aio_pika", "uvloop"),
        versions=_other_versions("aio-pika", "uvloop"),
    ),
    Peer(
        name="faststream",
        title="FastStream",
        start=_module(environments.python, "fast_stream"),
        versions=_other_versions("faststream", "aio-pika"),
    ),
    Peer(
        name="pika",
        title="pika on asyncio",
        start=_module(environments.python, "on_pika"),
        versions=_other_versions("pika"),
    ),
    Peer(name="amqplib", title="Node amqplib", start=_script("amqplib.js"), versions=_npm_versions("amqplib")),
    Peer(name="rascal", title="Node rascal", start=_script("rascal.js"), versions=_npm_versions("rascal")),
    Peer(name="librabbitmq", title="C librabbitmq", start=_compiled, versions=_c_versions, stamps=False),
    Peer(
        name="librabbitmq-gathered",
        title="C, acks by 50",
        start=_compiled,
        versions=_c_versions,
        kinds=("consume", "pipe"),
        gather=50,
        stamps=False,
    ),
)
