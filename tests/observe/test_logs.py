"""Lines of the log as they are written: text and JSON, masked, with the worker's name, and equal ones counted."""

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from pipeline import events
from pipeline.clock import FakeClock
from pipeline.config.model import LogFormat, LogLevel
from pipeline.ledger import CONSUMER_TERMS, PRODUCER_TERMS
from pipeline.observe.logs import LogLines, set_up_logging
from pipeline.secret import Masker, Secret
from tests.models import a_log
from tests.observe.test_sentences import failed, retried, summary


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Log:
    """A log that is written into memory."""

    def __init__(self, *, worker: int | None = None, stream: io.StringIO | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.stream = stream or io.StringIO()
        log = a_log(**settings)
        mask = Masker([Secret("hunter-two")])
        set_up_logging(log, mask=mask, worker=worker, stream=self.stream)
        self.tell = LogLines(log, now=self.clock.now)

    @property
    def lines(self) -> list[str]:
        """What was written, without the time."""
        written = re.sub(r"(?m)^(\x1b\[\d+m)?\d\d:\d\d:\d\d\.\d{3} ", r"\1", self.stream.getvalue())
        return written.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", ["text", "auto"])
def test_a_line_for_people(form: LogFormat) -> None:
    log = Log(format=form)
    log.tell(events.ConsumerStarted(consumer="charge", queue="billing"))
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} info    consumer\.charge: consuming from queue "billing"\n', log.stream.getvalue()
    )


def test_a_line_for_machines() -> None:
    log = Log(format="json")
    log.tell(failed(message_id="m-1", frames=("steps.py:3 in charge",)))
    (line,) = log.objects
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line.pop("message").startswith("message m-1 failed (fatal): Reject: too old; ")
    assert line == {
        "level": "warning",
        "subject": "consumer.charge",
        "event": "MessageFailed",
        "consumer": "charge",
        "message_id": "m-1",
        "reason": "fatal",
    }
    assert log.stream.getvalue().count("\n") == 1


def test_the_last_line_has_every_number_for_machines() -> None:
    log = Log(format="json")
    log.tell(summary(read=5, confirmed=5, delivered=5, done=4, dead_lettered=1))
    (line,) = log.objects
    assert {f"consumers_{term}" for term in (*CONSUMER_TERMS, "in_hand")} <= set(line)
    assert {f"producers_{term}" for term in (*PRODUCER_TERMS, "pending")} <= set(line)
    assert (line["consumers_dead_lettered"], line["producers_confirmed"]) == (1, 5)


def test_the_lines_of_a_worker_say_which_one_it_is() -> None:
    text, machine = Log(worker=2), Log(worker=2, format="json")
    for form in (text, machine):
        set_up_logging(a_log(format="json" if form is machine else "text"), mask=str, worker=2, stream=form.stream)
        form.tell(events.ConsumerStarted(consumer="charge", queue="billing"))
    assert text.lines == ['info    worker.2 consumer.charge: consuming from queue "billing"']
    assert machine.objects[0]["worker"] == 2


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_only_what_is_as_important_as_asked_is_written(level: str, written: int) -> None:
    log = Log(level=level)
    for weight in get_args(LogLevel):
        log.tell(events.Notice(subject="broker", sentence=weight, level=weight))
    assert len(log.lines) == written


def test_progress_is_not_logged() -> None:
    log = Log(level="debug")
    log.tell(events.ProducerProgress(producer="a", done=1, total=2, unit="bytes"))
    assert log.lines == []


# Secrets and bodies


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_written_whoever_logs_it(form: LogFormat) -> None:
    log = Log(format=form, level="debug", bodies=100)
    log.tell(failed(error="ValueError: hunter-two", reason="hunter-two", body=b"hunter-two", message_id="hunter-two"))
    log.tell(events.Notice(subject="broker", sentence="amqp://app:swordfish@rabbit/ is down"))
    logging.getLogger("shop").warning("logged in with %s", "hunter-two")
    try:
        raise ValueError("hunter-two")
    except ValueError:
        logging.getLogger("shop").exception("it failed", stack_info=True)
    written = log.stream.getvalue()
    assert "hunter-two" not in written and "swordfish" not in written
    assert "***" in written


def test_bodies_are_written_only_where_asked_for() -> None:
    quiet, asked = io.StringIO(), io.StringIO()
    for stream, bodies in ((quiet, None), (asked, 4)):
        Log(stream=stream, bodies=bodies).tell(failed(body=b"an order"))
    assert "an o" not in quiet.getvalue()
    assert 'body "an o"... (8 bytes)' in asked.getvalue()


# Whoever else logs


def test_lines_of_handlers_go_the_same_way() -> None:
    log = Log(format="json")
    logging.getLogger("shop.billing").info("charged %d", 7)
    logging.getLogger("piperun.consumer.charge").info("charged")
    logging.info("by nobody")
    logging.getLogger("shop").info("extra", extra={"fields": ["not", "ours"]})
    assert [(line["subject"], line["message"]) for line in log.objects] == [
        ("shop.billing", "charged 7"),
        ("consumer.charge", "charged"),
        ("root", "by nobody"),
        ("shop", "extra"),
    ]


def test_a_percent_sign_in_a_sentence_is_only_a_percent_sign() -> None:
    log = Log()
    log.tell(events.Notice(subject="broker", sentence="100 %s of it"))
    assert log.lines == ["info    broker: 100 %s of it"]


@pytest.mark.parametrize("name", ["aio_pika", "aiormq", "aio_pika.connection"])
def test_the_client_is_heard_only_when_it_warns(name: str) -> None:
    log = Log(level="debug")
    logging.getLogger(name).info("frame %r", b"with a body")
    logging.getLogger(name).warning("a word")
    assert log.lines == [f"warning {name}: a word"]


@pytest.mark.parametrize("name", ["aiormq.connection", "aiormq.channel"])
def test_what_the_client_says_of_ends_is_ours_to_say(name: str) -> None:
    log = Log(level="debug")
    logging.getLogger(name).error("Unexpected close", exc_info=ConnectionError("reset"))
    assert log.lines == []


def test_a_log_that_cannot_be_written_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    log.stream.close()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.tell(events.Unblocked(link="publish"))


def test_lines_go_to_what_is_standard_error_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_logging(a_log(), mask=str)
    between = io.StringIO()  # as a progress bar puts itself in
    monkeypatch.setattr(sys, "stderr", between)
    logging.getLogger("shop").warning("above the bar")
    assert between.getvalue().endswith("shop: above the bar\n")


# Colour


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"NO_COLOR": ""}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    log = Log(stream=stream())
    log.tell(events.TopologyConflict(sentence="queue differs"))
    (line,) = log.lines
    assert (line.startswith("\x1b[31m") and line.endswith("\x1b[0m")) == coloured
    assert ("\x1b" in line) == coloured


def test_json_has_no_colour() -> None:
    log = Log(stream=Terminal(), format="json")
    log.tell(events.TopologyConflict(sentence="queue differs"))
    assert "\x1b" not in log.stream.getvalue()


# Equal lines


def test_a_thousand_equal_lines_are_one_line_with_a_count() -> None:
    log = Log()
    for _ in range(1_000):
        log.tell(failed())
    assert len(log.lines) == 1
    log.clock.advance(5)
    log.tell(failed())
    assert len(log.lines) == 2
    assert log.lines[1].endswith(" (and 999 more like this before)")
    log.clock.advance(5)
    log.tell(failed())
    assert log.lines[2] == log.lines[0]  # nothing was left out in between


def test_the_count_is_said_by_the_next_line_of_any_kind() -> None:
    log = Log()
    for _ in range(3):
        log.tell(events.RedeliveryExpected(consumer="charge", message_id="m-1"))
    log.clock.advance(4.9)
    log.tell(events.Unblocked(link="publish"))
    assert len(log.lines) == 2
    log.clock.advance(0.2)
    log.tell(events.Unblocked(link="publish"))
    assert log.lines[2:] == [
        "warning consumer.charge: 2 more like: the channel of message m-1 has ended; the broker will deliver it again",
        "info    broker: the broker takes messages again (publish)",
    ]


def test_the_count_is_said_before_the_last_line() -> None:
    log = Log()
    for _ in range(4):
        log.tell(failed(error="ValueError: of two\n  lines", dropped=True))
    log.tell(summary())
    assert log.lines[-2:] == [
        "error   consumer.charge: 3 more like: message m-1 failed (fatal): ValueError: of two",
        "info    pipeline: ended after 12.3 s: 0 delivered, 0 done",
    ]
    log.tell.flush()
    assert len(log.lines) == 4


@pytest.mark.parametrize(
    "others",
    [
        [failed(error="ValueError: other")],
        [failed(reason="timeout")],
        [failed(consumer="other")],
        [events.SettleTroubled(consumer="charge", message_id="m", reason="full", next_attempt=1)],
        [events.PublishTroubled(producer="charge", reason="full", next_attempt=1)],
        [events.TopologyConflict(sentence="queue differs")],
        [events.Unblocked(link="publish")] * 3,  # such lines are news each time
    ],
    ids=lambda others: type(others[0]).__name__,
)
def test_what_differs_is_said(others: list[events.Event]) -> None:
    log = Log()
    for event in [failed(), *others]:
        log.tell(event)
    assert len(log.lines) == 1 + len(others)


def test_the_same_failure_of_other_messages_is_the_same() -> None:
    log = Log()
    for number in range(5):
        log.tell(failed(message_id=f"m-{number}"))
    assert len(log.lines) == 1


def test_the_same_failure_is_news_with_each_attempt_and_not_with_each_message() -> None:
    log = Log()
    for attempt in (1, 2):
        for number in range(5):
            log.tell(retried(message_id=f"m-{number}", attempt=attempt))
            log.tell(events.AttemptDisbelieved(consumer="charge", message_id=f"m-{number}", said=f"attempt: {number}"))
    assert len(log.lines) == 3


def test_a_line_that_is_too_unimportant_is_not_counted_either() -> None:
    log = Log(level="error")
    for _ in range(5):
        log.tell(failed())
    log.tell.flush()
    assert log.lines == []


def test_errors_of_endless_variety_take_no_endless_memory() -> None:
    log = Log()
    for number in range(3_000):
        log.tell(failed(error=f"ValueError: order {number}"))
    assert len(log.lines) == 3_000
    assert len(log.tell._repeats) <= 1_000
    log.clock.advance(5)
    log.tell(failed())
    assert len(log.tell._repeats) == 1


def test_a_warning_of_python_is_a_line_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # as before when the test ends
    monkeypatch.setattr(logging, "_warnings_showwarning", None)
    log = Log(format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("worn out", UserWarning, "shop.py", 3, line="import old")
    (line,) = log.objects
    assert (line["level"], line["subject"]) == ("warning", "py.warnings")
    assert line["message"] == "shop.py:3: UserWarning: worn out\n  import old"
