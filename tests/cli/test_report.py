"""Problems as a person sees them: one after the other, coloured where that is wanted, and counted at the end."""

import io
from typing import Any

import pytest

from pipeline.cli.report import count, log, log_error, show, show_error, wants_colour
from pipeline.errors import BrokerError, TopologyDiffers
from pipeline.problems import Place, Problem, Severity


def a_problem(severity: Severity = "error", **changes: Any) -> Problem:
    values: dict[str, Any] = {
        "severity": severity,
        "word": "unknown-queue",
        "place": Place(path="orders.yaml", line=31, column=12, width=6),
        "sentence": 'consumer "charge" reads queue "biling", which is not declared',
        "hint": 'did you mean "billing"?',
        "excerpt": "    queue: biling",
    }
    return Problem(**{**values, **changes})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_each_problem_has_its_place_its_line_and_its_way_out() -> None:
    stream = io.StringIO()
    show([a_problem(), a_problem("warning", hint=None)], stream)
    sentence = 'consumer "charge" reads queue "biling", which is not declared'
    assert stream.getvalue().splitlines() == [
        f"orders.yaml:31:12: error[unknown-queue]: {sentence}",
        "   31 |     queue: biling",
        '      |            ^^^^^^ did you mean "billing"?',
        f"orders.yaml:31:12: warning[unknown-queue]: {sentence}",
        "   31 |     queue: biling",
        "      |            ^^^^^^",
    ]


def test_standard_error_is_where_problems_go(capsys: pytest.CaptureFixture[str]) -> None:
    show([a_problem()])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("orders.yaml:31:12: error[unknown-queue]")


@pytest.mark.parametrize(("severity", "colour"), [("error", "1;31"), ("warning", "1;33")])
def test_on_a_terminal_the_severity_is_coloured_and_nothing_else_changes(severity: Severity, colour: str) -> None:
    plain, coloured = io.StringIO(), Terminal()
    show([a_problem(severity)], plain)
    show([a_problem(severity)], coloured)
    marked = f"\x1b[{colour}m{severity}[unknown-queue]\x1b[0m"
    assert coloured.getvalue().count(marked) == 1
    assert coloured.getvalue().replace(marked, f"{severity}[unknown-queue]") == plain.getvalue()


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, environment: dict[str, str], wanted: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(stream) == wanted


@pytest.mark.parametrize(
    ("errors", "warnings", "files", "said"),
    [
        (0, 0, 1, "0 errors in 1 file"),
        (1, 0, 1, "1 error in 1 file"),
        (2, 0, 3, "2 errors in 3 files"),
        (0, 1, 1, "1 warning in 1 file"),
        (2, 1, 3, "2 errors and 1 warning in 3 files"),
        (1, 2, 2, "1 error and 2 warnings in 2 files"),
    ],
)
def test_the_count_says_what_there_is(errors: int, warnings: int, files: int, said: str) -> None:
    assert count([a_problem()] * errors + [a_problem("warning")] * warnings, files) == said


def test_for_machines_a_problem_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log([a_problem(), a_problem("warning", hint=None)])
    first, second = caplog.records
    assert first.getMessage() == a_problem().sentence
    assert (first.levelname, second.levelname) == ("ERROR", "WARNING")
    assert vars(first)["piperun"] == {
        "event": "Problem",
        "word": "unknown-queue",
        "path": "orders.yaml",
        "line": 31,
        "column": 12,
        "hint": 'did you mean "billing"?',
    }


def test_an_error_is_told_with_its_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    error = BrokerError("nothing listens")
    error.add_note("start it")
    show_error(error)
    assert capsys.readouterr().err == "error: nothing listens\n       start it\n"


def test_for_machines_each_difference_is_a_line_with_the_status(caplog: pytest.LogCaptureFixture) -> None:
    log_error(TopologyDiffers(["queue a differs", "queue b differs"]), 4, bug=False)
    assert [record.getMessage() for record in caplog.records] == ["queue a differs", "queue b differs"]
    assert {(vars(record)["piperun"]["event"], vars(record)["piperun"]["status"]) for record in caplog.records} == {
        ("Error", 4)
    }


def test_for_machines_a_bug_is_one_line_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ZeroDivisionError("ours")
    except ZeroDivisionError as error:
        log_error(error, 70, bug=True)
    (record,) = caplog.records
    assert record.getMessage() == "a bug in piperun: ours"
    assert record.exc_info
