"""Each exit status of the real command, with the line that a person reads beside it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.brokers import BrokerUnderTest
from tests.command import Commands
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline

pytestmark = pytest.mark.usefixtures("both_lines")

SENDER = """
broker: {url: BROKER, connect_timeout: 2s}
queues:
  tasks: {}
producers:
  sender: {source: {type: interval, count: 1, body: work}, publish: {queue: tasks}}
"""


def sender(url: str) -> str:
    return SENDER.replace("BROKER", f'"{url}"')


def with_login(url: str, login: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}").geturl()


def address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


def test_status_0_for_a_run_that_did_all(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    command = run_piperun(sender(broker.url))
    assert command.wait() == 0
    assert "1 sent and confirmed" in command.lines[-1]


def test_status_1_for_a_producer_that_failed(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    text = sender(broker.url).replace("publish: {queue: tasks}", "publish: {exchange: amq.direct, routing_key: nobody}")
    command = run_piperun(text)
    assert command.wait() == 1
    assert 'exchange "amq.direct" has no queue for routing key "nobody"' in command.output


def test_status_2_for_a_wrong_file(run_piperun: Commands) -> None:
    command = run_piperun("queus: {tasks: {}}\n")
    assert command.wait() == 2
    assert command.lines[:3] == [
        'pipeline.yaml:1:1: error[unknown-key]: no section is called "queus"',
        "    1 | queus: {tasks: {}}",
        '      | ^^^^^ did you mean "queues"?',
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "sendr"], 'no producer or consumer is called "sendr"; did you mean "sender"?'),
        (["--until-idle", "--forever"], "contradict each other"),
        (["--log-bodies", "all"], "--log-bodies is none or head:N"),
        (["--broker-required"], "--broker-required forbids it"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_status_2_for_wrong_usage(run_piperun: Commands, arguments: list[str], sentence: str) -> None:
    command = run_piperun(sender("embedded"), *arguments)
    assert command.wait() == 2
    assert sentence in " ".join(command.output.split())


def test_status_2_for_nothing_to_run(run_piperun: Commands) -> None:
    assert run_piperun(None, verb="").wait() == 2


def test_status_3_when_nothing_listens(run_piperun: Commands) -> None:
    with a_port_that_refuses() as port:
        command = run_piperun(sender(f"amqp://127.0.0.1:{port}"))
        assert command.wait() == 3
        assert command.lines == [f"error: connection refused by 127.0.0.1:{port}: nothing listens there"]


def test_status_3_for_a_wrong_password(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    user = urlsplit(broker.url).username
    command = run_piperun(sender(with_login(broker.url, f"{user}:wr0ngwr0ng")))
    assert command.wait() == 3
    assert f"login refused for user {user} at {address(broker.url)}" in command.lines[-1].replace('"', "")
    assert "wr0ngwr0ng" not in command.output


def test_status_3_for_a_missing_vhost(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    command = run_piperun(sender(urlsplit(broker.url)._replace(path="/nowhere").geturl()))
    assert command.wait() == 3
    assert 'vhost "nowhere" does not exist' in command.lines[-1]
    assert "Expected" not in command.output


def test_status_3_for_a_missing_right(rabbitmq: PrivateRabbitMQ, run_piperun: Commands) -> None:
    vhost = rabbitmq.add_vhost()
    user = f"reader-of-{vhost}"
    rabbitmq.add_user(user, "reader-password")
    rabbitmq.set_permissions(user, vhost, configure="^$", write="^$", read=".*")
    command = run_piperun(sender(rabbitmq.url(vhost, user, "reader-password")))
    assert command.wait() == 3
    assert 'queue "tasks" may not be declared, a right is missing' in command.lines[-1]


def answer_as_http(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(64):  # until the other side gives up
        pass


def hang_up(_: socket.socket) -> None:
    """Accepts and leaves."""


def answer_as_amqp_1(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"AMQP\x00\x01\x00\x00")


@pytest.mark.parametrize(
    "peer", [answer_as_http, say_nothing, hang_up, answer_as_amqp_1], ids=lambda peer: peer.__name__
)
def test_status_3_for_a_port_that_does_not_speak_amqp(
    run_piperun: Commands, peer: Callable[[socket.socket], None]
) -> None:
    with a_server(peer) as port:
        command = run_piperun(sender(f"amqp://127.0.0.1:{port}"))
        assert command.wait(10) == 3
        assert f"127.0.0.1:{port}" in command.lines[-1]
        assert "AMQP 0-9-1" in command.lines[-1] or "no answer within 2 s" in command.lines[-1]


async def test_status_4_when_queues_exist_with_other_arguments(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    await broker.declare("tasks", durable=True, arguments={"x-queue-type": "classic", "x-max-length": 5})
    await broker.declare("others", durable=True, auto_delete=True, arguments={"x-queue-type": "classic"})
    await broker.publish("tasks", b"must stay")
    (tmp_path / "steps.py").write_text("async def work(body): print('handled')\n")
    text = f"""
broker: "{broker.url}"
queues:
  new: {{}}
  tasks: {{max_length: 7}}
  others: {{}}
consumers:
  worker: {{queue: tasks, handler: steps:work}}
"""
    command = run_piperun(text)
    assert command.wait() == 4
    errors = [line for line in command.lines if line.startswith("error: ")]
    assert len(errors) == 2, command.output
    assert '"tasks"' in errors[0] and "5" in errors[0] and "7" in errors[0]
    assert '"others"' in errors[1] and "auto_delete true" in errors[1] and "false" in errors[1]
    # Nothing was consumed, and nothing was made.
    assert "handled" not in command.output
    depths = broker.queue_depths()
    assert depths["tasks"] == 1
    assert "new" not in depths


def test_status_5_and_130_are_shown_with_stopping() -> None:
    stopping = Path(__file__).with_name("test_stopping.py").read_text(encoding="utf-8")
    assert "== 5" in stopping and "== 130" in stopping


@pytest.mark.parametrize("workers", [0, 1])
def test_status_70_for_a_bug_of_ours(run_piperun: Commands, tmp_path: Path, workers: int) -> None:
    # Given a piperun with a bug
    (tmp_path / "sitecustomize.py").write_text(
        "import pipeline.runtime.idle\n"
        "async def broken(*_): raise ZeroDivisionError('a bug')\n"
        "pipeline.runtime.idle._look = broken\n"
    )
    (tmp_path / "steps.py").write_text("async def work(body): pass\n")
    text = (
        sender("embedded")
        + "consumers:\n  c: {queue: tasks, handler: steps:work}\nruntime: {until: idle, workers: N}\n"
    )
    # When it meets it
    command = run_piperun(text.replace("N}", f"{workers}}}"), env={"PYTHONPATH": str(tmp_path)})
    # Then it says whose fault it is, and what to send
    assert command.wait() == 70
    assert "This is a bug in piperun, and none of yours." in command.output
    assert "ZeroDivisionError: a bug" in command.output
    assert command.lines[-1].startswith("piperun 0.")


def test_a_worker_that_cannot_start_ends_the_run(run_piperun: Commands, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(
        "import multiprocessing, os, sys\n"
        "if 'pipeline.runtime.worker' in ' '.join(sys.orig_argv): os._exit(9)\n"
        "async def work(body): pass\n"
    )
    text = sender("embedded") + "consumers:\n  c: {queue: tasks, handler: steps:work}\nruntime: {workers: 2}\n"
    command = run_piperun(text)
    assert command.wait(20) == 1
    assert "died while starting: exit status 9" in command.output


@contextmanager
def a_port_that_refuses() -> Iterator[int]:
    """Bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def a_server(peer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something that listens and is no RabbitMQ."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test has ended
                connection, _ = server.accept()
                with connection:
                    peer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(deadline(10))
