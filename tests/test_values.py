"""What is made for each message is itself, and never shows what it holds."""

from pipeline.values import Light


class Thing(Light):
    body: bytes
    told: str = ""


def test_two_that_hold_the_same_are_two() -> None:
    one, other = Thing(b"secret"), Thing(b"secret")
    assert one != other
    assert {one: 1, other: 2}[one] == 1


def test_what_it_holds_is_not_shown() -> None:
    assert repr(Thing(b"secret")) == "<Thing>"
