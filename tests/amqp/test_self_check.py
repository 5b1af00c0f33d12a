"""The choice of the line: the fast one with the client that is installed; the plain one by hand, or when the client has
changed in a way that would cost messages, which is noticed before the first one and told in a sentence."""

import asyncio
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika import Connection
from aiormq.channel import Channel as ClientChannel
from aiormq.connection import TransportFactory
from yarl import URL

from pipeline.amqp import self_check
from pipeline.amqp.self_check import PLAIN_BY_HAND, choose_line, why_not_fast
from tests.command import Commands


class Told:
    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __call__(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.mark.both_loops
async def test_the_installed_client_takes_the_fast_line() -> None:
    told = Told()

    assert await why_not_fast() is None
    assert await choose_line(told) == "fast"
    assert told.sentences == []


@pytest.mark.parametrize(("value", "line"), [("1", "plain"), ("yes", "plain"), ("0", "fast"), ("", "fast")])
async def test_the_plain_line_is_chosen_by_hand_without_a_word(
    value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLAIN_BY_HAND, value)
    told = Told()

    assert await choose_line(told) == line
    assert told.sentences == []


# A client that has changed


class DropsTheFactory(Connection):
    async def connect(self, timeout: Any = None) -> None:
        self.kwargs.pop("transport_factory")
        await super().connect(timeout)


class NumbersOtherwise(Connection):
    """Its channels are called otherwise than on the line."""

    async def connect(self, timeout: Any = None) -> None:
        await super().connect(timeout)
        assert self.transport is not None
        real = self.transport.connection.channel

        async def channel(*arguments: Any, **named: Any) -> Any:
            opened = await real(*arguments, **named)
            assert isinstance(opened, ClientChannel)
            opened.number += 1
            return opened

        self.transport.connection.channel = channel  # type: ignore[method-assign]


class ReadsPastUs(Connection):
    """It puts a protocol of its own on the socket, when it is open."""

    def channel(self, *arguments: Any, **named: Any) -> Any:
        opened = super().channel(*arguments, **named)
        factory = self.kwargs["transport_factory"]
        real = ClientChannel.basic_consume

        async def basic_consume(channel: ClientChannel, *a: Any, **n: Any) -> Any:
            line = factory.switch._line
            line._switch = asyncio.StreamReaderProtocol(factory.switch._stream_reader)
            return await real(channel, *a, **n)

        ClientChannel.basic_consume = basic_consume  # type: ignore[method-assign, assignment]
        return opened


class WritesInPieces(Connection):
    async def connect(self, timeout: Any = None) -> None:
        factory: TransportFactory = self.kwargs["transport_factory"]
        real = factory.create

        async def create(url: URL, **named: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await real(url, **named)
            whole = writer.transport.write

            def write(data: bytes | bytearray | memoryview) -> None:
                whole(data[:5])
                whole(data[5:])

            writer.transport.write = write  # type: ignore[method-assign]
            return reader, writer

        factory.create = create  # type: ignore[method-assign]
        await super().connect(timeout)


class NeverConnects(Connection):
    async def connect(self, timeout: Any = None) -> None:
        await asyncio.Event().wait()


class NeverCloses(Connection):
    async def close(self, exc: Any = None) -> None:
        await asyncio.Event().wait()


class CancelsItself(Connection):
    """As the client does where it judges a line stuck."""

    async def connect(self, timeout: Any = None) -> None:
        raise asyncio.CancelledError


class Renamed(Connection):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        del self.kwargs


CHANGES: list[tuple[type[Connection], str]] = [
    (DropsTheFactory, "it does not use the connection that it is given"),
    (NumbersOtherwise, "its channels have other numbers than the broker's"),
    (ReadsPastUs, "it gets messages past us"),
    (WritesInPieces, "it does not leave our answers whole"),
    (NeverConnects, "it did not answer within 0.3 s"),
    (CancelsItself, "CancelledError"),
    (Renamed, "AttributeError: 'Renamed' object has no attribute 'kwargs'"),
]


@pytest.mark.parametrize(("changed", "why"), CHANGES, ids=[changed.__name__ for changed, _ in CHANGES])
async def test_a_change_of_the_client_is_noticed_and_told(
    changed: type[Connection], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_check, "Connection", changed)
    monkeypatch.setattr(self_check, "_LONGEST", 0.3)
    monkeypatch.setattr(self_check, "_GOODBYE", 0.1)
    monkeypatch.setattr(ClientChannel, "basic_consume", ClientChannel.basic_consume)  # put back afterwards
    told = Told()

    assert await choose_line(told) == "plain"

    (sentence,) = told.sentences
    assert sentence.startswith(f"the client library has changed ({why}; aiormq ")
    assert sentence.endswith(
        "): everything goes through it, which is slower and otherwise the same; a newer piperun may know it"
    )


async def test_a_client_that_does_not_come_to_an_end_does_not_keep_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "Connection", NeverCloses)
    monkeypatch.setattr(self_check, "_GOODBYE", 0.1)

    async with asyncio.timeout(10):
        await choose_line(Told())


async def test_somebody_who_cancels_the_choice_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "Connection", NeverConnects)
    choosing = asyncio.create_task(choose_line(Told()))
    await asyncio.sleep(0)
    choosing.cancel()
    await asyncio.wait({choosing})

    assert choosing.cancelled()


# A whole run


def test_a_run_with_a_changed_client_takes_the_plain_line_and_says_so_once(
    run_piperun: Commands, tmp_path: Path
) -> None:
    # Given a client that drops the factory
    (tmp_path / "in.jsonl").write_text('"a"\n"b"\n')
    (tmp_path / "shop.py").write_text(
        "from pipeline.amqp import self_check\n"
        "class Changed(self_check.Connection):\n"
        "    async def connect(self, timeout=None):\n"
        "        self.kwargs.pop('transport_factory', None)\n"
        "        await super().connect(timeout)\n"
        "self_check.Connection = Changed\n"
        "def handle(body):\n"
        "    print('handled', body)\n"
    )
    run = run_piperun(
        "queues:\n  in: {}\n"
        "producers:\n  p: {source: {type: file, path: in.jsonl, format: jsonl}, publish: {queue: in}}\n"
        "consumers:\n  c: {queue: in, handler: 'shop:handle'}\n"
        "runtime: {until: idle}\n"
    )

    # Then it says so once, and the messages are handled
    assert run.wait() == 0, run.output
    assert run.output.count("the client library has changed (it does not use the connection that it is given") == 1
    assert run.output.count("handled") == 2


# The seam


async def test_aio_pikas_connect_has_no_use_for_the_factory_and_a_connection_keeps_it() -> None:
    """The reason why `connect.py` makes the connection itself. If the first half no longer holds, that can go."""

    class Factory(TransportFactory):
        asked = 0

        async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            self.asked += 1
            raise OSError("no line")

    dropped = Factory()
    with pytest.raises(TypeError):  # it would have it in the URL
        await aio_pika.connect("amqp://127.0.0.1:1/", transport_factory=dropped)
    assert dropped.asked == 0

    kept = Factory()
    connection = Connection(URL("amqp://127.0.0.1:1/"))
    connection.kwargs["transport_factory"] = kept
    with pytest.raises(OSError, match="no line"):
        await connection.connect()
    assert kept.asked == 1
    await connection.close()
