"""The broker in a process of its own: started here, asked over a pipe, which is also how its URL with the password
comes over. What it is asked to do over AMQP is not known here."""

import cProfile
import multiprocessing
import resource
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, Self

from pipeline.embedded import EmbeddedBroker

_ANSWER_SECONDS = 30
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The broker's process as it is now."""

    cpu_seconds: float
    peak_mib: float
    messages: int  # in its queues


@dataclass(frozen=True, kw_only=True)
class Function:
    """One line of a profile."""

    name: str
    calls: int
    own_seconds: float
    total_seconds: float


class BrokerProcess:
    """`url` from the start of the `with` block; it ends with the block, or with this process."""

    def __init__(self, *, profile: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, profile), daemon=True)
        self._theirs = theirs
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self._process.start()
            self._theirs.close()
            self.url = self._answer()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self) -> Reading:
        self._pipe.send("read")
        reading: Reading = self._answer()
        return reading

    def stop(self) -> list[Function]:
        """The profile, empty where none was asked for. Nothing can be asked after this."""
        self._pipe.send("stop")
        functions: list[Function] = self._answer()
        return functions

    def _answer(self) -> Any:
        if not self._pipe.poll(_ANSWER_SECONDS):
            raise TimeoutError(f"the broker's process did not answer within {_ANSWER_SECONDS} s")
        return self._pipe.recv()

    def _end(self) -> None:
        self._pipe.close()  # which the process takes for the end, too
        if self._process.pid is not None:
            self._process.join(_ANSWER_SECONDS)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process.close()


# In the broker's process


def serve(pipe: Connection, profile: bool) -> None:
    profiler = cProfile.Profile()
    if profile:
        # The broker works on a thread that it starts itself; a profiler sees only the thread that enables it.
        threading.setprofile(lambda *event: profiler.enable())
    with EmbeddedBroker() as broker:
        try:
            pipe.send(broker.url)
            while pipe.recv() == "read":
                pipe.send(_read(broker))
        except (EOFError, OSError):
            return  # nobody is there any more
    pipe.send(_functions(profiler))


def _read(broker: EmbeddedBroker) -> Reading:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Reading(
        cpu_seconds=usage.ru_utime + usage.ru_stime, peak_mib=_peak_mib(usage), messages=broker.message_count
    )


def _peak_mib(usage: resource.struct_rusage) -> float:
    """Linux hands ru_maxrss down from the process that started this one; the status file has its own."""
    if _STATUS.exists():
        (kib,) = (line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(kib) / 1024
    return usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _functions(profiler: cProfile.Profile) -> list[Function]:
    profiler.disable()
    found = [
        Function(
            name=_name(entry.code),
            calls=entry.callcount,
            own_seconds=entry.inlinetime,
            total_seconds=entry.totaltime,
        )
        for entry in profiler.getstats()
    ]
    return sorted(found, key=lambda function: function.own_seconds, reverse=True)


def _name(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    return f"{Path(code.co_filename).name}:{code.co_firstlineno} {code.co_qualname}"
