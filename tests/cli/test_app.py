"""The door of the command line: short forms become verbs, and every error that gets here a text and a status."""

from pathlib import Path

import pytest

from pipeline.cli import app
from pipeline.errors import BrokerError, FileError, LifespanError, TopologyDiffers, UsageError, WorkerFailed
from pipeline.problems import Place, Problem


@pytest.mark.parametrize(
    ("arguments", "with_verb"),
    [
        (["hello.yaml"], ["run", "hello.yaml"]),
        (["a.yaml", "b.yaml", "--until-idle"], ["run", "a.yaml", "b.yaml", "--until-idle"]),
        (["--broker", "amqp://h/", "a.yaml"], ["run", "--broker", "amqp://h/", "a.yaml"]),
        (["run", "a.yaml"], ["run", "a.yaml"]),
        (["validate", "a.yaml"], ["validate", "a.yaml"]),
        (["--help"], ["--help"]),
        (["-h"], ["-h"]),
        (["--version"], ["--version"]),
    ],
)
def test_files_are_short_for_running_them(arguments: list[str], with_verb: list[str]) -> None:
    assert app._with_verb(arguments) == with_verb


def test_without_arguments_the_file_of_the_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert app._with_verb([]) is None
    (tmp_path / "pipeline.yaml").touch()
    assert app._with_verb([]) == ["run", "pipeline.yaml"]


def test_without_anything_to_run_the_help_is_shown_and_it_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(monkeypatch) == 2
    assert "piperun FILE..." in capsys.readouterr().out


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The status with which the command leaves."""
    monkeypatch.setattr("sys.argv", ["piperun", *arguments])
    with pytest.raises(SystemExit) as left:
        app.main()
    return left.value.code


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["validate", "--help"]])
def test_help_and_version_are_fine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert ended(monkeypatch, *arguments) in (0, None)
    assert capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["run"], ["--no-such-option"], ["validate", "--broker", "x"]])
def test_a_mistake_in_the_arguments_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert ended(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err


PROBLEM = Problem(
    severity="error",
    word="empty-file",
    place=Place(path="a.yaml", line=1, column=1),
    sentence="the file is empty",
)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FileError([PROBLEM]), 2, "a.yaml:1:1: error[empty-file]: the file is empty\n"),
        (UsageError("keep one of them"), 2, "error: keep one of them\n"),
        (BrokerError("rabbit:5672: refused"), 3, "error: rabbit:5672: refused\n"),
        (
            TopologyDiffers(["queue a differs", "queue b differs"]),
            4,
            "error: queue a differs\nerror: queue b differs\n",
        ),
        (LifespanError("a lifespan failed"), 1, "error: a lifespan failed\n"),
        (WorkerFailed("worker 1 died while starting: exit status 3", 3), 3, "error: worker 1 died while starting: "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_a_sentence_and_a_status(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, said: str
) -> None:
    assert app._ended_by(error) == status
    told = capsys.readouterr()
    assert (told.out, told.err[: len(said)]) == ("", said)
    assert "Traceback" not in told.err


def test_a_bug_of_ours_is_told_as_one_with_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError("ours")
    except ZeroDivisionError as error:
        assert app._ended_by(error) == 70
    told = capsys.readouterr().err
    assert told.startswith("This is a bug in piperun, and none of yours.")
    assert "ZeroDivisionError: ours" in told
    assert "\npiperun " in told and "Python 3." in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["vlaidate", "a.yaml"],
            'error: there is no file and no command called "vlaidate"; did you mean "validate"?\n',
        ),
        (["orders"], 'orders:1:1: error[unreadable-file]: cannot read "orders": no such file\n'),
    ],
)
def test_a_misspelt_verb_is_not_taken_for_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith(said)
