"""A soak of a few seconds: that `make soak` works, and finds what is wrong. A long one is made by hand."""

import random
from pathlib import Path

import aio_pika
import pytest

from tests.rabbitmq import PrivateRabbitMQ
from tests.soak import pipe
from tests.soak.faults import OF_THE_LINE, OF_WORKERS
from tests.soak.run import soak
from tests.waiting import deadline

SECONDS = 3


def test_a_short_soak(rabbitmq: PrivateRabbitMQ, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vhost = rabbitmq.add_vhost()
    wrong = soak(
        rabbitmq,
        rabbitmq.url(vhost),
        tmp_path,
        seconds=SECONDS,
        faults=[*OF_THE_LINE, *OF_WORKERS],
        longest=0.3,
        chance=random.Random(5),
    )
    told = capsys.readouterr().out
    print(told)
    assert not wrong
    # It says what it has done, what it has found, and how much memory that took
    assert " 0.0 s  " in told
    assert "memory at the start: supervisor " in told and "memory at the end: supervisor " in told
    assert "ledger: " in told and "the ledger adds up" in told
    rabbitmq.delete_vhost(vhost)


async def test_books_of_a_soak_that_has_lost_something(rabbitmq_vhost_url: str, tmp_path: Path) -> None:
    """One confirmed number is nowhere, and one that was handled has sent nothing on."""
    async with await aio_pika.connect(rabbitmq_vhost_url, timeout=deadline(10)) as connection:
        channel = await connection.channel()
        for queue in ("tasks", "tasks.dlq", "results"):
            await channel.declare_queue(queue, durable=True)
    (tmp_path / "offered.0").write_text("8")
    (tmp_path / "confirmed.0").write_text("8")
    (tmp_path / "handled").write_text("0 0\n")
    books, of_outputs = await pipe.books(rabbitmq_vhost_url, tmp_path)
    assert books.discrepancies() == ["4: confirmed, and found nowhere"]
    assert of_outputs == ["1 were handled and sent nothing on: [0]"]
