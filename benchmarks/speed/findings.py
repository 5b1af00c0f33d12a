"""Everything that one run of the benchmark found, and the tables that it makes of it, in their order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.speed import latency, memory, table, workers
from benchmarks.speed.figures import Spread
from benchmarks.speed.latency import Latency
from benchmarks.speed.memory import Idle
from benchmarks.speed.peers import PIPERUN
from benchmarks.speed.plot import Bar, Panel
from benchmarks.speed.rounds import Row
from benchmarks.speed.shapes import GROUPS, HEADLINE, Shape, named
from benchmarks.speed.table import Table
from benchmarks.speed.workers import Share


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was not asked for is empty."""

    rows: Sequence[Row] = ()
    latency: Sequence[Latency] = ()
    idle: Sequence[Idle] = ()
    growth: Sequence[Idle] = ()
    workers: Sequence[Share] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    rounds: int = 0
    missing: Sequence[str] = ()

    @property
    def told_versions(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.versions.items())

    @property
    def shapes(self) -> list[Shape]:
        return list(dict.fromkeys(row.shape for row in self.rows if row.good))

    def in_full(self) -> Iterator[Table]:
        """For a terminal: a table for each shape."""
        yield from (table.of_shape(shape, self.rows) for shape in self.shapes)
        yield from self._others()

    def in_short(self) -> Iterator[Table]:
        """For a page: those of the headline in full, the other shapes a column each."""
        headline = [shape for shape in named(HEADLINE) if shape in self.shapes]
        yield from (table.of_shape(shape, self.rows) for shape in headline)
        told = set(headline)
        for title, patterns in GROUPS.items():
            shapes = [shape for shape in named(patterns) if shape in self.shapes]
            if set(shapes) - told:
                yield table.overview(title, shapes, self.rows)
                told.update(shapes)
        yield from (table.of_shape(shape, self.rows) for shape in self.shapes if shape not in told)
        yield from self._others()

    def panels(self) -> list[Panel]:
        """Those of the headline, as far as they were measured."""
        return [self._panel(shape) for shape in named(HEADLINE) if shape in self.shapes]

    def failures(self) -> list[str]:
        return [f"{row.peer.title} failed at {row.shape.name}: {row.failure}" for row in self.rows if row.failure]

    def _others(self) -> Iterator[Table]:
        if self.latency:
            yield from latency.tables(self.latency)
        if self.idle:
            yield memory.idle_table(self.idle)
        if self.growth:
            yield memory.growth_table(self.growth)
        if self.workers:
            yield workers.workers_table(self.workers)

    def _panel(self, shape: Shape) -> Panel:
        mine = [row for row in self.rows if row.shape == shape and row.good]
        return Panel(
            title=f"{shape.about}: messages a second",
            bars=tuple(
                Bar(
                    title=row.peer.title,
                    rate=Spread.of([result.rate for result in row.good]),
                    ours=row.peer.name == PIPERUN,
                )
                for row in mine
            ),
        )
