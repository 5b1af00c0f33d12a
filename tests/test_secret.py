"""Secrets do not print, and a mask hides them in any text."""

import pytest

from pipeline.secret import Masker, Secret


def test_a_secret_does_not_print_itself() -> None:
    secret = Secret("hunter-two")
    assert f"{secret} {secret!r} {[secret]}" == "*** Secret(***) [Secret(***)]"
    assert secret.reveal() == "hunter-two"
    assert secret == Secret("hunter-two") != Secret("other")
    assert len({secret, Secret("hunter-two")}) == 1


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("connect amqp://app:secret@rabbit:5672/shop now", "connect amqp://app:***@rabbit:5672/shop now"),
        ("amqps://app:p%40ss@rabbit", "amqps://app:***@rabbit"),
        ("amqp://:secret@rabbit", "amqp://:***@rabbit"),
        ("amqp://app:with/slash@rabbit", "amqp://app:***@rabbit"),
        ("amqp://app:with@at@rabbit", "amqp://app:***@rabbit"),
        ("['amqp://a:x@h', 'amqp://b:y@h']", "['amqp://a:***@h', 'amqp://b:***@h']"),
        ("amqp://app:${PASSWORD}@rabbit", "amqp://app:${PASSWORD}@rabbit"),
        ("amqp://app:${PASSWORD}x@rabbit", "amqp://app:***@rabbit"),
        ("http://rabbit:15672/api", "http://rabbit:15672/api"),
        ("a plain text", "a plain text"),
    ],
)
def test_the_password_of_any_url_is_masked(text: str, masked: str) -> None:
    assert Masker()(text) == masked


def test_known_secrets_are_masked_as_they_are_encoded_and_as_a_repr() -> None:
    mask = Masker([Secret("a b/c'd\n")])
    assert mask("<a b/c'd\n> a%20b%2Fc%27d%0A") == "<***> ***"
    assert mask(repr("a b/c'd\n")) == '"***"'


def test_the_longest_secret_wins_and_later_ones_are_learnt() -> None:
    mask = Masker([Secret("abcd")])
    mask.learn([Secret("abcdef")])
    assert mask("abcdef abcd") == "*** ***"


@pytest.mark.parametrize("value", ["", "      ", "abc", "guest"])
def test_what_stands_in_any_text_and_what_everybody_knows_is_not_masked(value: str) -> None:
    text = "the abc of a guest:       hello"
    assert Masker([Secret(value)])(text) == text
    assert Masker([Secret(value)])("amqp://app:abc@rabbit") == "amqp://app:***@rabbit"


def test_a_long_text_without_a_url_is_masked_at_once() -> None:
    text = "a." * 200_000 + "://"
    assert Masker()(text) == text
