"""What the benchmark of speed makes of its measurements: medians and ratios, tables, the picture, the page. Without any
broker; how fast anything is, nobody asserts."""

import os
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed import page, pipelines, table
from benchmarks.speed.figures import Spread, percentile, ratio
from benchmarks.speed.findings import Findings
from benchmarks.speed.latency import Latency
from benchmarks.speed.memory import Idle
from benchmarks.speed.peers import PEERS, Peer
from benchmarks.speed.plot import Bar, Panel, svg
from benchmarks.speed.rounds import FEW, Row, count_for
from benchmarks.speed.shapes import GROUPS, HEADLINE, SHAPES, Shape, named
from benchmarks.speed.steady import stamps_in
from benchmarks.speed.stopwatch import Stopwatch, cpu_seconds, peak_mib
from benchmarks.speed.table import Table
from benchmarks.speed.task import Result, Task, results
from benchmarks.speed.workers import Share
from pipeline.config.load import Text, load

TASK = Task(
    url="amqp://guest:guest@127.0.0.1:1/",
    kind="consume",
    messages=20,
    skip=2,
    prefetch=100,
    body=100,
    persistent=False,
    node_pid=os.getpid(),
)
CONSUME, PUBLISH = named(["consume-100"])[0], named(["publish"])[0]


def peer(name: str) -> Peer:
    (found,) = (each for each in PEERS if each.name == name)
    return found


def result(rate: float) -> Result:
    """So many messages in one second, at 10 µs each and 20 for the node."""
    return Result(
        messages=int(rate),
        first=100.0,
        last=101.0,
        cpu_seconds=rate * 10e-6,
        node_cpu_seconds=rate * 20e-6,
        peak_mib=50.4,
    )


def row(name: str, *rates: float | None, shape: Shape = CONSUME) -> Row:
    return Row(shape=shape, peer=peer(name), results=[None if rate is None else result(rate) for rate in rates])


# Figures


def test_a_spread_is_the_median_between_the_smallest_and_the_largest() -> None:
    assert Spread.of([5.0, 1.0, 3.0]) == Spread(median=3.0, low=1.0, high=5.0)


def test_a_ratio_is_taken_round_by_round_and_leaves_out_a_round_with_one_side_missing() -> None:
    """The medians of both sides alone would give 1."""
    assert ratio([10.0, 20.0, 100.0, None], [20.0, 10.0, 25.0, 1.0]) == Spread(median=2.0, low=0.5, high=4.0)
    assert ratio([None, 1.0], [1.0, None]) is None


@pytest.mark.parametrize(("share", "value"), [(0.5, 5.0), (0.9, 9.0), (0.99, 10.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], share) == value


def test_a_run_is_as_long_as_wanted_and_never_more_than_rabbitmq_can_hold() -> None:
    assert count_for(10_000, 10_000, 1.5, 100) == 15_000
    # The same for all of a shape, but for who would take more than five times as long
    assert count_for(2_000, 10_000, 1.5, 100) == 15_000
    assert count_for(1_000, 10_000, 1.5, 100) == 7_500
    assert count_for(1, 10_000, 1.5, 100) == FEW // 2
    assert count_for(10_000_000, 10_000_000, 1.5, 100) == 400_000
    assert count_for(10_000_000, 10_000_000, 1.5, 4096) == 65_536


# Tasks and results


def test_a_task_reads_as_it_was_written() -> None:
    task = replace(TASK, latency=True, persistent=True, work=7, profile="figures.prof", gather=50)
    assert Task.from_environment(task.environment()) == task


def test_results_are_found_between_other_lines() -> None:
    output = f"12:00:00 info  ready\n{result(10).line()}\nnoise\n{result(20).line()}\n"
    assert [each.messages for each in results(output)] == [10, 20]
    assert results("nothing") == []


def test_a_stopwatch_leaves_out_the_first_messages(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Stopwatch(TASK)
    assert [watch.tick() for _ in range(20)] == [False] * 19 + [True]
    (said,) = results(capsys.readouterr().out)
    assert said == watch.result
    assert said.messages == 18
    assert said.last >= said.first
    assert said.peak_mib > 1


def test_a_stopwatch_that_shares_the_messages_says_what_it_has_seen(capsys: pytest.CaptureFixture[str]) -> None:
    watch, idle = Stopwatch(TASK), Stopwatch(TASK)
    for _ in range(5):
        watch.tick_of_some()
    over = time.monotonic()  # a run notices its end later than its last message
    for each in (watch, idle):
        each.report()
    (said,) = results(capsys.readouterr().out)
    assert said.messages == 3
    assert said.first <= said.last <= over


def test_latencies_are_those_of_the_timed_messages_sorted(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Stopwatch(replace(TASK, latency=True))
    for _ in range(20):
        watch.tick_with(bytes(8))  # published when the machine was started
    (said,) = results(capsys.readouterr().out)
    assert len(said.latencies) == 18
    assert list(said.latencies) == sorted(said.latencies)


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert cpu_seconds(2**22 + 1) == peak_mib(2**22 + 1) == 0


def test_a_profile_is_written_where_it_was_asked_for(tmp_path: Path) -> None:
    watch = Stopwatch(replace(TASK, profile=str(tmp_path / "profile")))
    for _ in range(20):
        watch.tick()
    assert (tmp_path / "profile").stat().st_size > 0


# Shapes and peers


def test_shapes_have_different_names_and_can_be_found_by_them() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    assert [shape.name for shape in named(HEADLINE)] == list(HEADLINE)
    assert all(len(named(names)) == len(names) for names in GROUPS.values())
    assert len(named(["consume-*"])) == len([shape for shape in SHAPES if shape.kind == "consume"])
    assert named(["nothing"]) == []


def test_acks_are_gathered_only_where_there_are_enough() -> None:
    gathered = peer("librabbitmq-gathered")
    able = [shape.prefetch for shape in SHAPES if gathered.can(shape) and shape.kind == "consume"]
    assert set(able) == {100, 500}
    assert not gathered.can(PUBLISH)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_file_of_every_shape_is_one_that_piperun_takes(shape: Shape, tmp_path: Path) -> None:
    assert problems(pipelines.pipeline(shape, replace(TASK, kind=shape.kind)), tmp_path) == []


@pytest.mark.parametrize("text", [pipelines.idle(TASK.url, 3), pipelines.working(TASK.url, 2)], ids=["idle", "working"])
def test_the_other_files_are_taken_too(text: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == []


def problems(text: str, folder: Path) -> list[str]:
    """A warning is none: quorum queues get one, for the broker's own dead letters, which are not measured."""
    file = pipelines.write(text, folder)
    found = load([Text(path=str(file), text=text)], environment={}).problems
    return [str(problem) for problem in found if problem.severity == "error"]


# Frames of the process that measures latency


def test_stamps_are_read_from_frames_that_come_in_pieces() -> None:
    body = b"\x03\x00\x01\x00\x00\x00\x0a" + (7).to_bytes(8) + b"xx\xce"
    method = b"\x01\x00\x01\x00\x00\x00\x03abc\xce"
    octets = (method + body) * 2
    for cut in range(len(octets)):
        first, rest = stamps_in(octets[:cut])
        second, rest = stamps_in(rest + octets[cut:])
        assert (first + second, rest) == ([7, 7], b"")


# Tables


def test_a_table_has_a_line_for_each_peer_and_the_ratio_of_piperun_to_it() -> None:
    rows = [row("piperun", 100, 400, 300), row("aio-pika", 200, 200, 100), row("pika", None, None, None)]
    assert table.of_shape(CONSUME, rows).rows == (
        ("piperun", "300", "100 to 400", "", "10.0", "20.0", "50"),
        ("aio-pika", "200", "100 to 200", "2.00 x", "10.0", "20.0", "50"),
    )


def test_an_overview_has_a_column_for_each_shape() -> None:
    rows = [row("piperun", 3000), row("aio-pika", 1500), row("piperun", 1000, shape=PUBLISH)]
    assert table.overview("Both", [CONSUME, PUBLISH], rows).rows == (
        ("piperun", "3.0", "1.0"),
        ("aio-pika", "1.5 (2.00 x)", ""),
    )


def test_a_table_is_aligned_on_a_terminal_and_legal_in_markdown() -> None:
    made = Table(title="Title", head=("", "a second"), rows=(("one", "1"), ("three", "1,000")))
    assert made.as_text() == "Title\n       a second\none           1\nthree     1,000"
    assert made.as_markdown() == "### Title\n\n|  | a second |\n|---|---:|\n| one | 1 |\n| three | 1,000 |"


# The picture


def panels() -> list[Panel]:
    """A name with a character that XML reserves, and rates of four powers of ten."""
    rates = {"piperun": 60_000.0, "a < b & c": 900.0, "slow": 7.0}
    bars = tuple(
        Bar(title=title, rate=Spread(median=rate, low=rate * 0.9, high=rate * 1.1), ours=title == "piperun")
        for title, rate in rates.items()
    )
    return [Panel(title="consume", bars=bars), Panel(title="publish", bars=bars[1:])]


def test_the_picture_has_a_bar_for_each_peer_as_long_as_its_rate() -> None:
    root = ElementTree.fromstring(svg("Title", panels()))
    bars = [each for each in root if each.get("class") in ("ours", "other")]
    assert [each.get("class") for each in bars] == ["ours", "other", "other", "other", "other"]
    widths = [float(each.get("width", "")) for each in bars]
    assert widths[0] / widths[1] == pytest.approx(60_000 / 900, rel=0.02)


def test_everything_in_the_picture_is_inside_of_it() -> None:
    root = ElementTree.fromstring(svg("Title", panels()))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for each in root:
        at, size = float(each.get("x") or 0), float(each.get("width") or 0)
        assert at >= 0
        assert at + size <= width
        assert 0 <= float(each.get("y") or 0) <= height


def test_the_picture_can_be_read_in_words() -> None:
    root = ElementTree.fromstring(svg("Title", panels()))
    words = {each.tag.rpartition("}")[2]: each.text for each in root}
    assert words["title"] == "Title"
    assert "a < b & c 900" in str(words["desc"])
    assert "prefers-color-scheme: dark" in str(words["style"])


@pytest.mark.parametrize("rate", [0.4, 1.0, 9.99, 10.0, 51_234.0])
def test_a_scale_has_a_few_lines_and_reaches_beyond_the_longest_bar(rate: float) -> None:
    bar = Bar(title="one", rate=Spread(median=rate, low=rate, high=rate), ours=True)
    root = ElementTree.fromstring(svg("Title", [Panel(title="any", bars=(bar,))]))
    assert 3 <= len([each for each in root if each.get("class") == "scale"]) <= 8
    (made,) = (each for each in root if each.get("class") == "ours")
    assert float(made.get("width", "")) < 470


# The page


def findings() -> Findings:
    failed = row("rascal", None)
    failed.failure = "not done within 60 s"
    return Findings(
        rows=[row("piperun", 300), row("aio-pika", 100), failed, *(row("piperun", 5, shape=each) for each in SHAPES)],
        latency=[Latency(way="to the handler", peer=peer("piperun"), rounds=[(1.0, 2.0, 3.0)])],
        idle=[Idle(title="piperun", mib=[50.0], seconds=[0.5])],
        growth=[Idle(title="1,000 queues", mib=[100.0], seconds=[2.0])],
        workers=[Share(workers=1, rates=[900.0]), Share(workers=2, rates=[1800.0])],
        versions={"RabbitMQ": "3.10.8"},
        machine="a machine",
        date="2020-02-02",
        rounds=1,
        missing=["pika on asyncio is left out: no reason"],
    )


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    file.write_text(f"# By hand\n\n{page.BEGIN}old\n{page.END}\nThe end\n")
    for _ in range(2):  # what was written can be written again
        page.write(findings(), file)
    text = file.read_text()
    assert text.startswith(f"# By hand\n\n{page.BEGIN}\nMeasured on 2020-02-02, in 1 round, on: a machine. RabbitMQ")
    assert text.endswith(f"{page.END}\nThe end\n")
    assert "old" not in text
    assert "](performance.svg)" in text
    assert ElementTree.parse(tmp_path / "performance.svg").getroot().get("role") == "img"


@pytest.mark.parametrize(
    "line",
    [
        "| aio-pika | 100 | 100 to 100 | 3.00 x | 10.0 | 20.0 | 50 |",
        "### Quorum queues",
        "| piperun | 1.00 | 2.00 | 3.00 | 1.00 to 1.00 |  |",
        "| 1,000 queues | 100 | 100 to 100 | 2.00 |",
        "| workers: 2 | 1,800 | 1,800 to 1,800 | 2.00 x |",
        "- pika on asyncio is left out: no reason",
        "- Node rascal failed at consume-100: not done within 60 s",
    ],
)
def test_the_page_has_everything_that_was_found(line: str) -> None:
    assert line in page.measured(findings(), "performance.svg").splitlines()


def test_a_page_without_a_place_for_figures_is_left_alone() -> None:
    with pytest.raises(ValueError, match="no place for figures"):
        page.renewed("# By hand\n", "new")


def test_the_page_of_this_project_has_a_place_for_figures() -> None:
    assert page.renewed(page.PAGE.read_text(encoding="utf-8"), "new")


@pytest.mark.parametrize("tables", [Findings.in_full, Findings.in_short])
def test_nothing_that_was_measured_is_left_out(tables: Callable[[Findings], list[Table]]) -> None:
    text = "\n".join(made.as_text() for made in tables(findings()))
    assert [shape.name for shape in SHAPES if shape.name not in text] == []


def test_nothing_measured_makes_no_picture(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    file.write_text(page.BEGIN + page.END)
    page.write(Findings(date="2020-02-02", machine="a machine", rounds=2), file)
    assert not (tmp_path / "performance.svg").exists()
