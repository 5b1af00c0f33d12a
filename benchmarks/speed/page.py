"""docs/performance.md and its picture. What stands between two marks of the page is written here; the text around them
is written by hand and stays as it is."""

from pathlib import Path
from typing import Final

from benchmarks.speed.environments import ROOT
from benchmarks.speed.findings import Findings
from benchmarks.speed.plot import svg

PAGE: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- measured: written by `make bench`, not by hand -->\n"
END: Final = "<!-- end of what was measured -->\n"


def write(findings: Findings, page: Path = PAGE) -> None:
    """The picture stands beside the page, under the same name."""
    picture = page.with_suffix(".svg")
    page.write_text(renewed(page.read_text(encoding="utf-8"), measured(findings, picture.name)), encoding="utf-8")
    if panels := findings.panels():
        picture.write_text(svg("How many messages a second piperun and other clients do", panels), encoding="utf-8")


def renewed(page: str, text: str) -> str:
    """The page with another text between the marks. Raises ValueError where they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for figures: a line {BEGIN.strip()!r}, then one {END.strip()!r}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def measured(findings: Findings, picture: str) -> str:
    parts = [_surroundings(findings)]
    if findings.panels():
        parts.append(f"![{_alternative(findings)}]({picture})\n")
    parts += [f"{table.as_markdown()}\n" for table in findings.in_short()]
    parts += [f"- {line}\n" for line in (*findings.missing, *findings.failures())]
    return "\n".join(parts)


def _surroundings(findings: Findings) -> str:
    rounds = f"{findings.rounds} round{'s' if findings.rounds > 1 else ''}"
    return f"Measured on {findings.date}, in {rounds}, on: {findings.machine}. {findings.told_versions}.\n"


def _alternative(findings: Findings) -> str:
    titles = "; ".join(panel.title.partition(":")[0] for panel in findings.panels())
    return f"Bars for each client: {titles}. The same figures stand in the tables below."
