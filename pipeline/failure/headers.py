"""The `x-piperun-*` headers: their names and bounds, and what of a message goes on to its copy in a dead-letter queue.
Why a message failed comes in as a value; where the copy is sent is not known here."""

from collections.abc import Callable

from pipeline.failure.verdict import Failure
from pipeline.message import Headers, Message

PREFIX = "x-piperun-"

# 4 KiB together: all headers of a message must fit one frame (AMQP 0-9-1, 2.3.5.2), and the user's own need room.
_ERROR_BYTES = 1024
_NAME_BYTES = 255

# The broker's own, or such as would act on the copy: CC and BCC fan out again, a published x-death is continued before
# RabbitMQ 4.0, x-delivery-count belongs to the queue that counted.
_NOT_COPIED = frozenset(
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
        name: value
        for name, value in message.headers.items()
        if name not in _NOT_COPIED and not name.startswith(PREFIX)
    }
    headers |= {
        "x-piperun-attempt": message.attempt,
        "x-piperun-reason": failure.reason,
        "x-piperun-error-type": _bounded(failure.error_type, _NAME_BYTES),
        "x-piperun-error": _bounded(mask(failure.error), _ERROR_BYTES),
        "x-piperun-error-digest": failure.digest,
        "x-piperun-first-failure": _earlier(message, milliseconds),
        "x-piperun-last-failure": milliseconds,
        "x-piperun-queue": _bounded(message.queue, _NAME_BYTES),
        "x-piperun-exchange": _bounded(message.exchange or "", _NAME_BYTES),
        "x-piperun-routing-key": _bounded(message.routing_key or "", _NAME_BYTES),
        "x-piperun-consumer": _bounded(consumer, _NAME_BYTES),
        "x-piperun-run-id": run_id,
    }
    if message.expiration is not None:
        headers["x-piperun-orig-expiration"] = message.expiration
    if message.user_id is not None and message.user_id != username:
        headers["x-piperun-orig-user-id"] = _bounded(message.user_id, _NAME_BYTES)
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


def _bounded(text: str, limit: int) -> str:
    raw = text.encode("utf-8", errors="replace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    return raw[: limit - 3].decode("utf-8", errors="ignore") + "..."
