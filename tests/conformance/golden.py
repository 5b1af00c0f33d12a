"""Transcripts on disk: what RabbitMQ of each version answered, one file per version, one line per event. Files are read
and written whole, under a lock, so that several people can record their areas at the same time."""

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.conformance.scenario import HERE, Version
from tests.conformance.transcript import Transcript, one_line

T = TypeVar("T")

FOLDER = HERE / "golden"


def path_of(version: Version) -> Path:
    return FOLDER / f"{version}.json"


def read(path: Path) -> dict[str, Transcript]:
    """By the scenario's id. Empty where nothing was recorded yet."""
    transcripts: dict[str, Transcript] = json.loads(path.read_text()) if path.exists() else {}
    return transcripts


def update(path: Path, recorded: Mapping[str, Transcript], untouched: Collection[str]) -> None:
    """What was recorded, beside what is there of the areas that were `untouched`; nothing else stays."""
    with _lock(path):
        kept = {scenario: each for scenario, each in read(path).items() if scenario.partition("/")[0] in untouched}
        write(path, {**kept, **recorded})


def write(path: Path, transcripts: Mapping[str, Transcript]) -> None:
    """In one step: whoever reads at the same time sees the old file or the new one."""
    new = path.with_suffix(".new")
    new.write_text("\n".join(_lines(dict(sorted(transcripts.items())))) + "\n")
    new.replace(path)


def _lines(transcripts: Mapping[str, Transcript]) -> Iterator[str]:
    """JSON with a line per event: a change in what a broker says is a change of one line."""
    yield "{"
    for last, (scenario, transcript) in _with_last(transcripts):
        yield f"{json.dumps(scenario)}: {{"
        for last_lane, (lane, said) in _with_last(transcript):
            yield f"  {json.dumps(lane)}: ["
            yield ",\n".join(f"    {one_line(each)}" for each in said)
            yield "  ]" + _comma(last_lane)
        yield "}" + _comma(last)
    yield "}"


def _with_last(items: Mapping[str, T]) -> Iterator[tuple[bool, tuple[str, T]]]:
    for n, item in enumerate(items.items(), 1):
        yield n == len(items), item


def _comma(last: bool) -> str:
    return "" if last else ","


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
