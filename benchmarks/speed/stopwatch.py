"""Counts messages inside a Python program and notes time, CPU time and memory at the first and the last one that is
timed. Costs a call, an addition and a comparison for each message. Needs nothing but the standard library, since it
runs in other environments than ours, too."""

import cProfile
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.task import Result, Task

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Moment:
    at: float
    cpu_seconds: float
    node_cpu_seconds: float


class Stopwatch:
    """`tick` for each message; True when it was the last. Then the result stands in `result`, and has been printed."""

    def __init__(self, task: Task) -> None:
        self.result: Result | None = None
        self._task = task
        self._count = 0
        self._next = task.skip
        self._first: Moment | None = None
        self._newest = 0.0
        self._latencies: list[int] = []
        self._profiler = cProfile.Profile() if task.profile else None

    def tick(self) -> bool:
        self._count += 1
        if self._count != self._next:
            return False
        return self._begin() if self._first is None else self._end(self._first)

    def tick_with(self, body: bytes) -> bool:
        """The same, with what a body says about the time of its publish, where the task asks for it."""
        if self._task.latency:
            self._latencies.append(time.monotonic_ns() - int.from_bytes(body[:8]))
        return self.tick()

    def tick_of_some(self) -> None:
        """The same where several processes share the messages, and none of them knows which is its last."""
        self.tick()
        self._newest = time.monotonic()

    def report(self) -> None:
        """Print what there is up to the newest of some, without the time since then; CPU time is that up to now."""
        if self._first is not None and self.result is None and self._count > self._task.skip:
            self._end(self._first, at=self._newest)

    def _begin(self) -> bool:
        self._first = self._moment()
        self._next = self._task.messages
        if self._profiler is not None:
            self._profiler.enable()
        return False

    def _end(self, first: Moment, at: float | None = None) -> bool:
        last = self._moment()
        if self._profiler is not None:
            self._profiler.disable()
            self._profiler.dump_stats(self._task.profile)
        self.result = Result(
            messages=self._count - self._task.skip,
            first=first.at,
            last=last.at if at is None else at,
            cpu_seconds=last.cpu_seconds - first.cpu_seconds,
            node_cpu_seconds=last.node_cpu_seconds - first.node_cpu_seconds,
            peak_mib=peak_mib(),
            latencies=tuple(round(each / 1e6, 4) for each in sorted(self._latencies[self._task.skip :])),
        )
        print(self.result.line(), flush=True)
        return True

    def _moment(self) -> Moment:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Moment(
            at=time.monotonic(),
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            node_cpu_seconds=cpu_seconds(self._task.node_pid),
        )


def cpu_seconds(pid: int) -> float:
    """User and system time of another process so far; 0 where the system has no /proc to read it from."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    after_name = stat.rpartition(")")[2].split()  # the name may hold blanks; utime and stime are fields 14 and 15
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


def peak_mib(pid: int | str = "self", field: str = "VmHWM") -> float:
    """The largest resident memory of a process so far, with `VmRSS` the present one; 0 without /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field + ":")), 0.0)
