"""The event loop that a file, a variable or an option asks for is the one that every process runs on; where uvloop
cannot be had, whoever insists is told, and nobody else notices."""

import asyncio
import gc
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import gaierror

import pytest

from pipeline.config.model import Loop
from pipeline.errors import UsageError
from pipeline.events import Event, Notice
from pipeline.runtime.loop import choose, run_on, why_not_uvloop
from tests.command import Commands

needs_uvloop = pytest.mark.skipif(why_not_uvloop() is not None, reason="there is no uvloop here")

BROKEN = 'raise ImportError("it was built for another Python")\n'


async def module_of_the_loop() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


@pytest.fixture
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


async def asked_in_a_run() -> tuple[tuple[int, int, int], int]:
    return gc.get_threshold(), gc.get_freeze_count()


@pytest.mark.usefixtures("thresholds")
@pytest.mark.parametrize(("before", "first"), [((700, 10, 10), 2_000), ((50_000, 10, 10), 50_000), ((0, 10, 10), 0)])
def test_the_collector_looks_seldom_unless_somebody_has_chosen_when(before: tuple[int, int, int], first: int) -> None:
    gc.set_threshold(*before)
    there = len(gc.get_objects())
    threshold, left_alone = run_on("asyncio", asked_in_a_run())
    assert threshold == (first, 10, 10)
    assert left_alone >= there


def nothing_said(event: Event) -> None:
    assert isinstance(event, Notice) and event.level == "debug", event


@needs_uvloop
@pytest.mark.parametrize(("wanted", "loop"), [("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")])
def test_auto_is_uvloop_where_it_is_installed(wanted: Loop, loop: str) -> None:
    assert run_on(choose(wanted, nothing_said), module_of_the_loop()) == loop


def test_without_uvloop_auto_is_asyncio_and_whoever_asks_for_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not installed
    assert choose("auto", nothing_said) == choose("asyncio", nothing_said) == "asyncio"
    with pytest.raises(UsageError) as raised:
        choose("uvloop", nothing_said)
    assert str(raised.value) == (
        "the event loop is to be uvloop, and uvloop is not installed; "
        'install it ("pip install uvloop"), or choose `auto`'
    )


def test_a_uvloop_that_is_installed_and_broken_is_said_and_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uvloop.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    said: list[Event] = []
    assert choose("auto", said.append) == "asyncio"
    notice = said[0]
    assert isinstance(notice, Notice) and notice.level == "warning"
    assert notice.sentence == (
        "uvloop cannot be imported (it was built for another Python): running on asyncio's own loop instead"
    )


@needs_uvloop
def test_an_answer_to_a_name_that_nobody_waits_for_any_more_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def leave_behind(error: Exception) -> None:
        asyncio.get_running_loop().create_future().set_exception(error)

    run_on("uvloop", leave_behind(gaierror(-3, "Temporary failure in name resolution")))
    assert caplog.messages == []
    run_on("uvloop", leave_behind(ValueError("something else")))
    assert [message.splitlines()[0] for message in caplog.messages] == ["Future exception was never retrieved"]


# The command

STEPS = """
import asyncio

async def which(body):
    print("handled on", type(asyncio.get_running_loop()).__module__.partition(".")[0], flush=True)
"""
FILE = """
queues: {tasks: {}}
producers: {p: {source: {type: interval, every: 1ms, count: 1, body: x}, publish: {queue: tasks}}}
consumers: {c: {queue: tasks, handler: "steps:which"}}
runtime: {until: idle, workers: WORKERS, loop: LOOP}
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


@pytest.fixture
def broken(steps: Path) -> Mapping[str, str]:
    """Variables with which a process finds a uvloop that cannot be imported."""
    (steps / "broken").mkdir()
    (steps / "broken" / "uvloop.py").write_text(BROKEN)
    return {"PYTHONPATH": str(steps / "broken")}


def file(loop: str = "auto", workers: int = 0) -> str:
    return FILE.replace("WORKERS", str(workers)).replace("LOOP", loop)


@needs_uvloop
@pytest.mark.parametrize(
    ("written", "variable", "option", "workers", "loop"),
    [
        ("auto", "", (), 0, "uvloop"),
        ("asyncio", "", (), 1, "asyncio"),
        ("auto", "asyncio", (), 0, "asyncio"),
        ("asyncio", "asyncio", ("--loop", "uvloop"), 1, "uvloop"),
    ],
)
def test_every_process_runs_on_the_loop_that_was_asked_for(
    run_piperun: Commands, steps: Path, written: str, variable: str, option: tuple[str, ...], workers: int, loop: str
) -> None:
    env = {"PIPERUN_LOOP": variable} if variable else {}
    command = run_piperun(file(written, workers), "--log-level", "debug", *option, env=env)
    assert command.wait() == 0
    assert f"handled on {loop}" in command.lines
    # The process that was started says it, and so does its worker
    said = [line.partition(" debug ")[2].strip() for line in command.lines if "the event loop is" in line]
    assert said == [
        f"{who}: the event loop is that of {loop}" for who in ("pipeline", "worker.1 pipeline")[: 1 + workers]
    ]


def test_a_file_that_asks_for_a_uvloop_that_cannot_be_had_is_answered_with_its_line(
    run_piperun: Commands, broken: Mapping[str, str]
) -> None:
    command = run_piperun(file("uvloop"), verb="validate", env=broken)
    assert command.wait() == 2
    assert command.lines == [
        "pipeline.yaml:5:42: error[unknown-module]: `runtime` asks for uvloop, "
        "and uvloop cannot be imported (it was built for another Python)",
        "    5 | runtime: {until: idle, workers: 0, loop: uvloop}",
        '      |                                          ^^^^^^ install it ("pip install uvloop"), or choose `auto`',
        "1 error in 1 file",
    ]


def test_an_option_that_asks_for_it_is_answered_too_and_another_one_is_a_way_out(
    run_piperun: Commands, broken: Mapping[str, str]
) -> None:
    refused = run_piperun(file("auto", 1), "--loop", "uvloop", env=broken)
    assert refused.wait() == 2
    assert "error: the event loop is to be uvloop, and uvloop cannot be imported" in refused.output
    assert "Traceback" not in refused.output
    runs = run_piperun(file("uvloop", 1), "--loop", "asyncio", env=broken)
    assert runs.wait() == 0
    assert "handled on asyncio" in runs.lines


def test_validate_does_not_load_uvloop_where_nobody_asks_for_it_by_name(run_piperun: Commands, steps: Path) -> None:
    # Given a module in its place that would say that it is imported
    (steps / "told").mkdir()
    (steps / "told" / "uvloop.py").write_text("print('uvloop is imported', flush=True)\n")
    command = run_piperun(file("auto"), verb="validate", env={"PYTHONPATH": str(steps / "told")})
    assert command.wait() == 0
    assert "uvloop is imported" not in command.output
