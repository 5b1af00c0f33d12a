"""What peers need and piperun does not: Python packages in an environment of their own, npm packages, a compiled
program. Made once under `.bench/`, which Git does not know. What cannot be had is told in one line, with the way."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".bench"
PYTHON_PACKAGES = ("faststream[rabbit]", "pika", "aio-pika>=10.2,<11", "uvloop")
NPM_PACKAGES = ("amqplib", "rascal")
PROGRAMS = Path(__file__).parent / "programs"
_PATIENCE = 300  # seconds for an installation


class MissingError(Exception):
    """Its text says what is missing and how to get it."""


def once(make: Callable[[], Path]) -> Callable[[], Path]:
    """Remembers a failure, too: several peers share an environment, and a network that is away is asked once."""

    @cache
    def outcome() -> Path | MissingError:
        try:
            return make()
        except MissingError as error:
            return error

    @wraps(make)
    def get() -> Path:
        found = outcome()
        if isinstance(found, MissingError):
            raise found
        return found

    return get


@once
def python() -> Path:
    """The interpreter of an environment with the Python packages that piperun itself does not use."""
    folder = CACHE / "python"
    interpreter = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        get = f"{interpreter} -m pip install {' '.join(PYTHON_PACKAGES)}"
        _run(
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            "no environment can be made: apt-get install python3-venv",
        )
        _run([str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PYTHON_PACKAGES], get)
        done.touch()
    return interpreter


@once
def npm() -> Path:
    """The folder `node_modules`."""
    folder = CACHE / "node"
    done = folder / ".installed"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise MissingError("node and npm are not installed: apt-get install nodejs npm")
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
        _run([*words, *NPM_PACKAGES], " ".join([*words, *NPM_PACKAGES]))
        done.touch()
    return folder / "node_modules"


@once
def c_program() -> Path:
    """The program on librabbitmq, compiled again when its source is newer."""
    source, program = PROGRAMS / "librabbitmq.c", CACHE / "librabbitmq"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        if shutil.which("gcc") is None:
            raise MissingError("no compiler: apt-get install gcc libc6-dev librabbitmq-dev")
        CACHE.mkdir(exist_ok=True)
        words = ["gcc", "-O2", "-Wall", "-o", str(program), str(source), "-lrabbitmq"]
        _run(words, "it does not compile: apt-get install librabbitmq-dev")
    return program


def _run(words: Sequence[str], get: str) -> None:
    """Raises MissingError with the way to do it by hand and the last line of what was said."""
    print(f"getting ready: {' '.join(words)}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise MissingError(f"not within {_PATIENCE} s: {get}") from None
    except OSError as error:
        raise MissingError(f"{error}: {get}") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise MissingError(f"{get} ({said[0] if said else f'status {done.returncode}'})")
