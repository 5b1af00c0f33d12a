"""The numbers of every worker, in memory that processes share: a row each, so that what a killed worker had in hand can
still be read. Integers only; what they are counted for stands in `ledger.py`."""

import mmap
from collections.abc import Sequence
from enum import IntEnum
from itertools import chain

from pipeline.ledger import CONSUMER_TERMS, DUPLICATES, WIDTH, ConsumerLedger, ProducerLedger, total
from pipeline.runtime.plan import Plan
from pipeline.runtime.standing import Standing, width_of

_CELL = 8  # bytes


class Phase(IntEnum):
    """How far a worker has come. It only ever grows, until the supervisor clears the row for the next one. One that
    stops before it was ready stays at the beginning."""

    STARTING = 0
    READY = 1
    STOPPING = 2


class Row:
    """One worker's part: its phase, how many of its sources still run, and in the order of the plans its ledgers, and
    how its connections and consumers stand."""

    def __init__(self, cells: memoryview, plans: Sequence[Plan]) -> None:
        self._cells = cells
        at = _HEAD
        self.consumers: list[list[ConsumerLedger]] = []
        self.producers: list[list[ProducerLedger]] = []
        for plan in plans:
            self.consumers.append([ConsumerLedger(cells[at + n * WIDTH :][:WIDTH]) for n in range(len(plan.consumers))])
            at += len(plan.consumers) * WIDTH
            self.producers.append([ProducerLedger(cells[at + n * WIDTH :][:WIDTH]) for n in range(len(plan.producers))])
            at += len(plan.producers) * WIDTH
        self.standings: list[Standing] = []
        for plan in plans:
            self.standings.append(Standing(cells[at:][: width_of(plan)], plan))
            at += width_of(plan)

    @property
    def phase(self) -> Phase:
        return Phase(self._cells[0])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._cells[0] = phase

    @property
    def sources_left(self) -> int:
        return self._cells[1]

    @sources_left.setter
    def sources_left(self, count: int) -> None:
        self._cells[1] = count

    @property
    def in_hand(self) -> int:
        return sum(ledger.in_hand for ledger in chain.from_iterable(self.consumers))

    @property
    def pending(self) -> int:
        return sum(ledger.pending for ledger in chain.from_iterable(self.producers))

    @property
    def delivered(self) -> int:
        return sum(ledger.numbers()["delivered"] for ledger in chain.from_iterable(self.consumers))

    @property
    def retried(self) -> int:
        return sum(ledger.numbers()["retried"] for ledger in chain.from_iterable(self.consumers))

    def clear_phase(self) -> None:
        """For the next worker of this row: the numbers stay and go on."""
        self._cells[0] = Phase.STARTING
        self._cells[1] = 0
        for standing in self.standings:
            standing.clear()


_HEAD = 2


class Table:
    """All rows. Made by whoever starts the workers; a worker opens it again by its file descriptor."""

    def __init__(self, plans: Sequence[Plan], *, rows: int, fileno: int = -1) -> None:
        self._plans = plans
        width = _width(plans)
        self._memory = mmap.mmap(fileno, rows * width * _CELL)
        cells = memoryview(self._memory).cast("q")
        self.rows = [Row(cells[n * width :][:width], plans) for n in range(rows)]

    @staticmethod
    def size(plans: Sequence[Plan], *, rows: int) -> int:
        """How many bytes the file behind the table must have."""
        return rows * _width(plans) * _CELL

    def consumer_totals(self) -> dict[str, int]:
        nothing = dict.fromkeys((*CONSUMER_TERMS, "in_hand", DUPLICATES), 0)
        ledgers = [each.numbers() for row in self.rows for each in chain.from_iterable(row.consumers)]
        return total([nothing, *ledgers])

    def producer_totals(self) -> dict[str, int]:
        ledgers = [each.numbers() for row in self.rows for each in chain.from_iterable(row.producers)]
        return total([{"read": 0, "confirmed": 0, "failed": 0, "pending": 0}, *ledgers])


def _width(plans: Sequence[Plan]) -> int:
    """Cells of a row."""
    objects = sum(len(plan.consumers) + len(plan.producers) for plan in plans)
    return _HEAD + objects * WIDTH + sum(map(width_of, plans))
