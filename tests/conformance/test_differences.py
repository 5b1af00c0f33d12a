"""The page about differences says what the table says."""

from pathlib import Path

from tests.conformance.differences import Absent, Difference, Table, Unplayed, listed, page, read_table
from tests.conformance.scenario import Area, Scenario, Version

ROWS = """\
differences:
  - what: an odd reply
    reason: nobody asks for it.
    scenarios: [some_area/one]
    versions: ["4.3"]
unplayed:
  - what: a rare one
    reason: it takes a day.
absent:
  - feature: clusters
    reason: it is one process
"""


def area(title: str, *scenarios: tuple[str, tuple[Version, ...]]) -> Area:
    made = [Scenario(area="some_area", name=name, why="w", versions=played, steps=()) for name, played in scenarios]
    return Area(name="some_area", title=title, scenarios=tuple(made))


def row(*scenarios: str) -> Difference:
    return Difference(what="w", reason="r", scenarios=scenarios, versions=("3.10", "4.3"))


def test_the_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(ROWS)

    table = read_table(tmp_path / "table.yaml")

    assert listed(table.differences) == {("4.3", "some_area/one")}
    assert table.unplayed == (Unplayed(what="a rare one", reason="it takes a day."),)
    assert table.absent == (Absent(feature="clusters", reason="it is one process"),)


def test_the_page_says_for_each_area_whether_it_is_the_same(tmp_path: Path) -> None:
    both: tuple[Version, ...] = ("3.10", "4.3")
    areas = [area("Queues", ("one", both), ("two", both)), area("Tx", ("three", both)), area("New", ("four", ("4.3",)))]

    text = page(areas, Table(differences=(row("some_area/one", "some_area/three"),), unplayed=(), absent=()))

    assert "| Queues | 2 | 1 of 2 differ | 1 of 2 differ |\n" in text
    assert "| Tx | 1 | differs | differs |\n" in text
    assert "| New | 1 | not played | same |\n" in text


def test_the_page_shows_each_row(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(ROWS)

    text = page([], read_table(tmp_path / "table.yaml"))

    assert "\n**an odd reply** (as 4.3). nobody asks for it.\\\nSeen in *some area: one*.\n" in text
    assert "\n- **a rare one**: it takes a day.\n" in text
    assert text.endswith("\n## Absent\n\n- **clusters**: it is one process\n")
