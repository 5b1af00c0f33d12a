"""Which dead letters a condition means."""

import pytest

from pipeline.failure.story import story
from pipeline.failure.wanted import Condition, Wanted, condition
from pipeline.message import Message
from tests.failure.test_story import OURS, REJECTED

MESSAGE = Message(b"", headers={**OURS, "region": "eu", "tries": 3, "vip": True, "path": "a=b"}, message_id="o-17")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("region=eu", True),
        ("region=us", False),
        ("region=EU", False),
        ("region=", False),
        ("tries=3", True),
        ("vip=true", True),
        ("vip=1", False),
        ("path=a=b", True),
        ("nothing=", False),
        ("nothing=x", False),
        ("x-piperun-reason=max_attempts", True),
        ("reason=max_attempts", True),
        ("reason=timeout", False),
        ("error-type=KeyError", True),
        ("digest=7a006cf5f76015cf", True),
        ("queue=billing", True),
        ("consumer=charge", True),
        ("replays=0", True),
    ],
)
def test_a_condition(text: str, holds: bool) -> None:
    found = condition(text)
    assert found is not None
    assert found.holds(MESSAGE, story(MESSAGE.headers)) is holds


def test_a_header_of_that_name_comes_before_the_story() -> None:
    message = Message(b"", headers={**OURS, "reason": "because"})
    assert Condition(name="reason", value="because").holds(message, story(message.headers))
    assert not Condition(name="reason", value="max_attempts").holds(message, story(message.headers))


def test_what_the_broker_gave_up_is_asked_for_in_the_same_words() -> None:
    message = Message(b"", headers={"x-death": [REJECTED]})
    assert Condition(name="reason", value="rejected").holds(message, story(message.headers))
    assert Condition(name="queue", value="billing").holds(message, story(message.headers))


@pytest.mark.parametrize("text", ["region", "=eu", "", "="])
def test_what_is_no_condition(text: str) -> None:
    assert condition(text) is None


@pytest.mark.parametrize(
    ("conditions", "ids", "matches"),
    [
        ((), (), True),
        (("region=eu", "tries=3"), (), True),
        (("region=eu", "tries=4"), (), False),
        ((), ("o-17",), True),
        ((), ("o-16", "o-17"), True),
        ((), ("o-16",), False),
        (("region=eu",), ("o-17",), True),
        (("region=us",), ("o-17",), False),
    ],
)
def test_all_conditions_and_one_of_the_ids(conditions: tuple[str, ...], ids: tuple[str, ...], matches: bool) -> None:
    found = tuple(each for text in conditions if (each := condition(text)))
    wanted = Wanted(conditions=found, ids=ids)
    assert wanted.matches(MESSAGE, story(MESSAGE.headers)) is matches
    assert wanted.everything is not bool(conditions or ids)
