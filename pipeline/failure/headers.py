"""The `x-piperun-*` headers: their names and bounds, how far each is trusted, and what of a message goes on to
its copy in a dead-letter queue or a wait queue. Why it failed comes in as a value; where a copy is sent is not known
here."""

from collections.abc import Callable, Mapping
from typing import Final

from pipeline.config.model import RetryStrategy
from pipeline.failure.story import REPLAYS, replays
from pipeline.failure.verdict import Failure, Policy
from pipeline.message import Headers, Message

PREFIX = "x-piperun-"
ATTEMPT: Final = "x-piperun-attempt"  # how many attempts have failed
REASON: Final = "x-piperun-reason"
QUEUE: Final = "x-piperun-queue"
EXCHANGE: Final = "x-piperun-exchange"
ROUTING_KEY: Final = "x-piperun-routing-key"
_ORIG_EXPIRATION: Final = "x-piperun-orig-expiration"
_ORIG_USER_ID: Final = "x-piperun-orig-user-id"
_BROKERS_COUNT: Final = "x-delivery-count"
# Where each strategy counts: what `Message.mentions` is asked for, since most messages have not failed.
COUNTED_IN: Final[Mapping[RetryStrategy, bytes | None]] = {
    "broker": ATTEMPT.encode(),
    "native": _BROKERS_COUNT.encode(),
    "inline": None,
}

# 4 KiB together: all headers of a message must fit one frame (AMQP 0-9-1, 2.3.5.2), and the user's own need room.
_ERROR_BYTES = 1024
_NAME_BYTES = 255

# The broker's own, or such as would act on the copy: CC and BCC fan out again, a published x-death is continued before
# RabbitMQ 4.0, x-delivery-count belongs to the queue that counted.
NOT_COPIED = frozenset(
    {"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"}
    | {f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")}
)


def dead_letter_copy(
    message: Message,
    failure: Failure,
    *,
    consumer: str,
    run_id: str,
    milliseconds: int,
    username: str,
    mask: Callable[[str], str],
) -> Message:
    """The copy that goes to the dead-letter queue: the same body, properties and user headers, and the story of the
    failure. Without `expiration`, which would end it there, and without a `user_id` that is not ours, which the broker
    would refuse (406)."""
    headers: Headers = {
        name: value for name, value in message.headers.items() if name not in NOT_COPIED and not name.startswith(PREFIX)
    }
    headers |= {
        ATTEMPT: message.attempt,
        REASON: failure.reason,
        "x-piperun-error-type": _bounded(failure.error_type, _NAME_BYTES),
        "x-piperun-error": _bounded(mask(failure.error), _ERROR_BYTES),
        "x-piperun-error-digest": failure.digest,
        "x-piperun-first-failure": _earlier(message, milliseconds),
        "x-piperun-last-failure": milliseconds,
        QUEUE: _bounded(message.queue, _NAME_BYTES),
        EXCHANGE: _bounded(message.exchange or "", _NAME_BYTES),
        ROUTING_KEY: _bounded(message.routing_key or "", _NAME_BYTES),
        "x-piperun-consumer": _bounded(consumer, _NAME_BYTES),
        "x-piperun-run-id": run_id,
        **_of_earlier_copies(message),
        **_of_a_replay(message),
    }
    return copy_with(headers, message, username=username)


def copy_with(headers: Headers, message: Message, *, username: str) -> Message:
    """Body and properties of `message`, but for what a copy cannot keep: that goes into its headers."""
    if message.expiration is not None:
        headers[_ORIG_EXPIRATION] = message.expiration
    if message.user_id is not None and message.user_id != username:
        headers[_ORIG_USER_ID] = _bounded(message.user_id, _NAME_BYTES)
    return Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode="persistent",
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        user_id=message.user_id if message.user_id == username else None,
        app_id=message.app_id,
    )


def wait_copy(
    message: Message,
    failure: Failure,
    *,
    consumer: str,
    run_id: str,
    milliseconds: int,
    username: str,
    mask: Callable[[str], str],
) -> Message:
    """The copy that waits to be handled again: the same, without a reason, for nothing is final yet."""
    copy = dead_letter_copy(
        message,
        failure,
        consumer=consumer,
        run_id=run_id,
        milliseconds=milliseconds,
        username=username,
        mask=mask,
    )
    del copy.headers[REASON]
    return copy


def recall(message: Message, policy: Policy) -> str | None:
    """Read from a message how often it has failed, and where it came from before it waited. Anybody can write these
    headers: what cannot be true counts as a first attempt, and is the answer, for a person to read.

    Called before the handler is, once for each delivery that mentions what its strategy is `COUNTED_IN`."""
    if policy.strategy == "native":
        return _recall_count(message, policy.attempts)
    headers = message.headers
    failed = headers.get(ATTEMPT)
    # A message that was passed on from another queue brings the story of that one.
    if failed is None or headers.get(QUEUE) != _bounded(message.queue, _NAME_BYTES):
        return None
    if type(failed) is not int or not 0 <= failed <= policy.attempts:
        return f"{ATTEMPT}: {_bounded(str(failed), _NAME_BYTES)}"
    if failed:
        message.attempt = failed + 1
        exchange, routing_key = headers.get(EXCHANGE), headers.get(ROUTING_KEY)
        if isinstance(exchange, str) and isinstance(routing_key, str):
            message.exchange, message.routing_key = exchange, routing_key
    return None


def _recall_count(message: Message, attempts: int) -> str | None:
    """What a quorum queue counts itself, and writes at every delivery but the first, whose header is a publisher's."""
    if not message.redelivered:
        return None
    failed = message.headers.get(_BROKERS_COUNT, 0)
    if type(failed) is not int or not 0 <= failed <= attempts:
        return f"{_BROKERS_COUNT}: {_bounded(str(failed), _NAME_BYTES)}"
    message.attempt = failed + 1
    return None


def without_user_headers(copy: Message) -> Message:
    """The copy again, for a message whose own headers the client library has read and cannot write: they are named
    instead of carried. A rare loss of headers, against a message that could never be set aside."""
    left_out = [name for name in copy.headers if not name.startswith(PREFIX)]
    copy.headers = {name: value for name, value in copy.headers.items() if name.startswith(PREFIX)}
    copy.headers["x-piperun-headers-left-out"] = _bounded(", ".join(left_out), _NAME_BYTES)
    return copy


def _earlier(message: Message, milliseconds: int) -> int:
    """The first failure that an earlier copy recorded, believed only where it can be true."""
    first = message.headers.get("x-piperun-first-failure")
    return first if type(first) is int and 0 < first <= milliseconds else milliseconds


def _of_earlier_copies(message: Message) -> Headers:
    """Properties that the first copy could not keep, and that the second finds in headers only."""
    expiration, user_id = message.headers.get(_ORIG_EXPIRATION), message.headers.get(_ORIG_USER_ID)
    again = message.attempt > 1 or replays(message.headers) > 0
    kept: Headers = {}
    if again and type(expiration) is int and 0 <= expiration < 2**63:
        kept[_ORIG_EXPIRATION] = expiration
    if again and isinstance(user_id, str):
        kept[_ORIG_USER_ID] = _bounded(user_id, _NAME_BYTES)
    return kept


def _of_a_replay(message: Message) -> Headers:
    """A message that was sent back has come to its queue by name: where it was published first, and how often somebody
    tried, stands in its headers alone."""
    sent_back = replays(message.headers)
    if not sent_back:
        return {}
    origin = {name: message.headers.get(name) for name in (EXCHANGE, ROUTING_KEY)}
    kept: Headers = {name: _bounded(value, _NAME_BYTES) for name, value in origin.items() if isinstance(value, str)}
    return {**kept, REPLAYS: sent_back}


def _bounded(text: str, limit: int) -> str:
    raw = text.encode("utf-8", errors="replace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    return raw[: limit - 3].decode("utf-8", errors="ignore") + "..."
