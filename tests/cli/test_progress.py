"""Bars on a terminal for sources that know how far they are, gone when their producers end."""

import pytest

from pipeline.cli.progress import ProgressBars
from pipeline.events import ProducerFailed, ProducerFinished, ProducerProgress, Unblocked
from tests.observe.test_sentences import summary


@pytest.fixture(autouse=True)
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


def progress(name: str, done: int, unit: str = "bytes") -> ProducerProgress:
    return ProducerProgress(producer=name, done=done, total=100, unit=unit)


def test_a_bar_shows_who_it_is_of_and_leaves_with_its_producer(capsys: pytest.CaptureFixture[str]) -> None:
    bars = ProgressBars()
    bars(progress("nightly", 10))
    bars(progress("hourly", 20))
    bars(progress("nightly", 100))
    assert set(bars._bars) == {"nightly", "hourly"}
    bars(ProducerFinished(producer="nightly", confirmed=5))
    bars(ProducerFailed(producer="hourly", reason="no such file"))
    assert bars._bars == {}
    told = capsys.readouterr()
    assert told.out == ""
    assert "producer.nightly" in told.err


def test_what_is_not_counted_in_bytes_has_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bars = ProgressBars()
    bars(progress("ticks", 10, unit="items"))
    bars(Unblocked(link="publish"))
    bars(ProducerFinished(producer="ticks", confirmed=5))
    assert bars._bars == {}
    assert capsys.readouterr().err == ""


def test_the_end_of_a_run_takes_every_bar_away(capsys: pytest.CaptureFixture[str]) -> None:
    bars = ProgressBars()
    bars(progress("nightly", 10))
    bars(summary())
    shown = capsys.readouterr().err
    assert shown.rstrip().endswith("\x1b[2K")  # the last thing is an empty line
