"""Reading what other programs have published: properties that are not UTF-8, times outside the calendar. The client
would end the whole connection over one of them, again and again, since the message stays in its queue."""

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pamqp import decode, encode

_LAST_MOMENT = (9999, 12, 31)


class SentTime(datetime):
    """A timestamp that remembers the number on the wire: some programs send milliseconds where AMQP says seconds, and
    the number is what a copy has to carry."""

    number: int


def tolerate() -> None:
    """Teach the codec to read them. Changes only what it could not read before, for it may be shared with other users
    of pamqp in this process. Safe to call again."""
    decode.METHODS.update(shortstr=short_string, timestamp=timestamp, table=table)
    decode.TABLE_MAPPING.update({b"T": timestamp, b"F": table})
    encode.METHODS.update(timestamp=encode_timestamp)


def short_string(value: bytes) -> tuple[int, str]:
    """Octets that are not UTF-8 are read as Latin-1, which has a character for each."""
    try:
        return decode.short_str(value)
    except UnicodeDecodeError:
        return value[0] + 1, value[1 : value[0] + 1].decode("latin-1")


def timestamp(value: bytes) -> tuple[int, datetime]:
    number = int.from_bytes(value[:8])
    try:
        consumed, moment = decode.timestamp(value)
        sent = SentTime.fromtimestamp(moment.timestamp(), tz=UTC)
    except (OverflowError, OSError):
        consumed, sent = 8, SentTime(*_LAST_MOMENT, tzinfo=UTC)
    except ValueError:
        if len(value) < 8:
            raise
        consumed, sent = 8, SentTime(*_LAST_MOMENT, tzinfo=UTC)
    sent.number = number
    return consumed, sent


def encode_timestamp(value: Any) -> bytes:
    """Also a plain number, which is written as it is."""
    return struct.pack(">Q", value) if isinstance(value, int) else encode.timestamp(value)


def table(value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return decode.field_table(value)
    except UnicodeDecodeError:
        return _table_with_latin_names(value)


def _table_with_latin_names(value: bytes) -> tuple[int, dict[str, Any]]:
    end = 4 + int.from_bytes(value[:4])
    fields: dict[str, Any] = {}
    offset = 4
    read: Callable[[bytes], tuple[int, Any]] = decode.embedded_value
    while offset < end:
        consumed, name = short_string(value[offset:end])
        offset += consumed
        consumed, fields[name] = read(value[offset:end])
        offset += consumed
    return end, fields
