"""Ready-made handlers. Plain functions that anybody could have written: they know messages and contexts, and have no
privilege."""

from typing import cast

from pipeline.handlers.context import Context
from pipeline.message import Message

_SHOWN = 200


async def log(message: Message, context: Context) -> None:
    """One line per message: its body as text. Long bodies are cut, control characters shown as escapes."""
    context.logger.info("%s", _as_line(cast(bytes, message.body)))  # a received body is bytes


async def forward(message: Message) -> Message:
    """The same message again, for the consumer's `publish`: body, headers and properties, `message_id` included. The
    exchange and routing key of old are left out, so that `publish` decides; so is `user_id`, which RabbitMQ refuses
    from anybody else."""
    return Message(
        message.body,
        headers=message.headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=message.expiration,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )


def _as_line(body: bytes) -> str:
    text = _printable(body[: 4 * _SHOWN].decode(errors="backslashreplace"))  # a character has four bytes at most
    if len(text) <= _SHOWN and len(body) <= 4 * _SHOWN:
        return text
    return f"{text[:_SHOWN]}… ({len(body)} bytes)"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
