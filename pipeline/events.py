"""What happened, as typed values, and who listens. A listener that fails hurts nobody. What becomes of an event (a log
line, a number, a state of health) is not known here."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Literal

from pipeline.values import Frozen


class Connected(Frozen, frozen=True, kw_only=True):
    link: str
    address: str


class ConnectFailed(Frozen, frozen=True, kw_only=True):
    link: str
    reason: str
    next_attempt: float


class ConnectionLost(Frozen, frozen=True, kw_only=True):
    link: str
    reason: str
    next_attempt: float


class Blocked(Frozen, frozen=True, kw_only=True):
    """The broker reads nothing from this connection: an alarm (connection.blocked)."""

    link: str


class Unblocked(Frozen, frozen=True, kw_only=True):
    link: str


class ConsumerStarted(Frozen, frozen=True, kw_only=True):
    consumer: str
    queue: str


class ConsumerInterrupted(Frozen, frozen=True, kw_only=True):
    """The broker ended this consumer or its channel; it is started again after `next_attempt` seconds."""

    consumer: str
    queue: str
    reason: str
    next_attempt: float


class ConsumerInConflict(Frozen, frozen=True, kw_only=True):
    """Its queue cannot be declared or consumed as the file says; tried again after `next_attempt` seconds."""

    consumer: str
    queue: str
    reason: str
    next_attempt: float


class ConsumerPaused(Frozen, frozen=True, kw_only=True):
    """With `ack: none`: so many messages wait in this process that no more are asked for."""

    consumer: str
    waiting: int


class ConsumerResumed(Frozen, frozen=True, kw_only=True):
    consumer: str
    waiting: int


class TopologyConflict(Frozen, frozen=True, kw_only=True):
    """An object could not be declared after the first start; what depends on it waits. `subject` is the object where
    it is known, such as `queue.billing`."""

    sentence: str
    subject: str = "broker"


class MessageDone(Frozen, frozen=True, kw_only=True):
    consumer: str
    message_id: str | None
    redelivered: bool
    seconds: float
    body: bytes


class MessageReceived(Frozen, frozen=True, kw_only=True):
    consumer: str
    message_id: str | None
    redelivered: bool
    attempt: int
    body: bytes


class MessageFailed(Frozen, frozen=True, kw_only=True):
    """A handler failed and the message stays safe: `fate` says what happens to it next."""

    consumer: str
    message_id: str | None
    reason: str
    error: str
    fate: str
    dropped: bool
    frames: tuple[str, ...]
    body: bytes


class MessageRetried(Frozen, frozen=True, kw_only=True):
    """A handler failed and the message is handled again after `after` seconds: this was `attempt` of `attempts`."""

    consumer: str
    message_id: str | None
    error: str
    attempt: int
    attempts: int
    after: float
    frames: tuple[str, ...]
    body: bytes


class AttemptDisbelieved(Frozen, frozen=True, kw_only=True):
    """The header that counts a message's attempts says what cannot be true; it is handled as if for the first time."""

    consumer: str
    message_id: str | None
    said: str


class DuplicateSkipped(Frozen, frozen=True, kw_only=True):
    """Its key is done: it is acknowledged without being handled."""

    consumer: str
    message_id: str | None
    key: str


class DuplicateHeld(Frozen, frozen=True, kw_only=True):
    """Another message with its key is being handled, here or in another process: this one waits for how that ends."""

    consumer: str
    message_id: str | None
    key: str


class SettleTroubled(Frozen, frozen=True, kw_only=True):
    """A copy could not be confirmed, or a key not be read or kept; the message is held, and it is tried again after
    `next_attempt` seconds."""

    consumer: str
    message_id: str | None
    reason: str
    next_attempt: float


class RedeliveryExpected(Frozen, frozen=True, kw_only=True):
    """The channel ended before a message was settled: the broker delivers it again."""

    consumer: str
    message_id: str | None


class ProducerStarted(Frozen, frozen=True, kw_only=True):
    producer: str


class ProducerProgress(Frozen, frozen=True, kw_only=True):
    """For a progress bar; emitted only where somebody looks at one."""

    producer: str
    done: int
    total: int | None
    unit: str


class ProducerFinished(Frozen, frozen=True, kw_only=True):
    producer: str
    confirmed: int


class ProducerFailed(Frozen, frozen=True, kw_only=True):
    producer: str
    reason: str


class PublishTroubled(Frozen, frozen=True, kw_only=True):
    """An item could not be confirmed yet and is sent again, under the same message id."""

    producer: str
    reason: str
    next_attempt: float


class Notice(Frozen, frozen=True, kw_only=True):
    """Something a person should know that has no other consequence."""

    subject: str
    sentence: str
    level: Literal["debug", "info", "warning", "error"] = "info"


class LoopBlocked(Frozen, frozen=True, kw_only=True):
    """The event loop has not turned for so long. `subject` is whose code runs there, such as `consumer.charge`, or
    `pipeline` where that is not known; `frames` is where, the innermost last."""

    subject: str
    seconds: float
    frames: tuple[str, ...]


class LoopTurnsAgain(Frozen, frozen=True, kw_only=True):
    """Comes after `LoopBlocked`; `seconds` is how long it was in all."""

    subject: str
    seconds: float


class Ready(Frozen, frozen=True, kw_only=True):
    pipelines: tuple[str, ...]
    consumers: int
    producers: int


class Stopping(Frozen, frozen=True, kw_only=True):
    reason: str
    shutdown_timeout: float


class HandlerAbandoned(Frozen, frozen=True, kw_only=True):
    """At the end of `shutdown_timeout` this handler still ran; its message was given back, or is gone."""

    consumer: str
    message_id: str | None
    thread: bool
    dropped: bool


class HandlerStuck(Frozen, frozen=True, kw_only=True):
    """The time of this message was over, and its thread does not end: it keeps its slot, as `stuck` of `slots` do."""

    consumer: str
    message_id: str | None
    stuck: int
    slots: int


class HandlerFreed(Frozen, frozen=True, kw_only=True):
    """Such a thread has ended at last, and its slot handles messages again."""

    consumer: str
    stuck: int
    slots: int


class Unconfirmed(Frozen, frozen=True, kw_only=True):
    """At the end of `shutdown_timeout` this publish had no answer: it may have arrived, a duplicate is possible."""

    producer: str
    message_id: str | None


class WorkerStarted(Frozen, frozen=True, kw_only=True):
    worker: int
    pid: int


class WorkerDied(Frozen, frozen=True, kw_only=True):
    worker: int
    pid: int
    cause: str
    in_hand: int  # the broker delivers these again
    dropped: int  # these are gone: `ack: none`
    next_start: float | None


class DeathsCounted(Frozen, frozen=True, kw_only=True):
    """A worker died with messages of one consumer in hand that have the same number of deaths now. `message_ids` are
    the first few; None: without id."""

    worker: int
    consumer: str
    messages: int
    message_ids: tuple[str | None, ...]
    deaths: int
    crash_limit: int


class HandledAlone(Frozen, frozen=True, kw_only=True):
    """A message that was in hand when a worker died: nothing else is begun in this process until it has ended."""

    consumer: str
    message_id: str | None
    deaths: int
    crash_limit: int


class Summary(Frozen, frozen=True, kw_only=True):
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
