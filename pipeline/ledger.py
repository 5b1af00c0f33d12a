"""The numbers of one consumer or producer, and the sum that must come out. Plain integers in cells that another
process may share, so that what a killed worker had in hand can still be read. Who reads them is not known here."""

from collections.abc import Mapping
from typing import Final, Protocol

CONSUMER_TERMS: Final = (
    "delivered",
    "done",
    "retried",
    "dead_lettered",
    "dropped",
    "returned",
    "redelivery_expected",
)
DUPLICATES: Final = "duplicates"  # no term of the sum: so many of what is done were skipped as duplicates
PRODUCER_TERMS: Final = ("read", "confirmed", "failed")
WIDTH: Final = max(len(CONSUMER_TERMS) + 1, len(PRODUCER_TERMS) + 1)


class Cells(Protocol):
    """Integers by position: a list, or memory that processes share."""

    def __getitem__(self, at: int, /) -> int: ...

    def __setitem__(self, at: int, number: int, /) -> None: ...


class ConsumerLedger:
    """delivered = done + retried + dead-lettered + dropped + returned + to be delivered again + in hand.

    Written by one process only; when that has died, the supervisor settles what it had in hand."""

    __slots__ = ("_cells",)

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def delivered(self, count: int) -> None:
        self._cells[0] += count

    def done(self) -> None:
        self._cells[1] += 1

    def retried(self) -> None:
        self._cells[2] += 1

    def dead_lettered(self) -> None:
        self._cells[3] += 1

    def dropped(self) -> None:
        self._cells[4] += 1

    def returned(self) -> None:
        self._cells[5] += 1

    def redelivery_expected(self) -> None:
        self._cells[6] += 1

    def duplicate(self) -> None:
        """Recognised, and about to be acknowledged without being handled; it counts as done, too."""
        self._cells[len(CONSUMER_TERMS)] += 1

    @property
    def in_hand(self) -> int:
        cells = self._cells
        return cells[0] - cells[1] - cells[2] - cells[3] - cells[4] - cells[5] - cells[6]

    def numbers(self) -> dict[str, int]:
        """Of one moment, while another process counts on: each cell is read once, and `delivered`, which grows first,
        last. So the sum comes out, and nothing in it is negative."""
        fates = {term: self._cells[at] for at, term in enumerate(CONSUMER_TERMS) if at}
        delivered = self._cells[0]
        in_hand = delivered - sum(fates.values())
        return {"delivered": delivered, **fates, "in_hand": in_hand, DUPLICATES: self._cells[len(CONSUMER_TERMS)]}


class ProducerLedger:
    """read = confirmed + failed + pending. `finished` says that its source has come to its end, so that a worker that
    is started again does not begin it anew."""

    __slots__ = ("_cells",)

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def read(self) -> None:
        self._cells[0] += 1

    def confirmed(self) -> None:
        self._cells[1] += 1

    def failed(self) -> None:
        self._cells[2] += 1

    def take_back(self) -> None:
        """What was pending when its process died is read again, or was never sent: it does not count as read."""
        self._cells[0] -= self.pending

    def finish(self) -> None:
        self._cells[len(PRODUCER_TERMS)] = 1

    @property
    def finished(self) -> bool:
        return self._cells[len(PRODUCER_TERMS)] == 1

    @property
    def pending(self) -> int:
        return self._cells[0] - self._cells[1] - self._cells[2]

    def numbers(self) -> dict[str, int]:
        """Read as in a consumer's ledger."""
        ends = {term: self._cells[at] for at, term in enumerate(PRODUCER_TERMS) if at}
        read = self._cells[0]
        return {"read": read, **ends, "pending": read - sum(ends.values())}


def total(ledgers: list[Mapping[str, int]]) -> dict[str, int]:
    """The same terms, added up."""
    sums: dict[str, int] = {}
    for numbers in ledgers:
        for term, number in numbers.items():
            sums[term] = sums.get(term, 0) + number
    return sums
