"""Worker processes: start them, restart a dead one with back-off and say why it died, stop all in order. Owns the table
of what each has in hand. Bodies and settling are not known here; the embedded broker lives in this process, so that a
worker can die without it."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from threading import Thread

from pipeline.clock import Clock
from pipeline.config.model import PythonSource, StdinSource
from pipeline.errors import WorkerFailed
from pipeline.events import Event, Notice, Stopping, WorkerDied, WorkerStarted
from pipeline.runtime.deaths import Deaths
from pipeline.runtime.in_hand import InHand
from pipeline.runtime.job import Job
from pipeline.runtime.plan import Plan
from pipeline.runtime.run import End
from pipeline.runtime.stop import GRACE, SIGNALS, Stop
from pipeline.runtime.suspects import cause
from pipeline.runtime.table import Phase, Row, Table

_FIRST_PAUSE = 0.5  # seconds between the death of a worker and the start of the next one
_LONGEST_PAUSE = 30.0
_HEALTHY_AFTER = 60.0


@dataclass(kw_only=True)
class _Worker:
    number: int
    row: Row
    process: subprocess.Popen[bytes]
    control: int  # our end of its pipe: a byte after the job asks the worker to stop, and so does our own end
    started: float
    has_job: bool = False

    def tell(self) -> None:
        """Ask it to stop; while its job is on its way, whoever sends the job does it."""
        if self.has_job:
            with suppress(BrokenPipeError):  # it has just died
                os.write(self.control, b".")


class Supervisor:
    """Keeps `count` workers running until `stop` is requested or one of them ends the run."""

    def __init__(
        self,
        *,
        count: int,
        plans: Sequence[Plan],
        job: Callable[[int], Job],
        stop: Stop,
        clock: Clock,
        emit: Callable[[Event], None],
    ) -> None:
        self._count = count
        self._consumers = [each.consumer for plan in plans for each in plan.consumers]
        self._producers = [each for plan in plans for each in plan.producers]
        self._job = job
        self._stop = stop
        self._clock = clock
        self._emit = emit
        self._memory = tempfile.TemporaryFile(prefix="piperun-")  # noqa: SIM115 - lives as long as the supervisor
        self._memory.truncate(InHand.end(plans, rows=count))
        self.table = Table(plans, rows=count, fileno=self._memory.fileno())
        in_hand = InHand.shared(plans, rows=count, fileno=self._memory.fileno())
        self._deaths = Deaths(in_hand, self._consumers, clock)
        self.failure: WorkerFailed | None = None  # a worker died before it was ever ready
        self._running: dict[int, _Worker] = {}
        self._ends: list[End] = []
        self._been_ready: set[int] = set()

    async def run(self) -> End:
        """Returns how the run ended, when no worker is left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = [tasks.create_task(self._keep(number)) for number in range(self._count)]
                await self._stop.event.wait()
                self._emit(Stopping(reason=self._stop.reason, shutdown_timeout=self._stop.shutdown_timeout))
                for worker in self._running.values():
                    worker.tell()
                await self._killed_when_late(keeping)
        finally:
            self.kill_all()  # after an error of ours; otherwise there is none left
        return max(self._ends, key=_SEVERITY.index, default=End.FINE)

    def kill_all(self) -> None:
        """At once, without waiting: for a second signal."""
        for worker in self._running.values():
            worker.process.kill()  # nothing, where the thread that waits for it has its status already

    async def _keep(self, number: int) -> None:
        """One row of the table: a worker, and after its death the next one."""
        pause = _FIRST_PAUSE
        while not self._stop.requested:
            worker = await self._start(number)
            status = await _ended(worker.process)
            counted = self._deaths.count(number, status)
            del self._running[number]
            os.close(worker.control)
            if self._clock.now() - worker.started >= _HEALTHY_AFTER:
                pause = _FIRST_PAUSE
            wait = pause * random.uniform(0.8, 1.2) if self._is_followed(worker, status) else None
            self._bury(worker, status, wait)
            if wait is None:
                return
            for each in counted:
                self._emit(each)
            with suppress(TimeoutError):
                async with self._clock.deadline(wait):
                    await self._stop.event.wait()
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _start(self, number: int) -> _Worker:
        process, ours = _spawn(self._memory.fileno())
        row = self.table.rows[number]
        worker = _Worker(number=number, row=row, process=process, control=ours, started=self._clock.now())
        self._running[number] = worker
        self._emit(WorkerStarted(worker=number + 1, pid=process.pid))
        # Through a pipe: arguments and environment of a process can be read by others, and the job holds passwords.
        await asyncio.to_thread(_write, ours, self._job(number).as_line())
        worker.has_job = True
        if self._stop.requested:  # meanwhile
            worker.tell()
        return worker

    def _is_followed(self, worker: _Worker, status: int) -> bool:
        """Whether the next one is to be started. Otherwise the run ends, for this reason or for another one."""
        row, name = worker.row, f"worker {worker.number + 1}"
        if row.phase is not Phase.STARTING or row.delivered:
            self._been_ready.add(worker.number)
        in_order = row.phase is Phase.STOPPING and status in _SEVERITY
        if in_order:
            self._ends.append(End(status))
        if self._stop.requested:
            return False
        if in_order and status == End.FAILED:
            self._stop.request(f"{name} failed")
            return False
        if in_order and status == End.FINE and not self._consumers and _all_sent(row):
            self._stop.request("there is nothing more to send")
            return False
        # Fine, and yet not ready: somebody else has told it to stop while it started.
        if worker.number in self._been_ready or status == End.FINE:
            return True
        self.failure = WorkerFailed(f"{name} died while starting: {cause(status)}", status)
        self._stop.request(f"{name} cannot start")
        return False

    def _bury(self, worker: _Worker, status: int, next_start: float | None) -> None:
        """Settle what it had in hand: the broker delivers it again, except with `ack: none`. Say why it died, unless
        that was in order."""
        row = worker.row
        in_hand, dropped = self._settle_in_hand(row)
        in_order = status == End.FINE or (row.phase is Phase.STOPPING and status in _SEVERITY)
        said_elsewhere = in_order or (self.failure is not None and row.phase is Phase.STARTING)
        if next_start is not None:
            self._go_on_with_sources(row)
            row.clear_phase()
        elif said_elsewhere and not in_hand and not dropped:
            return
        self._emit(
            WorkerDied(
                worker=worker.number + 1,
                pid=worker.process.pid,
                cause=cause(status),
                in_hand=in_hand,
                dropped=dropped,
                next_start=next_start,
            )
        )

    def _settle_in_hand(self, row: Row) -> tuple[int, int]:
        """How many messages the broker delivers again, and how many are gone."""
        in_hand = dropped = 0
        for ledger, consumer in zip(chain.from_iterable(row.consumers), self._consumers, strict=True):
            lost = consumer.ack == "none"
            for _ in range(ledger.in_hand):
                ledger.dropped() if lost else ledger.redelivery_expected()
                dropped, in_hand = dropped + lost, in_hand + (not lost)
        return in_hand, dropped

    def _go_on_with_sources(self, row: Row) -> None:
        """The next worker reads again what has no answer; what it cannot read again is named."""
        for ledger, producer in zip(chain.from_iterable(row.producers), self._producers, strict=True):
            ledger.take_back()
            begun = row.phase is not Phase.STARTING and row.sources_left
            if begun and not ledger.finished and (fate := _WITHOUT_MEMORY.get(type(producer.source))):
                self._emit(Notice(subject=f"producer.{producer.name}", sentence=fate, level="warning"))

    async def _killed_when_late(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """Every worker has the same deadline as we have; one that misses it is killed and named."""
        with suppress(TimeoutError):
            async with self._clock.deadline(self._stop.remaining + GRACE):
                await asyncio.wait(keeping)
                return
        self._ends.append(End.CUT_OFF)
        self.kill_all()


_WITHOUT_MEMORY: dict[type, str] = {
    StdinSource: "what its worker had read and not sent is LOST; the next one goes on with what is left of the input",
    PythonSource: "its generator begins anew with the next worker, and what was sent before is sent again",
}
_SEVERITY = [End.FINE, End.CUT_OFF, End.FAILED]


def _spawn(memory: int) -> tuple[subprocess.Popen[bytes], int]:
    """A process that waits for its job, and our end of its pipe. Not made by the event loop: uvloop gives a child back
    the signals that are held back or ignored here."""
    theirs, ours = os.pipe()
    # Until it has handlers of its own, a signal to the whole group (Ctrl-C, systemd) would end it with a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        command = (sys.executable, "-m", "pipeline.runtime.worker", str(theirs), str(memory))
        return subprocess.Popen(command, pass_fds=(theirs, memory)), ours
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(theirs)


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Its status, when there is one. A thread waits, of its own: a pool would have too few for many workers."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        process.wait()
        with suppress(RuntimeError):  # the loop is closed; by another thread, it may be at this very moment
            loop.call_soon_threadsafe(ended.set)

    Thread(target=wait, name=f"worker {process.pid}", daemon=True).start()
    await ended.wait()  # ends with the process; who wants that soon kills it
    return process.wait()


def _write(pipe: int, line: bytes) -> None:
    with suppress(BrokenPipeError):  # it died before it had read its job: its exit status will say why
        while line:
            line = line[os.write(pipe, line) :]


def _all_sent(row: Row) -> bool:
    return all(ledger.finished for ledger in chain.from_iterable(row.producers))
