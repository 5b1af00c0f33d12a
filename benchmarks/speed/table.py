"""Tables of what was measured: values in rows, printed for a terminal or as Markdown. Which figures stand in a table is
decided here, too; how they came about is not known."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.speed.figures import Spread, ratio
from benchmarks.speed.peers import PIPERUN
from benchmarks.speed.rounds import Row
from benchmarks.speed.shapes import Shape


@dataclass(frozen=True, kw_only=True)
class Table:
    """The first column is text, the others are numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        widths = [max(len(row[column]) for row in (self.head, *self.rows)) for column in range(len(self.head))]
        lines = [
            "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(cells))
            for cells in (list(zip(row, widths, strict=True)) for row in (self.head, *self.rows))
        ]
        return "\n".join([self.title, *(line.rstrip() for line in lines)])

    def as_markdown(self) -> str:
        rule = "|---|" + "---:|" * (len(self.head) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in (self.head, *self.rows)]
        return "\n".join([f"### {self.title}", "", lines[0], rule, *lines[1:]])


def of_shape(shape: Shape, rows: Sequence[Row]) -> Table:
    """One line for each peer that has a result. The ratio is piperun's rate to the peer's."""
    mine = [row for row in rows if row.shape == shape and row.good]
    ours = next((row for row in mine if row.peer.name == PIPERUN), None)
    return Table(
        title=f"{shape.name}: {shape.about}",
        head=("", "messages/s", "min to max", "piperun is", "µs/msg", "node", "MiB"),
        rows=tuple(_line(row, ours) for row in mine),
    )


def overview(title: str, shapes: Sequence[Shape], rows: Sequence[Row]) -> Table:
    """A column for each shape: thousands of messages a second, and in brackets how many times that piperun does."""
    found = {(row.shape.name, row.peer.name): row for row in rows if row.good}
    peers = list(dict.fromkeys(row.peer for row in rows if row.shape in shapes))
    return Table(
        title=title,
        head=("thousands a second", *(shape.name for shape in shapes)),
        rows=tuple(
            (
                peer.title,
                *(_cell(found.get((shape.name, peer.name)), found.get((shape.name, PIPERUN))) for shape in shapes),
            )
            for peer in peers
        ),
    )


def _cell(row: Row | None, ours: Row | None) -> str:
    if row is None:
        return ""
    rate = f"{median(result.rate for result in row.good) / 1000:.1f}"
    times = ratio(ours.rates, row.rates) if ours is not None and ours is not row else None
    return f"{rate} ({times.median:.2f} x)" if times else rate


def _line(row: Row, ours: Row | None) -> tuple[str, ...]:
    rate = Spread.of([result.rate for result in row.good])
    times = ratio(ours.rates, row.rates) if ours is not None and ours is not row else None
    return (
        row.peer.title,
        f"{rate.median:,.0f}",
        f"{rate.low:,.0f} to {rate.high:,.0f}",
        f"{times.median:.2f} x" if times else "",
        f"{Spread.of([result.cpu_per_message for result in row.good]).median:.1f}",
        f"{Spread.of([result.node_cpu_per_message for result in row.good]).median:.1f}",
        f"{max(result.peak_mib for result in row.good):.0f}",
    )
