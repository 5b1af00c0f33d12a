"""Whose claim it is, as text in the file of keys, and whether that process is dead for certain. In doubt it lives: then
its lease decides. Where the text stands is not known here."""

import os
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final
from uuid import uuid4

_PROC: Final = Path("/proc")


class Owner:
    """This process, and its claims one after another."""

    def __init__(self) -> None:
        # The number of a process is given to another one some day, and means nothing outside its own container.
        self._process = f"{uuid4().hex} {_place()} {os.getpid()} {_born(os.getpid())}"
        self._claims = count(1)

    def of_next_claim(self) -> str:
        return f"{self._process} {next(self._claims)}"


def is_dead(owner: str) -> bool:
    """Whether the process of this claim is gone: known on Linux, of a process that sees the same ones as we do."""
    with suppress(ValueError, OverflowError):
        _, place, pid, born, _ = owner.split()
        if place == _place() != _UNKNOWN:
            return not _lives(int(pid), born)
    return False


_UNKNOWN: Final = "-"


@cache
def _place() -> str:
    """The machine, since it was started, and the namespace of process numbers; two containers have one each."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return _UNKNOWN


def _lives(pid: int, born: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    seen = _born(pid)
    return seen == born or _UNKNOWN in (seen, born)


def _born(pid: int) -> str:
    """When it began, in ticks since the machine was started."""
    try:
        # The second field is the program's name, which may hold spaces and brackets.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return "over" if fields[0] in "ZX" else fields[19]  # one that its parent has not buried yet
    except (OSError, IndexError):
        return _UNKNOWN
