"""What a message is recognised by: an id or a header, as bounded text, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.idempotency.key import key_of
from pipeline.message import Message


def test_the_message_id_is_the_key_unless_a_header_is_named() -> None:
    message = Message(b"", message_id="m-1", headers={"order": "o-1"})
    assert key_of(message, None) == "m-1"
    assert key_of(message, "order") == "o-1"
    assert key_of(message, "orders") is None


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("o-1", "o-1"),
        (7, "7"),
        (b"\x00\xff", "00ff"),
        ("a" * 255, "a" * 255),
        ("", None),
        (b"", None),
        (None, None),
        (True, None),
        (1.5, None),
        ({"a": 1}, None),
        (["o-1"], None),
    ],
)
def test_text_whole_numbers_and_bytes_are_keys_and_nothing_else(value: object, key: str | None) -> None:
    assert key_of(Message(b"", headers={"order": value}), "order") == key


@pytest.mark.parametrize("long", ["a" * 256, "заказ" * 100, "\ud800"])
def test_of_what_is_too_long_or_no_text_the_hash_is_the_key(long: str) -> None:
    key = key_of(Message(b"", message_id=long), None)
    assert key is not None and key.startswith("sha256:") and len(key) == 71
    assert key != key_of(Message(b"", message_id=long + "b"), None)


@given(st.text(), st.text())
def test_two_messages_have_the_same_key_only_with_the_same_id(one: str, other: str) -> None:
    keys = [key_of(Message(b"", message_id=each), None) for each in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert all(key is None or len(key.encode()) <= 4 * 255 for key in keys)
