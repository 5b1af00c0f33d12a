"""`piperun dlq` on both brokers: what a person types, and what is in the queues afterwards."""

import asyncio
import json
import logging
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aio_pika import Message
from typer.testing import CliRunner, Result

from pipeline.cli import exits
from pipeline.cli.dlq import verbs
from pipeline.embedded import EmbeddedBroker
from pipeline.errors import FileError, UsageError
from tests.brokers import BrokerUnderTest, EmbeddedUnderTest
from tests.cli.test_terminal import Terminal
from tests.command import Commands
from tests.proxy import Proxy
from tests.waiting import wait_until

FILE = """
broker: "${AMQP_URL:-embedded}"
queues:
  billing: {dead_letter: failed}
  failed: {}
  mail: {}
consumers:
  charge: {queue: billing, handler: "shop:charge"}
  send: {queue: mail, handler: "shop:send"}
runtime: {until: idle}
"""
SHOP = """
import os

async def charge(order, message):
    if "FINE" not in os.environ:
        raise ConnectionError("cannot reach payments.example.org")
    print("charged", order["order"], "after", message.headers.get("x-piperun-replays"), flush=True)

async def send(body): ...
"""
OURS = {"reason": "max_attempts", "queue": "billing", "error-type": "KeyError", "error": "'x'", "error-digest": "d1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(FILE)
    return tmp_path


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("aiormq.connection", "aiormq.channel", "aiormq", "aio_pika")]
    levels = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


@pytest.fixture
def dlq(broker: BrokerUnderTest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Dlq"]:
    monkeypatch.setenv("AMQP_URL", broker.url)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    yield Dlq(broker)


class Dlq:
    """The verb in this process; `piperun`'s own door, at which errors become exit statuses, is not there."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self.broker = broker

    def __call__(self, verb: str, *arguments: str, status: int = 0) -> str:
        result = self.run(verb, *arguments)
        assert result.exit_code == status, result.output + repr(result.exception)
        return result.output

    def refused(self, verb: str, *arguments: str) -> str:
        error = self.run(verb, *arguments).exception
        assert isinstance(error, UsageError)
        return str(error)

    def objects(self, verb: str, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(verb, "--format", "json", *arguments).splitlines()]

    def run(self, verb: str, *arguments: str) -> Result:
        return CliRunner().invoke(verbs, [verb, "pipeline.yaml", *arguments])

    def given(self, *queues: str) -> None:
        async def declare() -> None:
            for queue in queues:
                await self.broker.declare(queue, arguments={"x-queue-type": "classic"})

        asyncio.run(declare())

    def given_dead_letters(self, count: int, queue: str = "failed") -> None:
        async def publish() -> None:
            async with self.broker.channel() as channel:
                for number in range(count):
                    headers: Any = {f"x-piperun-{name}": value for name, value in OURS.items()}
                    headers |= {"region": "eu" if number % 2 else "us"}
                    message = Message(f"{number}".encode(), message_id=f"m-{number}", headers=headers)
                    await channel.default_exchange.publish(message, routing_key=queue)

        asyncio.run(publish())

    def bodies(self, queue: str) -> list[str]:
        return [message.body.decode() for message in asyncio.run(self.broker.get_all(queue))]


def test_a_night_with_dead_letters(dlq: Dlq, run_piperun: Commands, folder: Path) -> None:
    (folder / "shop.py").write_text(SHOP)
    url = {"AMQP_URL": dlq.broker.url}
    # Given two orders whose handler fails, and one that some other program has rejected
    dlq.given("other")
    (folder / "orders.jsonl").write_text('{"order": 1}\n{"order": 2}\n')
    source = (
        "\nproducers: {nightly: {source: {type: file, path: orders.jsonl, format: jsonl}, publish: {queue: billing}}}"
    )
    assert run_piperun(FILE + source, env=url).wait() == 0

    async def reject() -> None:
        async with dlq.broker.channel() as channel:
            message = Message(b'{"order": 3}', content_type="application/json")
            await channel.default_exchange.publish(message, routing_key="billing")
            got = await (await channel.get_queue("billing")).get()
            assert got is not None
            await got.reject(requeue=False)

    asyncio.run(reject())
    wait_until(lambda: len(dlq.objects("show", "failed")) == 3, told="the rejected one")
    # When somebody looks
    lines = dlq("ls").splitlines()
    assert re.fullmatch(r'failed: 3 messages from "billing", \d+ s( to \d+ s)? old', lines[0])
    assert re.fullmatch(
        r" +2  max_attempts  [0-9a-f]{16}  ConnectionError: cannot reach payments.example.org", lines[1]
    )
    assert lines[2:] == [
        '      1  rejected      by the broker, from queue "billing"',
        'mail.dlq: 0 messages from "mail"',
    ]
    # Then nobody is there to take them, and once somebody is, all of them go, each once
    said = dlq("replay", "billing", status=1)
    assert 'replayed 0 of 3 messages of "failed"; 3 refused' in said
    assert 'error: 3 messages stay: queue "billing" has no consumer' in said
    fine = run_piperun(FILE.replace("until: idle", "until: stopped"), env={**url, "FINE": "yes"})
    fine.wait_for_line("ready with")
    assert dlq("replay", "billing") == 'replayed 3 of 3 messages of "failed", 3 to "billing"\n'
    for number in (1, 2, 3):
        fine.wait_for_line(f"charged {number} after 1$")
    fine.send_signal(signal.SIGTERM)
    assert fine.wait() == 0
    assert dlq.bodies("failed") == []


def test_looking_at_some_of_them(dlq: Dlq) -> None:
    dlq.given("billing", "failed")
    dlq.given_dead_letters(6)
    assert [each["body"] for each in dlq.objects("show", "failed", "--where", "region=eu")] == ["1", "3", "5"]
    assert [each["number"] for each in dlq.objects("show", "failed", "--limit", "2")] == [1, 2]
    (one,) = dlq.objects("show", "billing", "--id", "m-4")
    assert (one["body"], one["failure"]["reason"], one["headers"]["region"]) == ("4", "max_attempts", "us")
    assert "failed, message 5: m-4\n" in dlq("show", "--id", "m-4")
    (listed, _) = dlq.objects("ls", "--sample", "4")
    assert (listed["messages"], listed["looked_into"], listed["groups"][0]["count"]) == (6, 4, 4)
    assert dlq.bodies("failed") == ["0", "1", "2", "3", "4", "5"]


def test_sending_some_of_them_back(dlq: Dlq) -> None:
    dlq.given("billing", "failed", "aside")
    dlq.given_dead_letters(6)
    words = ("billing", "--force", "--where", "region=eu", "--limit", "2")
    assert dlq("replay", *words, "--dry-run") == (
        'would replay 2 of 6 messages of "failed", 2 to "billing"; 2 not matching; 2 not looked at\n'
    )
    assert dlq.bodies("billing") == []
    assert dlq("replay", *words).startswith("replayed 2 of 6 ")
    assert dlq.bodies("billing") == ["1", "3"]
    assert dlq("replay", "failed", "--to", "aside", "--force", "--rate", "1000/s") == (
        'replayed 4 of 4 messages of "failed", 4 to "aside"\n'
    )
    assert dlq.bodies("aside") == ["0", "2", "4", "5"]


def test_throwing_them_away(dlq: Dlq) -> None:
    dlq.given("failed")
    dlq.given_dead_letters(5)
    assert "--yes says so" in dlq.refused("purge", "failed")
    assert dlq("purge", "failed", "--yes", "--where", "region=us") == (
        'threw away 3 messages of "failed"; 2 not matching\n'
    )
    assert dlq("purge", "failed", "--yes") == 'threw away 2 messages of "failed"\n'
    assert dlq("purge", "failed", "--yes") == 'threw away 0 messages of "failed"\n'


def test_a_queue_that_is_not_there(dlq: Dlq) -> None:
    assert dlq("ls").splitlines()[0].startswith("failed: not on the broker")
    for words in (["show"], ["show", "mail"], ["replay", "mail"], ["purge", "mail", "--yes"]):
        assert "on the broker: is it the right one?" in dlq(*words, status=exits.FAILED)


# Without a broker


@pytest.fixture
def alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Dlq:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("AMQP_URL", raising=False)
    return Dlq(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [["ls"], ["show"], ["replay", "mail"], ["purge", "mail", "--yes"]])
def test_the_embedded_broker_of_a_run_is_gone_with_it(alone: Dlq, words: list[str]) -> None:
    said = alone.refused(words[0], *words[1:])
    assert said == (
        "pipeline.yaml runs on the embedded broker, whose messages end with each run: there is nothing to look at "
        "afterwards. Name a broker that stays: --broker URL, or `broker:` in the file"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "--where", "region"], '--where is HEADER=VALUE, not "region"; for example --where reason=decode'),
        (["replay", "mail", "--rate", "fast"], "--rate is a number and a unit of time"),
        (["replay", "mail", "--rate", "0/s"], "--rate is a number and a unit of time"),
        (["replay", "mail", "--to", "mail.dlq"], '--to "mail.dlq" is the dead-letter queue itself'),
        (["replay"], "there are several dead-letter queues; name one: failed, mail.dlq"),
        (["purge", "--yes"], "there are several dead-letter queues; name one: failed, mail.dlq"),
        (["ls", "biling"], 'pipeline.yaml has no queue "biling"; did you mean "billing"?'),
    ],
)
def test_a_mistake_is_told_before_anything_connects(alone: Dlq, words: list[str], said: str) -> None:
    assert said in alone.refused(words[0], *words[1:], "--broker", "amqp://127.0.0.1:1")


def test_a_wrong_file_is_a_wrong_file(alone: Dlq, folder: Path) -> None:
    (folder / "pipeline.yaml").write_text("queue: {}\n")
    assert isinstance(alone.run("ls").exception, FileError)


# Interrupted


@pytest.mark.parametrize("how", ["Ctrl-C", "a cut line"])
def test_whatever_happens_in_the_middle_nothing_is_lost(
    dlq: Dlq, proxy: Proxy, run_piperun: Commands, folder: Path, how: str
) -> None:
    # Given a replay that takes a while
    dlq.given("billing", "failed")
    dlq.given_dead_letters(200)
    words = ("pipeline.yaml", "billing", "--force", "--rate", "100/s")
    command = run_piperun(None, "replay", *words, verb="dlq", env={"AMQP_URL": proxy.url(dlq.broker.url)})

    # When it is stopped in the middle
    def sent() -> int:
        return dlq.broker.queue_depths().get("billing", 0)

    wait_until(lambda: sent() >= 10, 20, told="some that were sent back")
    if how == "Ctrl-C":
        command.send_signal(signal.SIGINT)
    else:
        proxy.cut()
    # Then it says so, and each message is in one of the queues, or in both
    assert command.wait() == exits.FAILED
    stopped = "interrupted" if how == "Ctrl-C" else "lost the connection"
    assert f"error: stopped before the end: {stopped}" in command.output
    assert "Traceback" not in command.output
    wait_until(lambda: sum(dlq.broker.queue_depths().values()) >= 200, 20, told="all of them")
    back, left = dlq.bodies("billing"), dlq.bodies("failed")
    assert set(back) | set(left) == {str(number) for number in range(200)}
    assert 10 <= len(back) < 200
    if how == "Ctrl-C":
        assert len(back) + len(left) == 200
        assert f"replayed {len(back)} of 200 " in command.output


# On a terminal


def test_a_terminal_sees_how_far_it_is_and_is_asked_before_they_are_gone(folder: Path) -> None:
    with EmbeddedBroker() as embedded:
        dlq = Dlq(EmbeddedUnderTest(embedded))
        dlq.given("billing", "failed")
        dlq.given_dead_letters(40)
        dialogues: list[tuple[list[str], str, str, int, str]] = [
            (["replay", "--force", "--rate", "50/s", "--limit", "37"], r"\d/40", "", 0, "replayed 37 of 40 messages"),
            (["purge"], "Throw away all 3 messages", "\n", 1, "nothing was thrown away"),
            (["purge"], "Throw away all 3 messages", "failed\n", 0, 'threw away 3 messages of "failed"'),
        ]
        for (verb, *options), shown, answer, status, said in dialogues:
            terminal = Terminal(folder, ["dlq", verb, "pipeline.yaml", "failed", *options], AMQP_URL=embedded.url)
            try:
                terminal.wait_for(shown)
                terminal.press(answer.encode())
                assert (terminal.status(), said in terminal.text) == (status, True), terminal.text
            finally:
                terminal.close()
