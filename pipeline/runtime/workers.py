"""Worker processes: start them, restart a dead one with back-off and say why it died, stop all in order. Owns the table
of what each has in hand. Bodies and settling are not known here; the embedded broker lives in this process, so that a
worker can die without it."""

import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from pipeline.clock import Clock
from pipeline.events import Event, Stopping, WorkerDied, WorkerStarted
from pipeline.runtime.job import Job
from pipeline.runtime.plan import Plan
from pipeline.runtime.run import End
from pipeline.runtime.stop import Stop
from pipeline.runtime.table import Phase, Row, Table

_FIRST_PAUSE = 0.5  # seconds between the death of a worker and the start of the next one
_LONGEST_PAUSE = 30.0
_HEALTHY_AFTER = 60.0
# A worker stops by its own deadline; so much later it is killed.
_GRACE = 2.0


class WorkerFailed(Exception):
    """Raised when a worker cannot even start: to try again would change nothing. `status` is what it ended with."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(kw_only=True)
class _Worker:
    number: int
    row: Row
    process: asyncio.subprocess.Process
    control: int  # our end of its pipe: closing it asks the worker to stop
    started: float
    told: bool = field(default=False)


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
        self._plans = plans
        self._job = job
        self._stop = stop
        self._clock = clock
        self._emit = emit
        self._memory = tempfile.TemporaryFile(prefix="piperun-")  # noqa: SIM115 - lives as long as the supervisor
        self._memory.truncate(Table.size(plans, rows=count))
        self.table = Table(plans, rows=count, fileno=self._memory.fileno())
        self._running: dict[int, _Worker] = {}
        self._ends: list[End] = []
        self._been_ready: set[int] = set()
        self._failure: WorkerFailed | None = None

    async def run(self) -> End:
        """Returns how the run ended. Raises `WorkerFailed` when a worker dies before it was ever ready."""
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = [tasks.create_task(self._keep(number)) for number in range(self._count)]
                await self._stop.event.wait()
                self._emit(Stopping(reason=self._stop.reason, shutdown_timeout=self._stop.shutdown_timeout))
                self._tell_all()
                await self._killed_when_late(keeping)
        finally:
            self.kill_all()  # after an error of ours; otherwise there is none left
        if self._failure is not None:
            raise self._failure
        return max(self._ends, key=_SEVERITY.index, default=End.FINE)

    def kill_all(self) -> None:
        """At once, without waiting: for a second signal."""
        for worker in self._running.values():
            with suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGKILL)

    async def _keep(self, number: int) -> None:
        """One row of the table: a worker, and after its death the next one."""
        pause = _FIRST_PAUSE
        while not self._stop.requested:
            worker = await self._start(number)
            status = await worker.process.wait()
            del self._running[number]
            self._tell(worker)  # only closes our end of the pipe now
            if self._ended_on_purpose(worker, status) or self._failed_to_start(worker, status):
                return
            if self._clock.now() - worker.started >= _HEALTHY_AFTER:
                pause = _FIRST_PAUSE
            wait = pause * random.uniform(0.8, 1.2)
            self._bury(worker, status, None if self._stop.requested else wait)
            with suppress(TimeoutError):
                async with self._clock.deadline(wait):
                    await self._stop.event.wait()
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _start(self, number: int) -> _Worker:
        theirs, ours = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pipeline.runtime.worker", str(theirs), str(self._memory.fileno())),
                pass_fds=(theirs, self._memory.fileno()),
            )
        finally:
            os.close(theirs)
        # Through a pipe: arguments and environment of a process can be read by others, and the job holds passwords.
        await asyncio.to_thread(_write, ours, self._job(number).as_line())
        row = self.table.rows[number]
        worker = _Worker(number=number, row=row, process=process, control=ours, started=self._clock.now())
        self._running[number] = worker
        self._emit(WorkerStarted(worker=number + 1, pid=process.pid))
        if self._stop.requested:  # meanwhile
            self._tell(worker)
        return worker

    def _ended_on_purpose(self, worker: _Worker, status: int) -> bool:
        """Whether it stopped in order, and there is no reason to start another one."""
        if self._stop.requested and status == End.FINE:
            return True
        if worker.row.phase is Phase.READY:
            self._been_ready.add(worker.number)
        if worker.row.phase is not Phase.STOPPING:
            return False
        self._been_ready.add(worker.number)
        if status == End.FAILED:
            self._ends.append(End.FAILED)
            self._stop.request(f"worker {worker.number + 1} failed")
            return True
        if status == End.CUT_OFF:
            self._ends.append(End.CUT_OFF)
        if status == End.FINE and not any(plan.consumers for plan in self._plans):
            self._stop.request("there is nothing more to send")
        return status in (End.FINE, End.CUT_OFF) and self._stop.requested

    def _failed_to_start(self, worker: _Worker, status: int) -> bool:
        """Whether it never was ready: the next one would fare the same, so the run ends."""
        if worker.number in self._been_ready or self._stop.requested:
            return False
        self._failure = WorkerFailed(f"worker {worker.number + 1} died while starting: {_cause(status)}", status)
        self._stop.request(f"worker {worker.number + 1} cannot start")
        return True

    def _bury(self, worker: _Worker, status: int, next_start: float | None) -> None:
        """Say why it died, and settle what it had in hand: the broker delivers it again, except with `ack: none`."""
        row = worker.row
        in_hand = row.in_hand
        dropped = 0
        ledgers = zip(
            chain.from_iterable(row.consumers), chain.from_iterable(p.consumers for p in self._plans), strict=True
        )
        for ledger, plan in ledgers:
            lost = plan.consumer.ack == "none"
            dropped += ledger.in_hand if lost else 0
            for _ in range(ledger.in_hand):
                ledger.dropped() if lost else ledger.redelivery_expected()
        for producer in chain.from_iterable(row.producers):
            producer.take_back()
        row.clear_phase()
        self._emit(
            WorkerDied(
                worker=worker.number + 1,
                pid=worker.process.pid,
                cause=_cause(status),
                in_hand=in_hand - dropped,
                dropped=dropped,
                next_start=next_start,
            )
        )

    def _tell_all(self) -> None:
        for worker in self._running.values():
            self._tell(worker)

    def _tell(self, worker: _Worker) -> None:
        if not worker.told:
            worker.told = True
            os.close(worker.control)

    async def _killed_when_late(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """Every worker has the same deadline as we have; one that misses it is killed and named."""
        with suppress(TimeoutError):
            async with self._clock.deadline(self._stop.remaining + _GRACE):
                await asyncio.wait(keeping)
                return
        self._ends.append(End.CUT_OFF)
        self.kill_all()


_SEVERITY = [End.FINE, End.CUT_OFF, End.FAILED]


def _write(pipe: int, line: bytes) -> None:
    with suppress(BrokenPipeError):  # it died before it had read its job: its exit status will say why
        while line:
            line = line[os.write(pipe, line) :]


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"killed by {name}" + (" (out of memory?)" if -status == signal.SIGKILL else "")
