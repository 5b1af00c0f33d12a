"""A worker process, started by `workers.py`: reads its job, runs the files as one process, and ends with a status that
the supervisor understands. The end of the control pipe means stop, also when the supervisor itself has died."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from pipeline.clock import SystemClock
from pipeline.config.load import Text, load
from pipeline.errors import PiperunError, innermost
from pipeline.events import Events, Stopping
from pipeline.observe.logs import LogLines, set_up_logging
from pipeline.runtime.assembly import Surroundings
from pipeline.runtime.broker import at
from pipeline.runtime.job import Job
from pipeline.runtime.prepare import prepare
from pipeline.runtime.run import End, Wanted, run, something_still_runs
from pipeline.runtime.stop import Stop
from pipeline.runtime.table import Table
from pipeline.secret import Masker


def main(control: int, memory: int) -> int:
    """Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    job = Job.from_line(_read_line(control))
    loaded = load(
        [Text(path=path, text=text) for path, text in job.files], environment=os.environ, overrides=job.overrides
    )
    prepared, problems = prepare(loaded, app_dir=Path(job.app_dir), only=job.only)
    if any(problem.severity == "error" for problem in (*loaded.problems, *problems)):
        return 2  # it was right when the supervisor read it: something beside the file has changed
    masker = Masker(secret for each in loaded.pipelines for secret in each.secrets)
    set_up_logging(job.log, mask=masker, worker=job.worker)
    events = Events()
    lines = LogLines(job.log, now=SystemClock().now)
    events.listen(lines)
    table = Table([each.plan for each in prepared], rows=job.rows, fileno=memory)
    brokers = [at(each.plan.pipeline.broker, url) for each, url in zip(prepared, job.broker_urls, strict=True)]

    async def work() -> End:
        clock = SystemClock()
        stop = Stop(clock=clock, shutdown_timeout=job.shutdown_timeout)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.request, "SIGTERM received")
        loop.add_reader(control, _on_control, loop, control, stop)
        around = Surroundings(
            clock=clock,
            emit=lambda event: None if isinstance(event, Stopping) else events.emit(event),  # the supervisor says it
            mask=masker,
            stopping=asyncio.Event(),
            run_id=job.run_id,
            verbose=job.log.level == "debug",
            embedded=job.checkpoints is not None,
            sources=job.sources,
            first_start=False,
            checkpoints=Path(job.checkpoints) if job.checkpoints else None,
        )
        wanted = Wanted(until_idle=False, wait_for_broker=True, progress=False)
        end = await run(prepared, brokers, table.rows[job.row], stop, around, wanted)
        lines.flush()
        if await something_still_runs(clock):
            _leave(end)
        return end

    return asyncio.run(work())


def _on_control(loop: asyncio.AbstractEventLoop, control: int, stop: Stop) -> None:
    if not os.read(control, 1):
        loop.remove_reader(control)
        stop.request("told by the supervisor")


def _leave(status: int) -> NoReturn:
    """A handler that still runs was named; the process leaves without waiting for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _read_line(control: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        got = os.read(control, 65536)
        if not got:
            sys.exit(0)  # the supervisor has gone before it said what to do
        line += got
    return bytes(line)


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
