"""The ready-made handlers, called as anybody's."""

import logging

import pytest

from pipeline import handlers
from pipeline.message import Message
from pipeline.outcome import DONE
from tests.handlers.stage import Stage

LONG = "ü" * 300


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"Hello World!", "Hello World!"),
        ("Привет".encode(), "Привет"),
        (b"", ""),
        (b"a\nb\x1b[31m\x00", "a\\nb\\x1b[31m\\x00"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"x" * 200, "x" * 200),
        (b"x" * 201, "x" * 200 + "… (201 bytes)"),
        (LONG.encode(), "ü" * 200 + "… (600 bytes)"),
        (b"x" * 10_000_000, "x" * 200 + "… (10000000 bytes)"),
        (b"\x00" * 100, "\\x00" * 50 + "… (100 bytes)"),
    ],
)
async def test_log_writes_one_bounded_line(body: bytes, line: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await Stage().run(handlers.log, Message(body, content_type="application/json")) is DONE
    assert caplog.record_tuples == [("piperun.handler.charge", logging.INFO, line)]


async def test_forward_keeps_the_message_and_leaves_the_way_to_publish() -> None:
    message = Message(
        b"\x00body",
        headers={"tenant": "a"},
        content_type="application/json",
        content_encoding="gzip",
        delivery_mode="transient",
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration=1000,
        message_id="m",
        timestamp=1_700_000_000,
        type="order",
        user_id="guest",
        app_id="shop",
        exchange="orders",
        routing_key="paid",
        queue="billing",
        redelivered=True,
        attempt=2,
    )
    stage = Stage()
    assert await stage.run(handlers.forward, message) is DONE
    [sent] = stage.outputs
    assert isinstance(sent, Message)
    left_out = {"exchange": None, "routing_key": None, "user_id": None, "queue": "", "redelivered": False, "attempt": 1}
    for name in Message.__slots__:
        assert getattr(sent, name) == left_out.get(name, getattr(message, name)), name
    assert sent.headers is not message.headers
