"""How many processors this process may use, and what limits them: its affinity and, on Linux, the quota of its control
groups. What is made of the number is not known here."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from pipeline.values import Frozen


class Processors(Frozen, frozen=True, kw_only=True):
    count: int
    because: str  # in a few words, to stand in a sentence


def usable(root: Path = Path("/")) -> Processors:
    """At least 1. Part of a processor counts as one: with two workers on 1.5 of them, none of it is left over."""
    allowed = _allowed()
    quota = min(_quotas(root), default=None)
    if quota is not None and ceil(quota) < allowed:
        return Processors(count=max(1, ceil(quota)), because=f"a control group allows it {quota:g} of {allowed}")
    return Processors(count=allowed, because=f"it may use {allowed}")


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Processors' worth of time, of this process's control group and of those around it; each of them limits."""
    top = root / "sys/fs/cgroup"
    own = top / _own_group(root)
    for group in (own, *own.parents):
        if group == top.parent:
            return
        try:
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # "max 100000" means no limit; the topmost group has no such file


def _own_group(root: Path) -> str:
    """Of version 2, the only one with a line that begins so. In a container it is often just "/"."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
