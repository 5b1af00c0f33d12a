"""From a message to its key: bounded text, the same for the same value in whichever way it was sent. The body is never
looked at: two messages with equal bodies may both be meant."""

import hashlib

from pipeline.message import Message

_LONGEST = 255  # characters, as of a message id; of a longer header only the hash is kept


def key_of(message: Message, header: str | None) -> str | None:
    """The `message_id`, or the value of that header; None where it is absent, empty or no text, number or bytes."""
    text = _text(message.message_id if header is None else message.headers.get(header))
    if not text:
        return None
    if len(text) <= _LONGEST and _storable(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _text(value: object) -> str | None:
    match value:
        case bool():
            return None  # two keys are too few for anybody
        case str():
            return value
        case int():
            return str(value)
        case bytes() | bytearray():
            return value.hex()
        case _:
            return None


def _storable(text: str) -> bool:
    """Without what a client may have put in the place of octets that are no UTF-8."""
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)
