"""What happened, as typed values, and who listens. A listener that fails hurts nobody. What becomes of an event (a log
line, a number, a state of health) is not known here."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Connected:
    link: str
    address: str


@dataclass(frozen=True, kw_only=True)
class ConnectFailed:
    link: str
    reason: str
    next_attempt: float


@dataclass(frozen=True, kw_only=True)
class ConnectionLost:
    link: str
    reason: str
    next_attempt: float


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """The broker reads nothing from this connection: an alarm (connection.blocked)."""

    link: str


@dataclass(frozen=True, kw_only=True)
class Unblocked:
    link: str


@dataclass(frozen=True, kw_only=True)
class ConsumerStarted:
    consumer: str
    queue: str


@dataclass(frozen=True, kw_only=True)
class ConsumerInterrupted:
    """The broker ended this consumer or its channel; it is started again after `next_attempt` seconds."""

    consumer: str
    queue: str
    reason: str
    next_attempt: float


@dataclass(frozen=True, kw_only=True)
class ConsumerInConflict:
    """Its queue cannot be declared or consumed as the file says; tried again after `next_attempt` seconds."""

    consumer: str
    queue: str
    reason: str
    next_attempt: float


@dataclass(frozen=True, kw_only=True)
class ConsumerPaused:
    """With `ack: none`: so many messages wait in this process that no more are asked for."""

    consumer: str
    waiting: int


@dataclass(frozen=True, kw_only=True)
class ConsumerResumed:
    consumer: str
    waiting: int


@dataclass(frozen=True, kw_only=True)
class TopologyConflict:
    """An object could not be declared after the first start; what depends on it waits. `subject` is the object where
    it is known, such as `queue.billing`."""

    sentence: str
    subject: str = "broker"


@dataclass(frozen=True, kw_only=True)
class MessageDone:
    consumer: str
    message_id: str | None
    redelivered: bool
    seconds: float
    body: bytes


@dataclass(frozen=True, kw_only=True)
class MessageReceived:
    consumer: str
    message_id: str | None
    redelivered: bool
    attempt: int
    body: bytes


@dataclass(frozen=True, kw_only=True)
class MessageFailed:
    """A handler failed and the message stays safe: `fate` says what happens to it next."""

    consumer: str
    message_id: str | None
    reason: str
    error: str
    fate: str
    dropped: bool
    frames: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class MessageRetried:
    """A handler failed and the message is handled again after `after` seconds: this was `attempt` of `attempts`."""

    consumer: str
    message_id: str | None
    error: str
    attempt: int
    attempts: int
    after: float
    frames: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class AttemptDisbelieved:
    """The header that counts a message's attempts says what cannot be true; it is handled as if for the first time."""

    consumer: str
    message_id: str | None
    said: str


@dataclass(frozen=True, kw_only=True)
class DuplicateSkipped:
    """Its key is done: it is acknowledged without being handled."""

    consumer: str
    message_id: str | None
    key: str


@dataclass(frozen=True, kw_only=True)
class DuplicateHeld:
    """Another message with its key is being handled, here or in another process: this one waits for how that ends."""

    consumer: str
    message_id: str | None
    key: str


@dataclass(frozen=True, kw_only=True)
class SettleTroubled:
    """A copy could not be confirmed, or a key not be read or kept; the message is held, and it is tried again after
    `next_attempt` seconds."""

    consumer: str
    message_id: str | None
    reason: str
    next_attempt: float


@dataclass(frozen=True, kw_only=True)
class RedeliveryExpected:
    """The channel ended before a message was settled: the broker delivers it again."""

    consumer: str
    message_id: str | None


@dataclass(frozen=True, kw_only=True)
class ProducerStarted:
    producer: str


@dataclass(frozen=True, kw_only=True)
class ProducerProgress:
    """For a progress bar; emitted only where somebody looks at one."""

    producer: str
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, kw_only=True)
class ProducerFinished:
    producer: str
    confirmed: int


@dataclass(frozen=True, kw_only=True)
class ProducerFailed:
    producer: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PublishTroubled:
    """An item could not be confirmed yet and is sent again, under the same message id."""

    producer: str
    reason: str
    next_attempt: float


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something a person should know that has no other consequence."""

    subject: str
    sentence: str
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, kw_only=True)
class LoopBlocked:
    """The event loop has not turned for so long. `subject` is whose code runs there, such as `consumer.charge`, or
    `pipeline` where that is not known; `frames` is where, the innermost last."""

    subject: str
    seconds: float
    frames: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LoopTurnsAgain:
    """Comes after `LoopBlocked`; `seconds` is how long it was in all."""

    subject: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Ready:
    pipelines: tuple[str, ...]
    consumers: int
    producers: int


@dataclass(frozen=True, kw_only=True)
class Stopping:
    reason: str
    shutdown_timeout: float


@dataclass(frozen=True, kw_only=True)
class HandlerAbandoned:
    """At the end of `shutdown_timeout` this handler still ran; its message was given back, or is gone."""

    consumer: str
    message_id: str | None
    thread: bool
    dropped: bool


@dataclass(frozen=True, kw_only=True)
class HandlerStuck:
    """The time of this message was over, and its thread does not end: it keeps its slot, as `stuck` of `slots` do."""

    consumer: str
    message_id: str | None
    stuck: int
    slots: int


@dataclass(frozen=True, kw_only=True)
class HandlerFreed:
    """Such a thread has ended at last, and its slot handles messages again."""

    consumer: str
    stuck: int
    slots: int


@dataclass(frozen=True, kw_only=True)
class Unconfirmed:
    """At the end of `shutdown_timeout` this publish had no answer: it may have arrived, a duplicate is possible."""

    producer: str
    message_id: str | None


@dataclass(frozen=True, kw_only=True)
class WorkerStarted:
    worker: int
    pid: int


@dataclass(frozen=True, kw_only=True)
class WorkerDied:
    worker: int
    pid: int
    cause: str
    in_hand: int  # the broker delivers these again
    dropped: int  # these are gone: `ack: none`
    next_start: float | None


@dataclass(frozen=True, kw_only=True)
class DeathsCounted:
    """A worker died with messages of one consumer in hand that have the same number of deaths now. `message_ids` are
    the first few; None: without id."""

    worker: int
    consumer: str
    messages: int
    message_ids: tuple[str | None, ...]
    deaths: int
    crash_limit: int


@dataclass(frozen=True, kw_only=True)
class HandledAlone:
    """A message that was in hand when a worker died: nothing else is begun in this process until it has ended."""

    consumer: str
    message_id: str | None
    deaths: int
    crash_limit: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The last line of a run: what became of everything."""

    seconds: float
    consumers: Mapping[str, int]
    producers: Mapping[str, int]
    gone_with_broker: int | None


Event = (
    Connected
    | ConnectFailed
    | ConnectionLost
    | Blocked
    | Unblocked
    | ConsumerStarted
    | ConsumerInterrupted
    | ConsumerInConflict
    | ConsumerPaused
    | ConsumerResumed
    | TopologyConflict
    | MessageReceived
    | MessageDone
    | MessageFailed
    | MessageRetried
    | AttemptDisbelieved
    | DuplicateSkipped
    | DuplicateHeld
    | SettleTroubled
    | RedeliveryExpected
    | ProducerStarted
    | ProducerProgress
    | ProducerFinished
    | ProducerFailed
    | PublishTroubled
    | Notice
    | LoopBlocked
    | LoopTurnsAgain
    | Ready
    | Stopping
    | HandlerAbandoned
    | HandlerStuck
    | HandlerFreed
    | Unconfirmed
    | WorkerStarted
    | WorkerDied
    | DeathsCounted
    | HandledAlone
    | Summary
)
Listener = Callable[[Event], None]


class Events:
    """Hands each event to every listener, one after the other, in the order in which they came. Safe to call from any
    thread: of an event loop that is blocked, another thread has to tell."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._one_at_a_time = threading.RLock()  # a listener may emit

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        with self._one_at_a_time:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    logging.getLogger("piperun").exception("a listener failed on %s", type(event).__name__)
