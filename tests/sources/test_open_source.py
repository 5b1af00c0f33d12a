"""The table from settings to sources: each kind opens, modules are loaded only when they are needed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.clock import FakeClock
from pipeline.config import model
from pipeline.errors import SourceProblem
from pipeline.sources import check, open_source

INTERVAL = model.IntervalSource(every=1.0, count=1, body="hello", headers={})
PYTHON = model.PythonSource(generator="shop.orders:items")


def items() -> Iterator[str]:
    yield "order"


def nothing_to_find(path: str) -> object:
    raise AssertionError(f"{path} was looked for")


def all_settings(folder: Path) -> list[model.Source]:
    (folder / "in.txt").write_text("line\n")
    return [
        INTERVAL,
        model.FileSource(path=folder / "in.txt", format="lines", headers={}, checkpoint=folder / "kept.json"),
        model.StdinSource(format="lines", headers={}),
        PYTHON,
    ]


async def test_each_kind_of_settings_opens(tmp_path: Path) -> None:
    for settings in all_settings(tmp_path):
        source = open_source(
            settings,
            producer="p",
            clock=FakeClock(),
            keep_checkpoint=True,
            find={"shop.orders:items": items}.__getitem__,
        )
        async with source:
            if not isinstance(settings, model.StdinSource):
                assert [item.body async for item in source] in (["hello"], [b"line"], ["order"])


def test_only_a_python_source_is_looked_for() -> None:
    check(INTERVAL, nothing_to_find)
    check(PYTHON, lambda path: items)
    with pytest.raises(SourceProblem, match=r"^shop\.orders:items is a value of type int, not a function"):
        check(PYTHON, lambda path: 3)


@pytest.mark.parametrize("kind", ["interval", "file", "stdin", "python"])
def test_a_module_is_loaded_when_a_file_names_it(kind: str) -> None:
    code = f"import sys, pipeline.sources; assert 'pipeline.sources.{kind}' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
