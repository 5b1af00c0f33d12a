"""An event to one line for people, or one line of JSON. Secrets are masked in every line, bodies shown only where asked
for, and a thousand equal lines are one line with a count. Counters and who emits are not known here."""

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO, assert_never

from pipeline import events
from pipeline.config.model import Log
from pipeline.events import Event

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}
# Their DEBUG prints frames with bodies; their INFO says again what our events say.
_CLIENT_LOGGERS = ("aio_pika", "aiormq")
# After the first of its kind, equal lines are counted for this long before they are said again.
_REPEAT_SECONDS = 5.0


def set_up_logging(
    log: Log, *, mask: Callable[[str], str], worker: int | None = None, stream: TextIO | None = None
) -> None:
    """Send everything that is logged in this process, handlers' own lines included, to standard error."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    if log.format == "json":
        handler.setFormatter(_JsonLines(mask, worker))
    else:
        colour = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        handler.setFormatter(_TextLines(mask, worker, colour=colour))
    logging.basicConfig(level=LEVELS[log.level], handlers=[handler], force=True)
    for name in _CLIENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Every failure to connect is an event or an error of ours, with its way out; the client says it again, without.
    logging.getLogger("aiormq.connection").addFilter(lambda record: "creating transport" not in record.getMessage())


class LogLines:
    """Listens to events and logs them under the name of what they concern: `consumer.charge`, `queue.billing`."""

    def __init__(self, log: Log, *, now: Callable[[], float]) -> None:
        self._bodies = log.bodies
        self._now = now
        self._repeats: dict[tuple[object, ...], list[float]] = {}

    def __call__(self, event: Event) -> None:
        line = describe(event, bodies=self._bodies)
        if line is None:
            return
        level, subject, sentence = line
        logger = logging.getLogger(f"piperun.{subject}")
        if logger.isEnabledFor(level):
            more = self._more(event)
            if more is not None:
                logger.log(level, sentence + more, extra={"fields": _fields(event)})

    def _more(self, event: Event) -> str | None:
        """What to add for equal lines that were not said; None when this one is not to be said either."""
        kind = _kind(event)
        if kind is None:
            return ""
        since, unsaid = self._repeats.setdefault(kind, [float("-inf"), 0.0])
        if self._now() - since < _REPEAT_SECONDS:
            self._repeats[kind][1] += 1
            return None
        self._repeats[kind] = [self._now(), 0.0]
        return f" (and {unsaid:.0f} more like this before)" if unsaid else ""

    def flush(self) -> None:
        """Say how many lines were not said; called before the last line of a run."""
        for kind, (_, unsaid) in self._repeats.items():
            if unsaid:
                logging.getLogger(f"piperun.{kind[1]}").warning("%.0f more like the last line above", unsaid)
        self._repeats.clear()


def _kind(event: Event) -> tuple[object, ...] | None:
    """What makes two events the same to a reader; None for those that are always said."""
    match event:
        case events.MessageFailed(consumer=name, reason=reason, error=error):
            return ("failed", f"consumer.{name}", reason, error)
        case events.RedeliveryExpected(consumer=name):
            return ("redelivery", f"consumer.{name}")
        case events.SettleTroubled(consumer=name, reason=reason):
            return ("settle", f"consumer.{name}", reason)
        case events.PublishTroubled(producer=name, reason=reason):
            return ("publish", f"producer.{name}", reason)
        case events.TopologyConflict(sentence=sentence):
            return ("conflict", "broker", sentence)
        case _:
            return None


Line = tuple[int, str, str]


def describe(event: Event, *, bodies: int | None) -> Line | None:
    """Level, subject and sentence of an event; None for those that are not for the log."""
    match event:
        case events.Connected(link=link, address=address):
            return logging.DEBUG, "broker", f"connected to {address} ({link})"
        case events.ConnectFailed(reason=reason, next_attempt=pause):
            return logging.WARNING, "broker", f"{reason}; next attempt in {_seconds(pause)}"
        case events.ConnectionLost(link=link, reason=reason, next_attempt=pause):
            return (
                logging.WARNING,
                "broker",
                f"lost the connection ({link}): {reason}; next attempt in {_seconds(pause)}; "
                "messages in hand will be delivered again",
            )
        case events.Blocked(link=link):
            return (
                logging.WARNING,
                "broker",
                f"the broker has blocked publishing (memory or disk alarm, {link}); producers wait",
            )
        case events.Unblocked(link=link):
            return logging.INFO, "broker", f"the broker takes messages again ({link})"
        case events.TopologyConflict(sentence=sentence):
            return logging.ERROR, "broker", f"{sentence}; what depends on it waits, the rest goes on"
        case events.ConsumerStarted(consumer=name, queue=queue):
            return logging.INFO, f"consumer.{name}", f'consuming from queue "{queue}"'
        case events.ConsumerInterrupted(consumer=name, queue=queue, reason=reason, next_attempt=pause):
            return (
                logging.WARNING,
                f"consumer.{name}",
                f'stopped consuming from queue "{queue}": {reason}; starts again in {_seconds(pause)}',
            )
        case events.ConsumerInConflict(consumer=name, reason=reason, next_attempt=pause):
            return logging.ERROR, f"consumer.{name}", f"in conflict: {reason}; next attempt in {_seconds(pause)}"
        case events.ConsumerPaused(consumer=name, waiting=waiting):
            return logging.INFO, f"consumer.{name}", f"{waiting} messages wait here; pausing until most are handled"
        case events.ConsumerResumed(consumer=name, waiting=waiting):
            return logging.INFO, f"consumer.{name}", f"consuming again, {waiting} messages wait"
        case events.MessageReceived() | events.MessageDone() | events.MessageFailed():
            return _message(event, bodies)
        case events.SettleTroubled(consumer=name, message_id=which, reason=reason, next_attempt=pause):
            return (
                logging.WARNING,
                f"consumer.{name}",
                f"message {which or 'without id'} is held: {reason}; next attempt in {_seconds(pause)}",
            )
        case events.RedeliveryExpected(consumer=name, message_id=which):
            return (
                logging.WARNING,
                f"consumer.{name}",
                f"the channel of message {which or 'without id'} has ended; the broker will deliver it again",
            )
        case events.ProducerStarted(producer=name):
            return logging.DEBUG, f"producer.{name}", "started"
        case events.ProducerProgress():
            return None
        case events.ProducerFinished(producer=name, confirmed=confirmed):
            return logging.INFO, f"producer.{name}", f"finished: {confirmed} confirmed"
        case events.ProducerFailed(producer=name, reason=reason):
            return logging.ERROR, f"producer.{name}", f"{reason}; the pipeline stops"
        case events.PublishTroubled(producer=name, reason=reason, next_attempt=pause):
            return (
                logging.WARNING,
                f"producer.{name}",
                f"not confirmed yet: {reason}; sent again in {_seconds(pause)}, under the same message id",
            )
        case events.Notice(subject=subject, sentence=sentence, level=level):
            return LEVELS[level], subject, sentence
        case events.Ready(pipelines=names, consumers=consumers, producers=producers):
            parts = f"{_count(consumers, 'consumer')}, {_count(producers, 'producer')}"
            return logging.INFO, "pipeline", f"{', '.join(names)}: ready with {parts}"
        case events.Stopping(reason=reason, shutdown_timeout=limit):
            return logging.INFO, "pipeline", f"stopping, {reason}; at most {_seconds(limit)}"
        case events.HandlerAbandoned(consumer=name, message_id=which, thread=thread):
            what = "its thread is left behind, and" if thread else "it is cancelled, and"
            return (
                logging.ERROR,
                f"consumer.{name}",
                f"the handler of message {which or 'without id'} did not end in time: {what} "
                "the message goes back to its queue",
            )
        case events.Unconfirmed(producer=name, message_id=which):
            return (
                logging.WARNING,
                f"producer.{name}",
                f"message {which or 'without id'} has no answer: it may have arrived, a duplicate is possible",
            )
        case events.WorkerStarted(worker=worker, pid=pid):
            return logging.INFO, f"worker.{worker}", f"started as process {pid}"
        case events.WorkerDied():
            return _worker_died(event)
        case events.Summary():
            return _summary(event)
        case _:
            assert_never(event)


def _message(event: events.MessageReceived | events.MessageDone | events.MessageFailed, bodies: int | None) -> Line:
    subject = f"consumer.{event.consumer}"
    which = f"message {event.message_id or 'without id'}"
    body = "" if bodies is None else f", body {shown_body(event.body, bodies)}"
    match event:
        case events.MessageReceived(redelivered=redelivered):
            again = ", delivered again" if redelivered else ""
            return logging.DEBUG, subject, f"received {which}{again}{body}"
        case events.MessageDone(seconds=seconds):
            return logging.DEBUG, subject, f"ended {which} after {_seconds(seconds)}"
        case events.MessageFailed(reason=reason, error=error, fate=fate, dropped=dropped, frames=frames):
            level = logging.ERROR if dropped else logging.WARNING
            where = "".join(f"\n    {frame}" for frame in frames)
            return level, subject, f"{which} failed ({reason}): {error}; {fate}{body}{where}"


def _worker_died(event: events.WorkerDied) -> Line:
    fate = ""
    if event.in_hand:
        fate += f"; {_count(event.in_hand, 'message')} in hand will be delivered again"
    if event.dropped:
        fate += f"; {_count(event.dropped, 'message')} handed out and never finished: DROPPED"
    after = "" if event.next_start is None else f"; the next one starts in {_seconds(event.next_start)}"
    return logging.ERROR, f"worker.{event.worker}", f"process {event.pid} died: {event.cause}{fate}{after}"


def _summary(event: events.Summary) -> Line:
    numbers = event.consumers
    parts = [f"{numbers['delivered']} delivered", f"{numbers['done']} done"]
    for term, words in _FATES.items():
        if numbers[term]:
            parts.append(f"{numbers[term]} {words}")
    if event.producers["read"]:
        parts.insert(0, f"{event.producers['confirmed']} sent and confirmed")
    if event.producers["failed"]:
        parts.insert(1, f"{event.producers['failed']} NOT sent")
    if event.producers["pending"]:
        parts.insert(1, f"{event.producers['pending']} without an answer")
    if event.gone_with_broker:
        parts.append(f"{_count(event.gone_with_broker, 'message')} gone with the embedded broker")
    level = logging.ERROR if numbers["dropped"] else logging.INFO
    return level, "pipeline", f"ended after {_seconds(event.seconds)}: {', '.join(parts)}"


_FATES = {
    "retried": "retried",
    "dead_lettered": "dead-lettered",
    "dropped": "DROPPED",
    "returned": "returned",
    "redelivery_expected": "to be delivered again",
    "in_hand": "in hand",
}


def shown_body(body: bytes, limit: int) -> str:
    """The beginning of a body for a log line: control characters escaped, bytes that are no text as a count."""
    try:
        text = body[:limit].decode("utf-8", errors="strict" if len(body) <= limit else "ignore")
    except UnicodeDecodeError:
        return f"{len(body)} bytes that are no text"
    escaped = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return f'"{escaped}"' + ("..." if len(body) > limit else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s".replace(".0 s", " s")


def _fields(event: Event) -> dict[str, object]:
    """What a machine wants to filter by, under the same names as in the file."""
    known = ("consumer", "producer", "queue", "message_id", "worker", "pid", "reason", "redelivered", "attempt")
    found = {name: getattr(event, name) for name in known if hasattr(event, name)}
    if isinstance(event, events.Summary):
        found |= {f"consumers_{term}": number for term, number in event.consumers.items()}
        found |= {f"producers_{term}": number for term, number in event.producers.items()}
    return {"event": type(event).__name__, **found}


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
            **getattr(record, "fields", {}),
        }
        masked = {name: self._mask(value) if isinstance(value, str) else value for name, value in line.items()}
        return json.dumps(masked, ensure_ascii=False, default=str)


def _subject(record: logging.LogRecord) -> str:
    return record.name.removeprefix("piperun.")


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text
