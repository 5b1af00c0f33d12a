"""Events in words: what weight each has, what it concerns, and the sentence that a person reads. Pure. What strangers
wrote stands in it bounded and escaped; masking, and where lines go, is not known here."""

import codecs
import logging
from collections.abc import Mapping
from typing import NamedTuple, assert_never

from pipeline import events
from pipeline.events import Event
from pipeline.ledger import DUPLICATES

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LONGEST_ERROR = 1_000  # characters; the text of an exception may hold a whole body
_LONGEST_ID = 255


class Line(NamedTuple):
    level: int
    subject: str  # what it concerns: `consumer.charge`
    sentence: str


def describe(event: Event, *, bodies: int | None) -> Line | None:
    """An event as a line; None for those that are not for the log. `bodies` is how many bytes of a body are shown."""
    match event:
        case events.Connected(link=link, address=address):
            return Line(logging.DEBUG, "broker", f"connected to {address} ({link})")
        case events.ConnectFailed(reason=reason, next_attempt=pause):
            return Line(logging.WARNING, "broker", f"{reason}; next attempt in {shown_seconds(pause)}")
        case events.ConnectionLost():
            return _connection_lost(event)
        case events.Blocked(link=link):
            sentence = f"the broker has blocked publishing (memory or disk alarm, {link}); producers wait"
            return Line(logging.WARNING, "broker", sentence)
        case events.Unblocked(link=link):
            return Line(logging.INFO, "broker", f"the broker takes messages again ({link})")
        case events.TopologyConflict(subject=subject, sentence=sentence):
            return Line(logging.ERROR, subject, f"{sentence}; what depends on it waits, the rest goes on")
        case (
            events.ConsumerStarted()
            | events.ConsumerInterrupted()
            | events.ConsumerInConflict()
            | events.ConsumerPaused()
            | events.ConsumerResumed()
        ):
            return _consumer(event)
        case events.MessageReceived() | events.MessageDone() | events.MessageFailed():
            return _message(event, bodies)
        case events.MessageRetried():
            return _retried(event, bodies)
        case events.AttemptDisbelieved(consumer=name, message_id=which, said=said):
            sentence = (
                f"{_message_called(which)} says {_escaped(said)}, which cannot be true: it counts as a first attempt"
            )
            return Line(logging.WARNING, f"consumer.{name}", sentence)
        case events.DuplicateSkipped() | events.DuplicateHeld():
            return _duplicate(event)
        case events.SettleTroubled() | events.RedeliveryExpected() | events.HandlerAbandoned():
            return _held(event)
        case events.HandlerStuck() | events.HandlerFreed():
            return _slots(event)
        case events.ProducerProgress():
            return None
        case (
            events.ProducerStarted()
            | events.ProducerFinished()
            | events.ProducerFailed()
            | events.PublishTroubled()
            | events.Unconfirmed()
        ):
            return _producer(event)
        case events.Notice(subject=subject, sentence=sentence, level=level):
            return Line(LEVELS[level], subject, sentence)
        case events.LoopBlocked() | events.LoopTurnsAgain():
            return _loop(event)
        case events.Ready(pipelines=names, consumers=consumers, producers=producers):
            parts = f"{_count(consumers, 'consumer')}, {_count(producers, 'producer')}"
            return Line(logging.INFO, "pipeline", f"{', '.join(names)}: ready with {parts}")
        case events.Stopping(reason=reason, shutdown_timeout=limit):
            return Line(logging.INFO, "pipeline", f"stopping, {reason}; at most {shown_seconds(limit)}")
        case events.WorkerStarted(worker=worker, pid=pid):
            return Line(logging.INFO, f"worker.{worker}", f"started as process {pid}")
        case events.WorkerDied():
            return _worker_died(event)
        case events.DeathsCounted():
            return _deaths_counted(event)
        case events.HandledAlone(consumer=consumer, message_id=which, deaths=deaths, crash_limit=limit):
            why = f"it was in hand at {_count(deaths, 'death')} of a worker, and has failed at {limit}"
            sentence = f"{_message_called(which)} is handled alone: {why}"
            return Line(logging.INFO, f"consumer.{consumer}", sentence)
        case events.Summary():
            return _summary(event)
        case _:
            assert_never(event)


# What stands on a link decides what its loss means.
_AFTER_LOSS = {
    "publish": "; what is not confirmed is sent again",
    "consume": "; messages in hand will be delivered again",
}


def _connection_lost(event: events.ConnectionLost) -> Line:
    after = _AFTER_LOSS.get(event.link, "")
    pause = shown_seconds(event.next_attempt)
    sentence = f"lost the connection ({event.link}): {event.reason}; next attempt in {pause}{after}"
    return Line(logging.WARNING, "broker", sentence)


_OfConsumer = (
    events.ConsumerStarted
    | events.ConsumerInterrupted
    | events.ConsumerInConflict
    | events.ConsumerPaused
    | events.ConsumerResumed
)


def _consumer(event: _OfConsumer) -> Line:
    subject = f"consumer.{event.consumer}"
    match event:
        case events.ConsumerStarted(queue=queue):
            return Line(logging.INFO, subject, f'consuming from queue "{queue}"')
        case events.ConsumerInterrupted(queue=queue, reason=reason, next_attempt=pause):
            after = f"starts again in {shown_seconds(pause)}"
            return Line(logging.WARNING, subject, f'stopped consuming from queue "{queue}": {reason}; {after}')
        case events.ConsumerInConflict(reason=reason, next_attempt=pause):
            return Line(logging.ERROR, subject, f"in conflict: {reason}; next attempt in {shown_seconds(pause)}")
        case events.ConsumerPaused(waiting=waiting):
            sentence = f"{_count(waiting, 'message')} wait here; pausing until most are handled"
            return Line(logging.INFO, subject, sentence)
        case events.ConsumerResumed(waiting=waiting):
            return Line(logging.INFO, subject, f"consuming again, {_count(waiting, 'message')} left to handle")


def _message(event: events.MessageReceived | events.MessageDone | events.MessageFailed, bodies: int | None) -> Line:
    subject, which = f"consumer.{event.consumer}", _message_called(event.message_id)
    body = "" if bodies is None else f", body {shown_body(event.body, bodies)}"
    match event:
        case events.MessageReceived(redelivered=redelivered, attempt=attempt):
            again = (", delivered again" if redelivered else "") + (f", attempt {attempt}" if attempt > 1 else "")
            return Line(logging.DEBUG, subject, f"received {which}{again}{body}")
        case events.MessageDone(seconds=seconds):
            return Line(logging.DEBUG, subject, f"ended {which} after {shown_seconds(seconds)}")
        case events.MessageFailed(reason=reason, error=error, fate=fate, dropped=dropped, frames=frames):
            level = logging.ERROR if dropped else logging.WARNING
            where = "".join(f"\n    {frame}" for frame in frames)
            return Line(level, subject, f"{which} failed ({reason}): {_shown_error(error)}; {fate}{body}{where}")


def _retried(event: events.MessageRetried, bodies: int | None) -> Line:
    body = "" if bodies is None else f", body {shown_body(event.body, bodies)}"
    where = "".join(f"\n    {frame}" for frame in event.frames)
    which, after = _message_called(event.message_id), shown_seconds(event.after)
    failed = f"{which} failed (attempt {event.attempt} of {event.attempts}): {_shown_error(event.error)}"
    return Line(logging.WARNING, f"consumer.{event.consumer}", f"{failed}; again in {after}{body}{where}")


def _duplicate(event: events.DuplicateSkipped | events.DuplicateHeld) -> Line:
    subject, which = f"consumer.{event.consumer}", _message_called(event.message_id)
    if event.key != event.message_id:
        which += f' with key "{_escaped(event.key)}"'
    match event:
        case events.DuplicateSkipped():
            return Line(logging.INFO, subject, f"{which} is a duplicate: acknowledged without being handled again")
        case events.DuplicateHeld():
            sentence = f"{which} waits: another message with its key is being handled, or its process has just died"
            return Line(logging.INFO, subject, sentence)


def _held(event: events.SettleTroubled | events.RedeliveryExpected | events.HandlerAbandoned) -> Line:
    subject, which = f"consumer.{event.consumer}", _message_called(event.message_id)
    match event:
        case events.SettleTroubled(reason=reason, next_attempt=pause):
            sentence = f"{which} is held: {reason}; next attempt in {shown_seconds(pause)}"
            return Line(logging.WARNING, subject, sentence)
        case events.RedeliveryExpected():
            sentence = f"the channel of {which} has ended; the broker will deliver it again"
            return Line(logging.WARNING, subject, sentence)
        case events.HandlerAbandoned(thread=thread, dropped=dropped):
            what = "its thread is left behind" if thread else "it is cancelled"
            fate = "the message is DROPPED" if dropped else "the message goes back to its queue"
            sentence = f"the handler of {which} did not end in time: {what}, and {fate}"
            return Line(logging.ERROR, subject, sentence)


def _slots(event: events.HandlerStuck | events.HandlerFreed) -> Line:
    subject, taken = f"consumer.{event.consumer}", f"{event.stuck} of {_count(event.slots, 'slot')}"
    match event:
        case events.HandlerStuck(message_id=which):
            stands = event.stuck == event.slots
            after = ": nothing is handled here until one ends, or the process is started again" if stands else ""
            sentence = f"the thread of {_message_called(which)} does not end and keeps its slot, {taken} now{after}"
            return Line(logging.ERROR if stands else logging.WARNING, subject, sentence)
        case events.HandlerFreed():
            return Line(logging.INFO, subject, f"a thread that was given up has ended; {taken} still taken by others")


def _loop(event: events.LoopBlocked | events.LoopTurnsAgain) -> Line:
    whose = "its handler" if event.subject.startswith("consumer.") else "something"
    match event:
        case events.LoopBlocked(seconds=seconds, frames=frames):
            where = "".join(f"\n    {frame}" for frame in frames)
            meanwhile = "meanwhile nothing else runs in this process, and the broker hangs up when heartbeats fail"
            way_out = "wait with `await`, or use a plain `def`, which runs in a thread"
            sentence = f"{whose} has blocked the event loop for {shown_seconds(seconds)}: {meanwhile}; {way_out}{where}"
            return Line(logging.WARNING, event.subject, sentence)
        case events.LoopTurnsAgain(seconds=seconds):
            sentence = f"the event loop turns again; {whose} had blocked it for {shown_seconds(seconds)}"
            return Line(logging.WARNING, event.subject, sentence)


_OfProducer = (
    events.ProducerStarted
    | events.ProducerFinished
    | events.ProducerFailed
    | events.PublishTroubled
    | events.Unconfirmed
)


def _producer(event: _OfProducer) -> Line:
    subject = f"producer.{event.producer}"
    match event:
        case events.ProducerStarted():
            return Line(logging.DEBUG, subject, "started")
        case events.ProducerFinished(confirmed=confirmed):
            return Line(logging.INFO, subject, f"finished: {confirmed} confirmed")
        case events.ProducerFailed(reason=reason):
            return Line(logging.ERROR, subject, f"{reason}; the pipeline stops")
        case events.PublishTroubled(reason=reason, next_attempt=pause):
            after = f"sent again in {shown_seconds(pause)}, under the same message id"
            return Line(logging.WARNING, subject, f"not confirmed yet: {reason}; {after}")
        case events.Unconfirmed(message_id=which):
            sentence = f"{_message_called(which)} has no answer: it may have arrived, a duplicate is possible"
            return Line(logging.WARNING, subject, sentence)


def _worker_died(event: events.WorkerDied) -> Line:
    fate = ""
    if event.in_hand:
        fate += f"; {_count(event.in_hand, 'message')} in hand will be delivered again"
    if event.dropped:
        fate += f"; {_count(event.dropped, 'message')} handed out and never finished: DROPPED"
    after = "" if event.next_start is None else f"; the next one starts in {shown_seconds(event.next_start)}"
    sentence = f"process {event.pid} died: {event.cause}{fate}{after}"
    return Line(logging.ERROR, f"worker.{event.worker}", sentence)


def _deaths_counted(event: events.DeathsCounted) -> Line:
    called = [_message_called(each).removeprefix("message ") for each in event.message_ids]
    if event.messages > len(called):
        called.append(f"{event.messages - len(called)} more")
    which = f"{_count(event.messages, 'message')} of consumer.{event.consumer} in hand ({', '.join(called)})"
    many = event.messages > 1
    if event.deaths < event.crash_limit:
        fate = f"{'each' if many else 'it'} is handled alone the next time"
    else:
        fate = f"{'they are' if many else 'it is'} not handled again, and {'have' if many else 'has'} failed"
    sentence = f"died with {which}: death {event.deaths} of {event.crash_limit}; {fate}"
    return Line(logging.WARNING, f"worker.{event.worker}", sentence)


def _summary(event: events.Summary) -> Line:
    sent, handled = event.producers, event.consumers
    parts = [f"{sent['confirmed']} sent and confirmed"] if sent["read"] else []
    parts += [f"{sent[term]} {words}" for term, words in _NOT_SENT.items() if sent[term]]
    if handled["delivered"] or not sent["read"]:  # of a run that only sends, nobody asks what was handled
        parts += [f"{handled['delivered']} delivered", f"{handled['done']} done{_of_them_duplicates(handled)}"]
    parts += [f"{handled[term]} {words}" for term, words in _FATES.items() if handled[term]]
    if event.gone_with_broker:
        parts.append(f"{_count(event.gone_with_broker, 'message')} gone with the embedded broker")
    level = logging.ERROR if handled["dropped"] or sent["failed"] else logging.INFO
    return Line(level, "pipeline", f"ended after {shown_seconds(event.seconds)}: {', '.join(parts)}")


def _of_them_duplicates(handled: Mapping[str, int]) -> str:
    found = handled.get(DUPLICATES, 0)
    return f" ({_count(found, 'duplicate')} skipped)" if found else ""


_NOT_SENT = {"failed": "NOT sent", "pending": "without an answer"}
_FATES = {
    "retried": "retried",
    "dead_lettered": "dead-lettered",
    "dropped": "DROPPED",
    "returned": "returned",
    "redelivery_expected": "to be delivered again",
    "in_hand": "in hand",
}


def shown_body(body: bytes, limit: int) -> str:
    """The beginning of a body: control characters escaped, bytes that are no text as a count."""
    whole = len(body) <= limit
    try:
        # A character that the limit cuts in two is left out.
        text = codecs.getincrementaldecoder("utf-8")().decode(body[:limit], final=whole)
    except UnicodeDecodeError:
        return f"{_count(len(body), 'byte')} that are no text"
    return f'"{_escaped(text)}"' + ("" if whole else f"... ({len(body)} bytes)")


def shown_seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s".replace(".0 s", " s")


def _shown_error(error: str) -> str:
    """Its lines are kept and indented, so that none of them passes for a line of the log."""
    text = error if len(error) <= _LONGEST_ERROR else f"{error[:_LONGEST_ERROR]}... ({len(error)} characters)"
    return "\n    ".join(_escaped(line) for line in text.splitlines())


def _message_called(message_id: str | None) -> str:
    """Ids come from strangers, and the broker lets every character pass."""
    return f"message {_escaped(message_id[:_LONGEST_ID])}" if message_id else "message without id"


def _escaped(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
