"""Where the embedded broker differs: `differences.yaml`, read and checked. `python -m tests.conformance.differences`
records what the embedded broker answers in the scenarios that are listed there, and prints docs/differences.md."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conformance import golden
from tests.conformance.embedded_stage import EmbeddedStage
from tests.conformance.scenario import HERE, VERSIONS, Area, Scenario, Version, load_all
from tests.conformance.transcript import Transcript

TABLE = HERE / "differences.yaml"
OWN = golden.FOLDER / "embedded-differences.json"
PAGE = HERE.parents[1] / "docs" / "differences.md"

INTRODUCTION = """\
# Where the embedded broker differs from RabbitMQ

<!-- Printed by `python -m tests.conformance.differences` from tests/conformance/differences.yaml. -->

The [embedded broker](embedded.md) behaves like RabbitMQ, as version 3.10 or 4.3. That is tested: {count} scenarios are
played on it and on both versions of RabbitMQ, and all that the brokers send is compared, from the order of deliveries
to the texts of refusals. This page is the whole list of what is not the same. A difference that is not listed here
fails the tests, and so does one that is listed and no longer there.

What is compared, and what is not, because no broker promises it: names that the server makes up, times, the order of
headers, how many confirms travel in one frame, and the order of messages from different queues.
"""

UNPLAYED = """\
Known, and in no scenario: they take minutes or gigabytes to show, or RabbitMQ itself stumbles.

"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row: `scenarios` show it, by their ids, on the embedded broker as each of `versions`."""

    what: str
    reason: str
    scenarios: tuple[str, ...]
    versions: tuple[Version, ...]


@dataclass(frozen=True, kw_only=True)
class Unplayed:
    """A difference that no scenario can show."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Absent:
    """What the embedded broker has no part of, so that there is nothing to play."""

    feature: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """The three parts of `differences.yaml`."""

    differences: tuple[Difference, ...]
    unplayed: tuple[Unplayed, ...]
    absent: tuple[Absent, ...]


def main() -> None:
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what the scenarios provoke is no news
    areas, table = load_all(), read_table()
    golden.write(OWN, asyncio.run(_record(areas, listed(table.differences))))
    PAGE.write_text(page(areas, table))


# The table


def read_table(path: Path = TABLE) -> Table:
    tree: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text())
    differences = tuple(
        Difference(
            what=row["what"],
            reason=row["reason"],
            scenarios=tuple(row["scenarios"]),
            versions=tuple(row.get("versions", VERSIONS)),
        )
        for row in tree["differences"]
    )
    return Table(
        differences=differences,
        unplayed=tuple(Unplayed(**row) for row in tree["unplayed"]),
        absent=tuple(Absent(**row) for row in tree["absent"]),
    )


def listed(differences: Sequence[Difference]) -> set[tuple[Version, str]]:
    """Version and scenario."""
    return {(version, each) for row in differences for each in row.scenarios for version in row.versions}


def own_key(version: Version, scenario: str) -> str:
    """Where the embedded broker's own transcript is kept in the file of those that differ."""
    return f"{scenario} on {version}"


async def _record(areas: Sequence[Area], chosen: set[tuple[Version, str]]) -> dict[str, Transcript]:
    recorded: dict[str, Transcript] = {}
    for version in VERSIONS:
        with EmbeddedStage.start(version) as stage:
            for scenario in _scenarios(areas):
                if (version, scenario.id) in chosen:
                    recorded[own_key(version, scenario.id)] = await stage.play(scenario)
    return recorded


def _scenarios(areas: Sequence[Area]) -> Iterator[Scenario]:
    for area in areas:
        yield from area.scenarios


# The page


def page(areas: Sequence[Area], table: Table) -> str:
    """The text of docs/differences.md."""
    count = sum(1 for _ in _scenarios(areas))
    parts = [
        INTRODUCTION.format(count=count),
        "\n## By area\n\n",
        *_areas(areas, table.differences),
        "\n## Differences\n",
    ]
    parts += list(_rows(table.differences)) or ["\nNone.\n"]
    parts += ["\n## Seldom met\n\n", UNPLAYED, *(f"- **{each.what}**: {each.reason}\n" for each in table.unplayed)]
    parts += ["\n## Absent\n\n", *(f"- **{each.feature}**: {each.reason}\n" for each in table.absent)]
    return "".join(parts)


def _areas(areas: Sequence[Area], differences: Sequence[Difference]) -> Iterator[str]:
    yield "| Area | Scenarios | as 3.10 | as 4.3 |\n|---|---|---|---|\n"
    chosen = listed(differences)
    for area in areas:
        cells = [_cell(area, version, chosen) for version in VERSIONS]
        yield f"| {area.title} | {len(area.scenarios)} | {' | '.join(cells)} |\n"


def _cell(area: Area, version: Version, chosen: set[tuple[Version, str]]) -> str:
    played = [each for each in area.scenarios if version in each.versions]
    if not played:
        return "not played"
    differ = sum((version, each.id) in chosen for each in played)
    if not differ:
        return "same"
    return f"{differ} of {len(played)} differ" if differ < len(played) else "differs"


def _rows(differences: Sequence[Difference]) -> Iterator[str]:
    for row in differences:
        versions = "" if row.versions == VERSIONS else f" (as {' and '.join(row.versions)})"
        scenarios = "; ".join(f"*{scenario.replace('/', ': ').replace('_', ' ')}*" for scenario in row.scenarios)
        yield f"\n**{row.what}**{versions}. {row.reason}\\\nSeen in {scenarios}.\n"


if __name__ == "__main__":
    main()
