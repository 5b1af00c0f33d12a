"""`piperun doctor` as a process on both brokers: findings with their way out, the status that a script reads, and the
rights that it prints, which are enough."""

import io
import json
import re
from pathlib import Path

import pytest

from pipeline.amqp.inspect import Server
from pipeline.cli.doctor import _show, _status
from pipeline.runtime.drift import Finding, Level
from pipeline.secret import Masker, Secret
from tests.amqp.parts import broker_of
from tests.brokers import BrokerUnderTest
from tests.cli.test_app import ended
from tests.command import Commands
from tests.faults.test_statuses import a_port_that_refuses
from tests.models import a_pipeline
from tests.rabbitmq import PrivateRabbitMQ

FILE = """
broker: {url: "BROKER", connect_timeout: 2s}
exchanges:
  orders: {type: topic}
queues:
  billing: {max_length: 7, bindings: [{exchange: orders, routing_key: "order.#"}]}
producers:
  sender:
    source: {type: interval, every: 1ms, count: 3, body: work}
    publish: {exchange: orders, routing_key: order.new}
consumers:
  charge: {queue: billing, handler: steps:charge}
runtime: {until: idle}
"""
# One of each thing for which RabbitMQ asks for rights.
OF_EACH_KIND = """
broker: "BROKER"
exchanges:
  orders: {type: topic, arguments: {alternate-exchange: lost}}
  lost: {type: fanout}
  inner: {type: fanout, bindings: [{exchange: orders, routing_key: "#"}]}
  out: {type: fanout}
queues:
  billing: {type: quorum, dead_letter: failed, bindings: [{exchange: inner}]}
  failed: {}
  good: {bindings: [{exchange: inner}]}
  end: {bindings: [{exchange: out}]}
producers:
  sender: {source: {type: interval, every: 1ms, count: 3, body: x}, publish: {exchange: orders, routing_key: a}}
consumers:
  charge: {queue: billing, handler: steps:charge, retry: {delays: [100ms]}}
  good: {queue: good, handler: steps:good, publish: {exchange: out}}
runtime: {until: idle}
"""


def shop(url: str) -> str:
    return FILE.replace("BROKER", url)


def a_finding(level: Level = "error", **changes: object) -> Finding:
    values = {"kind": "w", "sentence": f"{level} sentence", "hint": None, **changes}
    return Finding(level=level, **values)  # type: ignore[arg-type]


# What is shown


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([], 0),
        ([a_finding("ok")], 0),
        ([a_finding("warning")], 1),
        ([a_finding("error"), a_finding("ok")], 1),
        ([a_finding("error", differs=True), a_finding("error")], 4),
    ],
)
def test_the_status_is_that_of_the_worst(found: list[Finding], status: int) -> None:
    assert _status(found) == status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *found: Finding) -> str:
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pipeline = a_pipeline(broker=broker_of("amqp://shop:t0psecret@rabbit"))
    server = Server(product="RabbitMQ", version="3.10.8", cluster="rabbit@one")
    _show(Masker([Secret("t0psecret")]), pipeline, server, found, ("bindings",))
    return stream.getvalue()


def test_for_people_the_worst_comes_first_and_a_way_out_of_several_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(
        io.StringIO(),
        monkeypatch,
        a_finding(sentence="one t0psecret", hint="do this"),
        a_finding(sentence="two", hint="do this"),
        a_finding("warning", hint="do that"),
        a_finding("ok"),
    )
    assert text.splitlines() == [
        'shop.yaml at rabbit:5672, vhost "/", user "shop": RabbitMQ 3.10.8, cluster "rabbit@one"',
        "",
        "error    one ***",
        "error    two",
        "         do this",
        "warning  warning sentence",
        "         do that",
        "ok       ok sentence",
        "",
        "not visible over AMQP:",
        "  bindings",
        "",
        "2 errors and 1 warning",
    ]


def test_on_a_terminal_lines_are_as_wide_as_it_is_and_levels_have_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Terminal(), monkeypatch, a_finding(sentence="word " * 40, hint="way " * 40), a_finding("ok"))
    assert "\x1b[1;31merror    \x1b[0mword" in text
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("         w") for line in lines[4:8])


def test_where_nothing_is_wrong_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(io.StringIO(), monkeypatch, a_finding("ok")).endswith("\n\nnothing is wrong\n")


# Processes


async def test_what_is_wrong_is_told_with_a_way_out(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    # Given a queue that was made otherwise, whose messages wait, and dead letters
    await broker.declare("billing", arguments={"x-queue-type": "classic", "x-max-length": 5})
    await broker.declare("billing.dlq", arguments={"x-queue-type": "classic"})
    for queue in ("billing", "billing", "billing.dlq"):
        await broker.publish(queue, b"x")

    # When doctor is asked, and asked to compare, for a program
    plain = run_piperun(shop(broker.url), verb="doctor")
    assert plain.wait() == 1, plain.output
    compared = run_piperun(shop(broker.url), "--compare", "--format", "json", verb="doctor")
    assert compared.wait() == 4, compared.output

    # Then each finding has its way out
    assert plain.lines[2:10] == [
        'error    queue "billing": 2 messages wait, and nobody consumes it, which consumer "charge" should',
        "         start the pipeline; if it runs, its log says why this consumer does not",
        'warning  exchange "orders" is not there',
        "         a start of the pipeline makes it",
        'warning  dead-letter queue "billing.dlq" holds 1 message',
        "         piperun dlq ls pipeline.yaml tells why they failed",
        "ok       the broker takes messages: no alarm",
        plain.lines[9],
    ]
    assert plain.lines[-1] == "1 error and 2 warnings"
    told = json.loads(compared.output)
    assert (told["product"], told["vhost"]) == ("RabbitMQ", broker.url.rpartition("/")[2].replace("%2F", "/") or "/")
    assert {
        "level": "error",
        "kind": "differs",
        "sentence": 'queue "billing" is on the broker with x-max-length 5, the file says 7',
        "hint": "it was made otherwise: `declare: skip` uses it as it is, or give it a new name",
    } in told["findings"]
    assert broker.queue_depths() == {"billing": 2, "billing.dlq": 1}


def test_the_rights_that_it_prints_are_enough_to_run(
    rabbitmq: PrivateRabbitMQ, run_piperun: Commands, tmp_path: Path
) -> None:
    # Given a user who may do what doctor says, and no more
    vhost = rabbitmq.add_vhost()
    user = f"shop-in-{vhost}"
    rabbitmq.add_user(user, "shop-password")
    (tmp_path / "steps.py").write_text("def charge(body): raise ValueError(body)\ndef good(body): return 'fine'\n")
    file = OF_EACH_KIND.replace("BROKER", rabbitmq.url(vhost, user, "shop-password"))
    printed = run_piperun(file, "--rights", "--format", "json", verb="doctor")
    assert printed.wait() == 0, printed.output
    rights = json.loads(printed.output)
    assert rights["read"] == r"^(billing|billing\.retry\.100ms|good|inner|orders|out)$"
    rabbitmq.set_permissions(user, vhost, rights["configure"], rights["write"], rights["read"])
    # When the pipeline runs, and some of its messages fail
    run = run_piperun(file)
    assert run.wait() == 0, run.output
    # Then all is done that the file asks for
    depths = rabbitmq.list_queues(vhost)
    assert depths == {"billing": 0, "billing.retry.100ms": 0, "failed": 3, "good": 0, "good.dlq": 0, "end": 3}
    assert "shop-password" not in printed.output + run.output


def test_rights_are_printed_as_a_command_and_nothing_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.yaml").write_text('broker: amqp://ann@nowhere.invalid/v\nqueues: {"a\'b": {}}\n')
    assert ended(monkeypatch, "doctor", "shop.yaml", "--rights") in (0, None)
    assert capsys.readouterr().out.splitlines() == [
        "configure  ^(a'b)$",
        "write      ^$",
        "read       ^$",
        "",
        """rabbitmqctl set_permissions -p v ann '^(a'"'"'b)$' '^$' '^$'""",
    ]


def test_a_broker_that_is_not_there_is_status_3_and_a_finding_for_a_program(run_piperun: Commands) -> None:
    with a_port_that_refuses() as port:
        url = f"amqp://shop:t0psecret@127.0.0.1:{port}"
        command = run_piperun(shop(url), "--format", "json", verb="doctor")
        assert command.wait() == 3
    (finding,) = json.loads(command.output)["findings"]
    assert (finding["level"], finding["kind"]) == ("error", "unreachable")
    assert finding["sentence"] == f"connection refused by 127.0.0.1:{port}: nothing listens there"
    assert finding["hint"].startswith("start RabbitMQ there")
    assert "t0psecret" not in command.output
