"""`Message` as handlers see it: its properties as given, its ways home only where they were handed over."""

import subprocess
import sys

import pytest

import pipeline
from pipeline.errors import SettlementError
from pipeline.message import Message, Way


def test_a_message_keeps_what_it_is_given() -> None:
    headers = {"region": "eu"}
    message = Message(b"hello", headers=headers, priority=3, message_id="m-1", timestamp=1_700_000_000, queue="orders")
    assert (message.body, message.priority, message.message_id, message.timestamp) == (
        b"hello",
        3,
        "m-1",
        1_700_000_000,
    )
    assert message.headers == {"region": "eu"}
    message.headers["region"] = "us"
    assert headers == {"region": "eu"}  # the caller's own stay as they are
    assert (message.exchange, message.routing_key, message.content_type) == (None, None, None)
    assert (message.redelivered, message.attempt) == (False, 1)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (Message(b"hello", message_id="m-1", queue="orders"), "<Message m-1 from 'orders', 5 bytes>"),
        (Message({"a": 1}, routing_key="paid"), "<Message without id from 'paid', ? bytes>"),
    ],
)
def test_a_message_prints_without_its_body(message: Message, shown: str) -> None:
    assert repr(message) == shown


@pytest.mark.parametrize("way", ["ack", "reject", "retry"])
async def test_settling_by_hand_is_refused_where_it_was_not_handed_over(way: Way) -> None:
    with pytest.raises(SettlementError, match=rf"message\.{way}\(\) is for consumers with `ack: manual`"):
        await getattr(Message(b""), way)()


async def test_each_way_home_is_handed_on_with_its_argument() -> None:
    taken: list[tuple[Way, str | float | None]] = []

    async def settle(way: Way, argument: str | float | None) -> None:
        taken.append((way, argument))

    message = Message(b"")
    message.hand_over(settle)
    await message.ack()
    await message.reject()
    await message.reject("too old")
    await message.retry()
    await message.retry(after="30s")
    assert taken == [
        ("ack", None),
        ("reject", "rejected"),
        ("reject", "too old"),
        ("retry", None),
        ("retry", "30s"),
    ]


def test_the_public_names_are_there_and_nothing_else_is_loaded() -> None:
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__name__ == name
    assert pipeline.__version__
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'Mesage'"):
        pipeline.Mesage  # noqa: B018 - asking for it is the point
    loaded = "import sys, pipeline; print(*(name for name in sys.modules if name.startswith('pipeline.')))"
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60)
    assert set(found.stdout.split()) == {"pipeline.errors", "pipeline.message", "pipeline.problems"}
