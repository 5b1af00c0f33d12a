"""One process of a run: open in order, start, wait until told or idle, stop in order. The list of steps here is the
documentation; the steps stand below in the same order. Terminals and other processes are not known here."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from enum import IntEnum
from typing import Any

from pipeline.amqp.self_check import Line, choose_line
from pipeline.clock import Clock
from pipeline.config.model import Broker
from pipeline.errors import LifespanError
from pipeline.events import Notice, ProducerProgress, Ready, Stopping
from pipeline.runtime.assembly import Assembly, Surroundings
from pipeline.runtime.consume import ConsumerRun
from pipeline.runtime.idle import unseen, until_idle
from pipeline.runtime.lifespans import Lifespans
from pipeline.runtime.prepare import Lifespan, Prepared
from pipeline.runtime.produce import ProducerRun
from pipeline.runtime.roll_call import RollCall
from pipeline.runtime.stop import Stop
from pipeline.runtime.table import Phase, Row
from pipeline.runtime.watchdog import LoopWatchdog
from pipeline.values import Frozen, replace

# Of the time to stop: so long consumers go on while the last confirms of the sources arrive.
_CONFIRM_SHARE = 0.25
_PROGRESS_EVERY = 0.2  # seconds
_LAST_CHANCE = 0.5  # seconds for what was cancelled at the very end


class End(IntEnum):
    """How a run ended. A worker process says it to its supervisor as its exit status."""

    FINE = 0
    FAILED = 1  # a producer failed for good
    CUT_OFF = 5  # handlers were given up at `shutdown_timeout`


class Wanted(Frozen, frozen=True, kw_only=True):
    """What this process is to do beyond the files. `until_idle`: it watches for idleness itself."""

    until_idle: bool
    wait_for_broker: bool
    progress: bool


async def run(
    prepared: Sequence[Prepared], brokers: Sequence[Broker], row: Row, stop: Stop, around: Surroundings, wanted: Wanted
) -> End:
    """Run until `stop` is requested, the pipeline is idle, or a producer fails for good. Raises `BrokerError` and
    `TopologyDiffers` at the first start, and `LifespanError`."""
    with LoopWatchdog(clock=around.clock, emit=around.emit):
        return await _run(prepared, brokers, row, stop, around, wanted)


async def _run(
    prepared: Sequence[Prepared], brokers: Sequence[Broker], row: Row, stop: Stop, around: Surroundings, wanted: Wanted
) -> End:
    line = await choose_line(lambda why: around.emit(Notice(subject="broker", sentence=why, level="warning")))
    process = _Process(prepared, brokers, row, stop, around, wanted, line)
    if not await process.opened():
        return End.FINE
    async with asyncio.TaskGroup() as tasks:
        process.keep_publishing(tasks)
        try:
            if await process.entered_lifespans():
                await process.consume(tasks)
                process.produce(tasks)
                await process.until_stopped(tasks)
        except LifespanError:
            stop.request("a lifespan failed")
            await process.shut_down(tasks)
            raise
        return await process.shut_down(tasks)
    raise AssertionError("the group is left by the return above")


async def something_still_runs(clock: Clock) -> bool:
    """Whether a handler still runs although it was cancelled, at the end of a run. Nothing may wait for it, as the end
    of an event loop would."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    return not await _all_end(left, _LAST_CHANCE, clock)


async def _all_end(tasks: Collection[asyncio.Task[Any]], seconds: float, clock: Clock) -> bool:
    """Whether they end in time. `wait` leaves them alone when time is up; `gather` would wait for its children."""
    try:
        async with clock.deadline(seconds):
            if tasks:
                await asyncio.wait(tasks)
    except TimeoutError:
        return False
    return True


class _Process:
    def __init__(
        self,
        prepared: Sequence[Prepared],
        brokers: Sequence[Broker],
        row: Row,
        stop: Stop,
        around: Surroundings,
        wanted: Wanted,
        line: Line,
    ) -> None:
        parts = zip(prepared, brokers, row.consumers, row.producers, strict=True)
        heard = [replace(around, emit=each.listening(around.emit, around.mask)) for each in row.standings]
        self._assemblies = [Assembly(*part, told, line) for part, told in zip(parts, heard, strict=True)]
        self._consumers: list[ConsumerRun] = [run for each in self._assemblies for run in each.consumers]
        self._producers: list[ProducerRun] = [run for each in self._assemblies for run in each.producers]
        self._row = row
        self._stop = stop
        self._around = around
        self._wanted = wanted
        self._lifespans = Lifespans(_by_key(prepared))
        self._failed = False
        self._watching: list[asyncio.Task[None]] = []
        self._bugs: asyncio.Queue[BaseException] = asyncio.Queue()
        row.sources_left = len(self._producers)

    # Opening

    async def opened(self) -> bool:
        """Connect and declare everything, before anything is consumed. False: told to stop meanwhile."""
        try:
            if await self._stop.unless_requested(self._open()):
                return True
        except BaseException:
            await self._close_links()
            raise
        await self._close_links()
        return False

    async def _open(self) -> None:
        for assembly in self._assemblies:
            await assembly.open(wait=self._wanted.wait_for_broker)

    def keep_publishing(self, tasks: asyncio.TaskGroup) -> None:
        for assembly in self._assemblies:
            tasks.create_task(assembly.links["publish"].keep())

    async def entered_lifespans(self) -> bool:
        """What handlers find in `context.state`. False: told to stop meanwhile."""
        return await self._stop.unless_requested(self._enter_lifespans())

    async def _enter_lifespans(self) -> None:
        try:
            values = await self._lifespans.enter()
        except LifespanError as error:
            raise LifespanError(self._around.mask(str(error))) from None
        for number, assembly in enumerate(self._assemblies):
            shared = values.get(f"{number}")
            names = assembly.prepared.handlers
            assembly.give_state({name: values.get(f"{number}.{name}", shared) for name in names})

    # Running

    async def consume(self, tasks: asyncio.TaskGroup) -> None:
        """Every consumer is registered at the broker when this returns, or in conflict and reported."""
        self._watching.append(tasks.create_task(self._raise_bugs()))
        for run in self._consumers:
            run.start(self._bugs.put_nowait)
        for assembly in self._assemblies:
            for name, link in assembly.links.items():
                if name != "publish":
                    tasks.create_task(link.keep())
        if not await self._stop.unless_requested(self._started()):
            return
        self._row.phase = Phase.READY
        self._around.emit(
            Ready(
                pipelines=tuple(each.plan.pipeline.name for each in self._assemblies),
                consumers=len(self._consumers),
                producers=len(self._producers),
            )
        )
        self._watching.append(tasks.create_task(self._call_the_roll()))

    async def _call_the_roll(self) -> None:
        async with asyncio.TaskGroup() as calling:
            for assembly in self._assemblies:
                present = [
                    (run.plan, run.subscription, assembly.links[run.plan.link])
                    for run in assembly.consumers
                    if run.subscription is not None
                ]
                roll = RollCall(present, clock=self._around.clock)
                calling.create_task(roll.keep())

    async def _raise_bugs(self) -> None:
        """An exception of ours in a slot ends the run, as it would in a task of the group."""
        raise await self._bugs.get()

    async def _started(self) -> None:
        for assembly in self._assemblies:
            await assembly.publisher.wait_ready()
        for run in self._consumers:
            assert run.subscription is not None
            await run.subscription.wait_started()

    def produce(self, tasks: asyncio.TaskGroup) -> None:
        self._watching.append(tasks.create_task(self._run_producers()))

    async def _run_producers(self) -> None:
        async with asyncio.TaskGroup() as producing:
            for run in self._producers:
                producing.create_task(self._run_producer(run), name=f"producer.{run.producer.name}")
            if self._wanted.progress and self._producers:
                producing.create_task(self._show_progress())
        if not self._consumers:
            self._stop.request("there is nothing more to send" if self._producers else "everything is declared")

    async def _run_producer(self, run: ProducerRun) -> None:
        await run.run()
        self._row.sources_left -= 1
        if run.failure is not None:
            self._stop.request(f"producer.{run.producer.name} failed")

    async def _show_progress(self) -> None:
        while not all(run.finished for run in self._producers):
            for run in self._producers:
                if (progress := run.source.progress()) is not None:
                    done, total, unit = progress
                    self._around.emit(ProducerProgress(producer=run.producer.name, done=done, total=total, unit=unit))
            await self._around.clock.sleep(_PROGRESS_EVERY)

    async def until_stopped(self, tasks: asyncio.TaskGroup) -> None:
        """The one wait of a run without a deadline: for a signal, a failed producer, or idleness."""
        if self._wanted.until_idle and self._consumers:
            self._watching.append(tasks.create_task(self._stop_when_idle()))
        await self._stop.event.wait()

    async def _stop_when_idle(self) -> None:
        looks = [each.waiting for each in self._assemblies]
        plans = [each.plan for each in self._assemblies]
        await until_idle([self._row], looks, self._around.clock, unseen=unseen(plans))
        self._stop.request("nothing is left to do")

    # Stopping, in the order that loses nothing and repeats little

    async def shut_down(self, tasks: asyncio.TaskGroup) -> End:
        """All of it within `shutdown_timeout` from the request."""
        self._begin_stopping()
        await self._end_sources()
        cut_off = await self._drain(tasks)
        for run in self._producers:
            run.cut_off()
        streams = [stream.close() for each in self._assemblies for stream in each.streams]
        await self._bounded(streams, self._stop.remaining)
        await self._bounded([run.settled() for run in self._producers], self._stop.remaining)
        await self._leave_lifespans()
        await self._close_links()
        for task in self._watching:
            task.cancel()
        failed = self._failed or any(run.failure is not None for run in self._producers)
        return End.FAILED if failed else End.CUT_OFF if cut_off else End.FINE

    def _begin_stopping(self) -> None:
        if self._row.phase is Phase.READY:
            self._row.phase = Phase.STOPPING
        self._around.stopping.set()
        self._around.emit(Stopping(reason=self._stop.reason, shutdown_timeout=self._stop.shutdown_timeout))

    async def _end_sources(self) -> None:
        for run in self._producers:
            run.end_source()
        waiting = [run.settled() for run in self._producers]
        await self._bounded(waiting, self._stop.remaining * _CONFIRM_SHARE)

    async def _drain(self, tasks: asyncio.TaskGroup) -> int:
        """Handlers end, the unstarted go back; what still runs when time is up is given back, too."""
        draining = {tasks.create_task(run.drain()): run for run in self._consumers}
        confirmed = [tasks.create_task(run.settled()) for run in self._producers]
        if not await _all_end([*draining, *confirmed], self._stop.remaining_for_work, self._around.clock):
            for waiting in confirmed:
                waiting.cancel()
        late = [run for task, run in draining.items() if not task.done()]
        for task in draining:
            task.cancel()  # it would wait for ever for a handler that swallows its cancellation
        return sum(await asyncio.gather(*(run.cut_off() for run in late)))

    async def _leave_lifespans(self) -> None:
        try:
            await self._bounded([self._lifespans.leave()], self._stop.remaining)
        except LifespanError as error:
            self._failed = True
            self._around.emit(Notice(subject="pipeline", sentence=self._around.mask(str(error)), level="error"))
        self._lifespans.give_up()

    async def _close_links(self) -> None:
        links = [link for assembly in self._assemblies for link in assembly.links.values()]
        # At least a moment, so that the broker gets what is already in the socket.
        await asyncio.gather(*(link.close(timeout=max(0.5, self._stop.remaining)) for link in links))
        await self._bounded([each.close_keys() for each in self._assemblies], max(0.5, self._stop.remaining))

    async def _bounded(self, steps: Iterable[Coroutine[Any, Any, object]], seconds: float) -> None:
        """All of them, or as far as they get. Raises what the first of them raises."""
        doing = [asyncio.ensure_future(step) for step in steps]
        if not await _all_end(doing, seconds, self._around.clock):
            for task in doing:
                task.cancel()
        for task in doing:
            if task.done() and not task.cancelled():
                task.result()


def _by_key(prepared: Sequence[Prepared]) -> dict[str, Lifespan]:
    """Every lifespan under the number of its file, and the consumer's name where it is a consumer's own."""
    found: dict[str, Lifespan] = {}
    for number, each in enumerate(prepared):
        if each.lifespan is not None:
            found[f"{number}"] = each.lifespan
        found |= {f"{number}.{name}": lifespan for name, lifespan in each.lifespans.items()}
    return found
