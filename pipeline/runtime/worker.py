"""A worker process, started by `workers.py`: reads its job, runs the files as one process, and ends with a status that
the supervisor understands. It also stops when the supervisor itself has died."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread, Timer
from typing import NoReturn

from pipeline.clock import SystemClock
from pipeline.config.load import Text, load
from pipeline.errors import PiperunError, innermost
from pipeline.events import Event, Events, Stopping
from pipeline.observe.logs import LogLines, set_up_logging
from pipeline.problems import render
from pipeline.runtime.alone import Alone
from pipeline.runtime.assembly import Surroundings
from pipeline.runtime.broker import at
from pipeline.runtime.in_hand import InHand
from pipeline.runtime.job import Job
from pipeline.runtime.loop import choose, run_on
from pipeline.runtime.prepare import prepare
from pipeline.runtime.run import End, Wanted, run, something_still_runs
from pipeline.runtime.stop import GRACE, SIGNALS, Stop, hear
from pipeline.runtime.table import Table
from pipeline.secret import Masker

_CONFIGURATION = 2


def main(pipe: int, memory: int) -> int:
    """Returns the exit status."""
    _hear_signals()
    job = Job.from_line(_read_line(pipe))
    control = _Control(pipe, job)
    loaded = load(
        [Text(path=path, text=text) for path, text in job.files], environment=os.environ, overrides=job.overrides
    )
    prepared, problems = prepare(loaded, app_dir=Path(job.app_dir), only=job.only)
    if errors := [each for each in (*loaded.problems, *problems) if each.severity == "error"]:
        # They were right when the supervisor read them: something beside the file has changed.
        print(*map(render, errors), sep="\n", file=sys.stderr)
        return _CONFIGURATION
    masker = Masker(secret for each in loaded.pipelines for secret in each.secrets)
    set_up_logging(job.log, mask=masker, worker=job.worker)
    events = Events()
    lines = LogLines(job.log, now=SystemClock().now)
    events.listen(lines)
    plans = [each.plan for each in prepared]
    table = Table(plans, rows=job.rows, fileno=memory)
    in_hand = InHand.shared(plans, rows=job.rows, fileno=memory)
    brokers = [at(each.plan.pipeline.broker, url) for each, url in zip(prepared, job.broker_urls, strict=True)]

    def emit(event: Event) -> None:
        if control.orphaned or not isinstance(event, Stopping):  # otherwise the supervisor says it
            events.emit(event)

    async def work() -> End:
        clock = SystemClock()
        stop = Stop(clock=clock, shutdown_timeout=job.shutdown_timeout)
        control.obeyed_by(stop)
        around = Surroundings(
            clock=clock,
            emit=emit,
            mask=masker,
            stopping=asyncio.Event(),
            run_id=job.run_id,
            verbose=job.log.level == "debug",
            sources=job.sources,
            first_start=False,
            alone=Alone(in_hand.row(job.row), clock),
            checkpoints=Path(job.checkpoints),
        )
        wanted = Wanted(until_idle=False, wait_for_broker=True, progress=False)
        end = await run(prepared, brokers, table.rows[job.row], stop, around, wanted)
        lines.flush()
        control.tidy_up()
        if await something_still_runs(clock):
            _leave(end)
        return end

    return run_on(choose(job.loop, emit), work())


def _hear_signals() -> None:
    """Ctrl-C and the end of a terminal reach the whole group; there the supervisor decides. TERM may come from
    somebody who tells the whole group (systemd), or this worker alone; nothing has begun yet. The supervisor had them
    held back until now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hear(signal.SIGTERM, lambda _: os._exit(End.FINE))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _Control:
    """The pipe from the supervisor. A byte means stop, its end means that the supervisor has died. A thread listens, so
    that neither an import nor a handler that blocks the loop keeps a worker alive that nobody would ever kill."""

    def __init__(self, pipe: int, job: Job) -> None:
        self.orphaned = False
        self._pipe = pipe
        self._job = job
        self._loop: asyncio.AbstractEventLoop | None = None
        Thread(target=self._listen, name="control", daemon=True).start()

    def obeyed_by(self, stop: Stop) -> None:
        """From here on there may be something to end in order."""
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        hear(signal.SIGTERM, lambda _: self._ask("SIGTERM received"))

    def tidy_up(self) -> None:
        """What the supervisor can no longer do."""
        if self.orphaned and self._job.sources:
            shutil.rmtree(self._job.checkpoints, ignore_errors=True)

    def _listen(self) -> None:
        while os.read(self._pipe, 1):
            self._ask("told by the supervisor")
        self.orphaned = True
        late = Timer(self._job.shutdown_timeout + GRACE, self._end_late)
        late.daemon = True
        late.start()
        self._ask("the supervisor has died")

    def _ask(self, reason: str) -> None:
        if self._loop is None:
            self.tidy_up()
            os._exit(End.FINE)
        with suppress(RuntimeError):  # the loop has just ended
            self._loop.call_soon_threadsafe(self._stop.request, reason)

    def _end_late(self) -> None:
        self.tidy_up()
        os._exit(End.CUT_OFF)


def _leave(status: int) -> NoReturn:
    """A handler that still runs was named; the process leaves without waiting for it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a terminal that was closed
            stream.flush()
    os._exit(status)


def _read_line(pipe: int) -> bytes:
    told = bytearray()
    while b"\n" not in told:
        got = os.read(pipe, 65536)
        if not got:
            sys.exit(0)  # the supervisor has gone before it said what to do
        told += got
    line, _, more = bytes(told).partition(b"\n")
    if more:
        sys.exit(0)  # it was told to stop before it had begun
    return line


if __name__ == "__main__":
    try:
        status = main(int(sys.argv[1]), int(sys.argv[2]))
    except BaseException as raised:
        error = innermost(raised)
        if not isinstance(error, PiperunError):
            raise
        logging.getLogger("piperun.pipeline").error("%s", error)
        status = End.FAILED
    _leave(status)
