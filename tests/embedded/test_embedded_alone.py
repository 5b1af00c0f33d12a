"""`python -m pipeline.embedded` as a process: its URL, its end, its password, and what it says about options that
cannot be."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika import Message

from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.__main__ import parser
from tests.waiting import deadline

Process = subprocess.Popen[str]


class Start(Protocol):
    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts it; whatever still runs at the end of the test is ended."""
    root = str(Path(__file__).parents[2])
    with ExitStack() as stack:

        def run(*arguments: str, env: Mapping[str, str] | None = None) -> Process:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.embedded", *arguments],
                cwd=tmp_path,
                env={"PYTHONPATH": root, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def url_of(process: Process) -> str:
    """Its first line; the test's own time limit ends the wait for one that never comes."""
    assert process.stdout is not None
    return process.stdout.readline().removesuffix("\n")


def end(process: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """Its exit status, and what else it has said on either stream."""
    process.send_signal(number)
    out, err = process.communicate(timeout=deadline(15))
    return process.returncode, out, err


def refused(process: Process) -> tuple[int, str]:
    out, err = process.communicate(timeout=deadline(15))
    assert out == ""
    return process.returncode, err


@pytest.mark.parametrize(
    ("number", "messages", "farewell"),
    [
        (signal.SIGTERM, 2, "stopped; 2 messages are gone\n"),
        (signal.SIGINT, 1, "stopped; 1 message is gone\n"),
        (signal.SIGTERM, 0, "stopped; no message was left\n"),
    ],
)
async def test_it_runs_until_it_is_told_to_stop_and_says_what_is_gone(
    start: Start, number: signal.Signals, messages: int, farewell: str
) -> None:
    process = start()
    url = url_of(process)
    async with await aio_pika.connect(url, timeout=deadline(10)) as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True)
        for _ in range(messages):
            await channel.default_exchange.publish(Message(b"x"), "q")
    assert end(process, number) == (0, "", farewell)


def test_a_signal_that_comes_as_soon_as_the_url_is_read_is_not_lost(start: Start) -> None:
    process = start()
    url_of(process)
    assert end(process)[0] == 0


async def test_all_options_at_once(start: Start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = "--username guest --vhost shop --vhost other --rabbitmq-version 3.10 --memory-limit 1MiB --host 127.0.0.1"
    process = start("--port", str(port), *options.split(), env={"PIPERUN_EMBEDDED_PASSWORD": "s/cret"})
    url = url_of(process)
    assert url == f"amqp://guest:s%2Fcret@127.0.0.1:{port}/shop"
    for each in (url, url.replace("/shop", "/other")):
        async with await aio_pika.connect(each, timeout=deadline(10)) as connection:
            # A transient queue: what 4.3 would refuse
            await (await connection.channel()).declare_queue("q")
    assert end(process) == (0, "", "stopped; no message was left\n")


def test_a_password_that_is_not_given_is_random(start: Start) -> None:
    one, other = (urlsplit(url_of(start())).password for _ in range(2))
    assert one and other and one != other
    assert len(one) >= 24


def test_a_port_that_is_taken_is_status_3(start: Start) -> None:
    with EmbeddedBroker() as taken:
        status, error = refused(start("--port", str(taken.port)))
    line = (
        f"python -m pipeline.embedded: error: cannot listen on 127.0.0.1, port {taken.port}: Address already in use\n"
    )
    assert (status, error) == (3, line)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            "--host 0.0.0.0",
            "the embedded broker listens on loopback only, not on 0.0.0.0; use a RabbitMQ server for other machines",
        ),
        ("--host here", "the embedded broker listens on 127.0.0.1 or ::1; 'here' is no address"),
        ("--rabbitmq-version 3.9", "the embedded broker behaves like RabbitMQ 3.10 or 4.3, not like '3.9'"),
        ("--port 65536", "argument --port: '65536' is not a port; 0 to 65535"),
        ("--vhost=", "argument --vhost: '' is not a name; one or more characters"),
        ("--username=", "argument --username: '' is not a name; one or more characters"),
        ("--port x", "argument --port: 'x' is not a port; 0 to 65535"),
        (
            "--memory-limit 5",
            "argument --memory-limit: '5' is not a size; write a number and one of B, KB, MB, GB, KiB, MiB, GiB",
        ),
    ],
)
def test_what_cannot_be_is_status_2_and_one_clear_line(start: Start, options: str, why: str) -> None:
    status, error = refused(start(*options.split()))
    assert status == 2
    assert error.splitlines()[-1] == f"python -m pipeline.embedded: error: {why}"


def test_a_url_that_nobody_can_read_is_an_error_in_one_line(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.embedded"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=deadline(15),
    )
    os.close(writer)
    line = "python -m pipeline.embedded: error: cannot write the URL to standard output: Broken pipe\n"
    assert (run.returncode, run.stderr) == (1, line)


@pytest.mark.parametrize(("text", "octets"), [("512B", 512), ("1KB", 1000), ("64MiB", 67_108_864), ("2GiB", 2**31)])
def test_sizes_have_units(text: str, octets: int) -> None:
    assert parser().parse_args(["--memory-limit", text]).memory_limit == octets


def test_the_help_says_where_the_password_comes_from() -> None:
    text = parser().format_help()
    assert re.search(r"The password is random, or the value of\s+PIPERUN_EMBEDDED_PASSWORD\.", text)
    assert "--password" not in text  # whoever lists the processes would see it
