"""How many processors a process may use: its affinity, and the smallest quota of the control groups around it."""

import os
from pathlib import Path

import pytest

from pipeline.runtime import processors
from pipeline.runtime.processors import Processors, usable


def system(root: Path, group: str = "/", **quotas: str) -> Path:
    """A machine on which the groups of these names have these quotas; a slash is written __."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"4:memory:/elsewhere\n0::{group}\n")
    for name, quota in quotas.items():
        folder = root / "sys/fs/cgroup" / name.removeprefix("top").replace("__", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{quota}\n")
    return root


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_allowed", lambda: 8)


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable(tmp_path) == Processors(count=8, because="it may use 8")


@pytest.mark.parametrize(
    ("quota", "count", "because"),
    [
        ("max 100000", 8, "it may use 8"),
        ("200000 100000", 2, "a control group allows it 2 of 8"),
        ("150000 100000", 2, "a control group allows it 1.5 of 8"),
        ("10000 100000", 1, "a control group allows it 0.1 of 8"),
        ("1600000 100000", 8, "it may use 8"),
        ("100000 0", 8, "it may use 8"),
        ("", 8, "it may use 8"),
    ],
)
def test_a_quota_is_what_is_left_of_them(tmp_path: Path, quota: str, count: int, because: str) -> None:
    assert usable(system(tmp_path, top=quota)) == Processors(count=count, because=because)


def test_the_smallest_quota_of_all_groups_around_the_process_counts(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        "/system.slice/piperun.service",
        top="max 100000",
        system__slice="max 100000",
        **{"system.slice": "300000 100000", "system.slice__piperun.service": "400000 100000"},
        other="100000 100000",
    )
    assert usable(root).count == 3


def test_the_numbers_of_this_machine_make_sense() -> None:
    assert 1 <= usable().count <= 8


def test_an_affinity_is_what_the_system_lets_us_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= processors._allowed() <= (os.cpu_count() or 1)
