"""From prepared files to a whole run: the embedded broker, one process or a supervisor with workers, signals, the last
line. What one process does stands in `run.py`, what the supervisor does in `workers.py`."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pipeline.amqp.link import Generation, Link
from pipeline.clock import Clock
from pipeline.config.load import Loaded, Overrides
from pipeline.config.model import Broker, Log, Loop, Runtime
from pipeline.events import Event, Notice, Summary
from pipeline.runtime.assembly import Surroundings, declare_first
from pipeline.runtime.broker import Brokers, brokers
from pipeline.runtime.door import Door, answering, opened
from pipeline.runtime.idle import unseen, until_idle, waiting
from pipeline.runtime.job import Job
from pipeline.runtime.loop import choose, run_on
from pipeline.runtime.plan import Plan
from pipeline.runtime.prepare import Prepared
from pipeline.runtime.processors import usable
from pipeline.runtime.run import End, Wanted, run, something_still_runs
from pipeline.runtime.status import Roll, status
from pipeline.runtime.stop import Stop, on_signals
from pipeline.runtime.table import Table
from pipeline.runtime.workers import Supervisor
from pipeline.values import Frozen, replace


class Launch(Frozen, frozen=True, kw_only=True):
    """Everything that was decided before anything connects."""

    loaded: Loaded
    overrides: Overrides
    prepared: tuple[Prepared, ...]
    runtime: Runtime
    log: Log
    app_dir: Path
    only: tuple[str, ...]
    progress: bool
    clock: Clock
    emit: Callable[[Event], None]
    mask: Callable[[str], str]
    leave: Callable[[End], None]  # end the process at once, without waiting for handlers that cannot be stopped

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(each.plan for each in self.prepared)


def launch(wanted: Launch) -> End:
    """Run to the end, and say what became of everything. Raises `BrokerError`, `TopologyDiffers`, `LifespanError`,
    `WorkerFailed`, and `UsageError` where the event loop or the port that is wanted cannot be had."""
    loop = choose(wanted.runtime.loop, wanted.emit)
    with ExitStack() as stack:
        door = stack.enter_context(opened(wanted.runtime.http))
        at = stack.enter_context(brokers([each.pipeline for each in wanted.plans], wanted.clock))
        if at.embedded is not None:
            wanted.emit(Notice(subject="broker", sentence=_MEMORY_ONLY))
        if wanted.runtime.workers:
            checkpoints = stack.enter_context(tempfile.TemporaryDirectory(prefix="piperun-"))
            return run_on(loop, _supervise(wanted, at, Path(checkpoints), loop, door))
        return run_on(loop, _run_here(wanted, at, door))


_MEMORY_ONLY = "running on the embedded broker, in memory only: what it holds is gone when this ends"


async def _run_here(wanted: Launch, at: Brokers, door: Door | None) -> End:
    started = wanted.clock.now()
    table = Table(wanted.plans, rows=1)
    stop = Stop(clock=wanted.clock, shutdown_timeout=wanted.runtime.shutdown_timeout)
    around = Surroundings(
        clock=wanted.clock,
        emit=wanted.emit,
        mask=wanted.mask,
        stopping=asyncio.Event(),
        run_id=secrets.token_hex(4),
        verbose=wanted.log.level == "debug",
        sources=True,
        first_start=True,
        alone=None,
        checkpoints=None,
    )
    task = Wanted(
        until_idle=wanted.runtime.until == "idle",
        wait_for_broker=wanted.runtime.startup == "wait",
        progress=wanted.progress,
    )
    with on_signals(stop):
        stands = partial(status, table, wanted.plans, stop, wanted.mask, None)
        async with answering(door, stands, wanted.emit):
            end = await run(wanted.prepared, at.of_files, table.rows[0], stop, around, task)
        _say_what_became(wanted, at, table, started)
        if await something_still_runs(wanted.clock):
            wanted.leave(end)
        return end


def _say_what_became(wanted: Launch, at: Brokers, table: Table, started: float) -> None:
    wanted.emit(
        Summary(
            seconds=wanted.clock.now() - started,
            consumers=table.consumer_totals(),
            producers=table.producer_totals(),
            gone_with_broker=at.embedded.message_count if at.embedded is not None else None,
        )
    )


async def _supervise(wanted: Launch, at: Brokers, checkpoints: Path, loop: Loop, door: Door | None) -> End:
    started = wanted.clock.now()
    stop = Stop(clock=wanted.clock, shutdown_timeout=wanted.runtime.shutdown_timeout)
    run_id = secrets.token_hex(4)
    count = _how_many(wanted)

    def job(row: int) -> Job:
        return Job(
            worker=row + 1,
            row=row,
            rows=count,
            files=tuple((each.path, each.text or "") for each in wanted.loaded.texts),
            broker_urls=at.urls,
            overrides=wanted.overrides,
            app_dir=str(wanted.app_dir),
            only=wanted.only,
            run_id=run_id,
            sources=row == 0,
            shutdown_timeout=wanted.runtime.shutdown_timeout,
            checkpoints=str(checkpoints),
            loop=loop,
            log=wanted.log,
        )

    roll = Roll()
    supervisor = Supervisor(
        count=count,
        plans=wanted.plans,
        job=job,
        stop=stop,
        clock=wanted.clock,
        emit=roll.listening(wanted.emit),
    )

    def forced() -> None:
        supervisor.kill_all()
        shutil.rmtree(checkpoints, ignore_errors=True)

    with on_signals(stop, forced=forced):
        watch = _Watch(wanted, at.of_files, supervisor, stop)
        stands = partial(status, supervisor.table, wanted.plans, stop, wanted.mask, roll)
        async with answering(door, stands, wanted.emit):
            try:
                end = await _watched(watch, supervisor) if await stop.unless_requested(watch.open()) else End.FINE
            finally:
                await watch.close()
        _say_what_became(wanted, at, supervisor.table, started)
        if supervisor.failure is not None:
            raise supervisor.failure
        return end


def _how_many(wanted: Launch) -> int:
    """Sources run in one worker; without consumers there is nothing for a second one to do."""
    if not any(plan.consumers for plan in wanted.plans):
        return 1
    if wanted.runtime.workers != "auto":
        return wanted.runtime.workers
    found = usable()
    many = "1 worker" if found.count == 1 else f"{found.count} workers"
    sentence = f"`workers: auto` is {many} here, one for each processor that piperun may use: {found.because}"
    wanted.emit(Notice(subject="pipeline", sentence=sentence))
    return found.count


async def _watched(watch: "_Watch", supervisor: Supervisor) -> End:
    async with asyncio.TaskGroup() as tasks:
        watching = watch.start(tasks)
        end = await supervisor.run()
        for task in watching:
            task.cancel()
    return end


class _Watch:
    """The supervisor's own connections: they declare everything before the first worker starts, so that a difference
    ends the run before anything is consumed, and they see when there is nothing left to do."""

    def __init__(self, wanted: Launch, at: Sequence[Broker], supervisor: Supervisor, stop: Stop) -> None:
        self._wanted = wanted
        self._supervisor = supervisor
        self._stop = stop
        self._links = [self._link(plan, broker) for plan, broker in zip(wanted.plans, at, strict=True)]

    async def open(self) -> None:
        for link in self._links:
            await link.open(wait=self._wanted.runtime.startup == "wait")

    def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        watching = [tasks.create_task(link.keep()) for link in self._links]
        if self._wanted.runtime.until == "idle" and any(plan.consumers for plan in self._wanted.plans):
            watching.append(tasks.create_task(self._stop_when_idle()))
        return watching

    async def close(self) -> None:
        for link in self._links:
            await link.close(timeout=1.0)

    async def _stop_when_idle(self) -> None:
        looks = [_look(link, plan) for link, plan in zip(self._links, self._wanted.plans, strict=True)]
        rows, plans = self._supervisor.table.rows, self._wanted.plans
        await until_idle(rows, looks, self._wanted.clock, unseen=unseen(plans))
        self._stop.request("nothing is left to do")

    def _link(self, plan: Plan, broker: Broker) -> Link:
        first = True

        async def declare_once(generation: Generation) -> None:
            nonlocal first
            if first:
                await declare_first(generation, plan.topologies["publish"])
                first = False

        return Link(
            broker=broker,
            name=f"piperun {plan.pipeline.name} supervisor",
            purpose="supervisor",
            clock=self._wanted.clock,
            emit=self._wanted.emit,
            declare=declare_once,
            parts=[],
        )


def _look(link: Link, plan: Plan) -> Callable[[], Awaitable[int | None]]:
    """Of an exclusive queue only the worker's own connection sees the depth. It is left out: while messages wait there
    and a slot is free, each look finds more that were delivered."""
    seen = replace(plan, consumers=tuple(each for each in plan.consumers if not each.queue.exclusive))
    return lambda: waiting(seen, lambda _: link)
