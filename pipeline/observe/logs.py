"""Lines of the log: where they go, as text for people or as JSON, with secrets masked in every one; a thousand equal
events are one line with a count. In which words an event is told is not known here, nor who emits it."""

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from pipeline import events
from pipeline.config.model import Log
from pipeline.events import Event
from pipeline.observe.sentences import LEVELS, Line, describe

_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}
# Their DEBUG prints frames with bodies; their INFO says again what our events say.
_CLIENT_LOGGERS = ("aio_pika", "aiormq")
# A connection, channel or consumer that ends is an event of ours, in one sentence with what happens next; the client
# says it again, with a traceback.
_SAID_BY_EVENTS = ("aiormq.connection", "aiormq.channel")
# After the first of its kind, equal lines are counted for this long before they are said again.
_REPEAT_SECONDS = 5.0
_MOST_KINDS = 1_000  # of lines that are remembered at a time; what comes beyond is said


def set_up_logging(
    log: Log, *, mask: Callable[[str], str], worker: int | None = None, stream: TextIO | None = None
) -> None:
    """Send everything that is logged in this process, handlers' own lines included, to standard error."""
    lines = _Lines(stream)
    if log.format == "json":
        lines.setFormatter(_JsonLines(mask, worker))
    else:
        colour = lines.stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        lines.setFormatter(_TextLines(mask, worker, colour=colour))
    logging.basicConfig(level=LEVELS[log.level], handlers=[lines], force=True)
    logging.captureWarnings(True)  # Python's own, about a handler's module above all
    quieten_client()


def quieten_client() -> None:
    """By itself for commands that say everything with their result, and log nothing."""
    for name in _CLIENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SAID_BY_EVENTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


class LogLines:
    """Listens to events and logs them under the name of what they concern: `consumer.charge`, `queue.billing`."""

    def __init__(self, log: Log, *, now: Callable[[], float]) -> None:
        self._bodies = log.bodies
        self._now = now
        self._repeats: dict[_Kind, _Repeat] = {}  # the one said first comes first

    def __call__(self, event: Event) -> None:
        if isinstance(event, events.Summary):
            self.flush()  # it is the last line
        line = describe(event, bodies=self._bodies)
        if line is None or not _logger(line).isEnabledFor(line.level):
            return
        more = self._more(event, line)
        if more is not None:
            _logger(line).log(line.level, "%s", line.sentence + more, extra={"piperun": _fields(event)})

    def flush(self) -> None:
        """Say how many lines were not said. For the end of a process that says no last line."""
        for repeat in self._repeats.values():
            repeat.say()
        self._repeats.clear()

    def _more(self, event: Event, line: Line) -> str | None:
        """What to add for equal lines that were not said; None when this one is not to be said either."""
        kind = _kind(event)
        known = self._repeats.get(kind) if kind else None
        if kind and known and self._now() - known.since < _REPEAT_SECONDS:
            known.unsaid += 1
            return None
        if kind and known:
            del self._repeats[kind]
        self._say_old()
        if kind and len(self._repeats) < _MOST_KINDS:
            self._repeats[kind] = _Repeat(since=self._now(), line=line)
        return f" (and {known.unsaid} more like this before)" if known and known.unsaid else ""

    def _say_old(self) -> None:
        """Of lines whose time of counting is over, say what was not said, and forget them: texts of errors are of
        endless variety."""
        while self._repeats:
            kind, first = next(iter(self._repeats.items()))
            if self._now() - first.since < _REPEAT_SECONDS:
                return
            del self._repeats[kind]
            first.say()


_Kind = tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class _Repeat:
    since: float
    line: Line
    unsaid: int = 0

    def say(self) -> None:
        if self.unsaid:
            like = self.line.sentence.partition("\n")[0]
            _logger(self.line).log(self.line.level, "%d more like: %s", self.unsaid, like)


def _logger(line: Line) -> logging.Logger:
    return logging.getLogger(f"piperun.{line.subject}")


def _kind(event: Event) -> _Kind | None:
    """What makes two events the same to a reader; None for those that are always said."""
    match event:
        case events.MessageFailed(consumer=name, reason=reason, error=error):
            return "failed", name, reason, error
        case events.MessageRetried(consumer=name, attempt=attempt, error=error):
            return "retried", name, str(attempt), error
        case events.AttemptDisbelieved(consumer=name):
            return "disbelieved", name
        case events.RedeliveryExpected(consumer=name):
            return "redelivery", name
        case events.DuplicateSkipped(consumer=name) | events.DuplicateHeld(consumer=name):
            return "duplicate", name, type(event).__name__
        case events.SettleTroubled(consumer=name, reason=reason):
            return "settle", name, reason
        case events.PublishTroubled(producer=name, reason=reason):
            return "publish", name, reason
        case events.TopologyConflict(sentence=sentence):
            return "conflict", sentence
        case events.ConnectFailed(reason=reason):
            return "connect", reason
        case events.LoopBlocked(subject=subject, frames=frames):
            return "blocked", subject, *frames
        case events.LoopTurnsAgain(subject=subject):
            return "turns again", subject
        case _:
            return None


def _fields(event: Event) -> dict[str, object]:
    """What a machine wants to filter by, under the same names as in the file."""
    known = ("consumer", "producer", "queue", "message_id", "worker", "pid", "reason", "redelivered", "attempt", "key")
    found = {name: getattr(event, name) for name in known if hasattr(event, name)}
    if isinstance(event, events.Summary):
        found |= {f"consumers_{term}": number for term, number in event.consumers.items()}
        found |= {f"producers_{term}": number for term, number in event.producers.items()}
    return {"event": type(event).__name__, **found}


class _Lines(logging.Handler):
    """Writes to one stream, or to what is standard error at the moment: a progress bar puts itself in between."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    @property
    def stream(self) -> TextIO:
        return self._stream or sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + "\n")
            self.stream.flush()
        except Exception:  # as every handler of the library does: a log that cannot be written stops nobody
            self.handleError(record)


class _TextLines(logging.Formatter):
    def __init__(self, mask: Callable[[str], str], worker: int | None, *, colour: bool) -> None:
        super().__init__()
        self._mask = mask
        self._worker = "" if worker is None else f"worker.{worker} "
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        text = self._mask(_text(self, record))
        line = f"{moment} {record.levelname.lower():<7} {self._worker}{_subject(record)}: {text}"
        colour = _COLOURS.get(record.levelno) if self._colour else None
        return f"\x1b[{colour}m{line}\x1b[0m" if colour else line


class _JsonLines(logging.Formatter):
    def __init__(self, mask: Callable[[str], str], worker: int | None) -> None:
        super().__init__()
        self._mask = mask
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "subject": _subject(record),
            "message": _text(self, record),
            **self._worker,
            **getattr(record, "piperun", {}),
        }
        masked = {name: self._mask(value) if isinstance(value, str) else value for name, value in line.items()}
        return json.dumps(masked, ensure_ascii=False, default=str)


def _subject(record: logging.LogRecord) -> str:
    return record.name.removeprefix("piperun.")


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage().rstrip("\n")
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    if record.stack_info:
        text += "\n" + record.stack_info
    return text
