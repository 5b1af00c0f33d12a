"""How the whole run stands, read from the table when somebody asks: for one process, or for a supervisor with its
workers. What is said of it, and over which line, is not known here."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from pipeline.events import Event, WorkerDied, WorkerStarted
from pipeline.ledger import total
from pipeline.observe.health import Numbers, Phase, Process, Status
from pipeline.runtime.plan import Plan
from pipeline.runtime.stop import Stop
from pipeline.runtime.table import Phase as PhaseOfRow
from pipeline.runtime.table import Row, Table

_PHASES: Mapping[PhaseOfRow, Phase] = {
    PhaseOfRow.STARTING: "starting",
    PhaseOfRow.READY: "ready",
    PhaseOfRow.STOPPING: "stopping",
}


class Roll:
    """Which workers live, from the supervisor's events."""

    def __init__(self) -> None:
        self.restarts = 0
        self.deaths: dict[int, str] = {}  # by number from 1, of those that are dead now
        self._begun: set[int] = set()

    def listening(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        def hear(event: Event) -> None:
            match event:
                case WorkerStarted(worker=number):
                    self.restarts += number in self._begun
                    self._begun.add(number)
                    self.deaths.pop(number, None)
                case WorkerDied(worker=number, cause=cause):
                    self.deaths[number] = cause
                case _:
                    pass
            emit(event)

        return hear


def status(table: Table, plans: Sequence[Plan], stop: Stop, mask: Callable[[str], str], roll: Roll | None) -> Status:
    """`roll` is None where one process does everything. Names are masked: a file may have them from a variable."""
    return Status(
        stopping=stop.requested,
        processes=tuple(_process(number, row, roll) for number, row in enumerate(table.rows, 1)),
        restarts=None if roll is None else roll.restarts,
        consumers=_added_up(
            [(plan.pipeline.name, each.consumer.name) for plan in plans for each in plan.consumers],
            [[each.numbers() for each in chain.from_iterable(row.consumers)] for row in table.rows],
            mask,
        ),
        producers=_added_up(
            [(plan.pipeline.name, each.name) for plan in plans for each in plan.producers],
            [[each.numbers() for each in chain.from_iterable(row.producers)] for row in table.rows],
            mask,
        ),
    )


def _process(number: int, row: Row, roll: Roll | None) -> Process:
    death = roll.deaths.get(number) if roll else None
    return Process(
        name=f"worker {number}" if roll else "",
        phase="dead" if death is not None else _PHASES[row.phase],
        reason=death or "",
        connections=tuple(each for standing in row.standings for each in standing.connections()),
        consumers=tuple(each for standing in row.standings for each in standing.consumers()),
    )


def _added_up(
    names: Sequence[tuple[str, str]], of_rows: Sequence[Sequence[Mapping[str, int]]], mask: Callable[[str], str]
) -> tuple[Numbers, ...]:
    return tuple(
        Numbers(pipeline=mask(pipeline), name=mask(name), terms=total(list(of_one)))
        for (pipeline, name), *of_one in zip(names, *of_rows, strict=True)
    )
