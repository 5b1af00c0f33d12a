"""`piperun send`: what the words of the command line become, and, as a process on both brokers, that a message is
there when it says so, and that every other end has a status and a sentence."""

import json
from pathlib import Path

import pytest

from pipeline.cli.send import _bodies, _content_type, _headers, _seconds
from pipeline.errors import UsageError
from tests.brokers import BrokerUnderTest
from tests.cli.test_app import ended
from tests.command import Commands
from tests.faults.test_statuses import a_port_that_refuses
from tests.rabbitmq import PrivateRabbitMQ

FILE = """
broker: {url: "BROKER", connect_timeout: 2s}
exchanges:
  orders: {type: topic}
queues:
  billing: {bindings: [{exchange: orders, routing_key: "order.#"}]}
"""


def shop(url: str) -> str:
    return FILE.replace("BROKER", url)


# Words


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("tries=3", "tries", 3),
        ("share=0.5", "share", 0.5),
        ("fresh=true", "fresh", True),
        ("who=Ann", "who", "Ann"),
        ('who="3"', "who", "3"),
        ("note=", "note", ""),
        ("a=b=c", "a", "b=c"),
        ("limit=NaN", "limit", "NaN"),
        ("limit=-Infinity", "limit", "-Infinity"),
        ("limit=1e400", "limit", "1e400"),
        ('list=[1, "x"]', "list", [1, "x"]),
        ("none=null", "none", None),
    ],
)
def test_a_header_is_json_where_it_can_be_and_text_otherwise(word: str, name: str, value: object) -> None:
    assert _headers([word]) == {name: value}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tries"], '--header is NAME=VALUE, not "tries"; for example --header tries=3'),
        (["=3"], '--header is NAME=VALUE, not "=3"; for example --header tries=3'),
        (["x" * 129 + "=3"], f'the name of a header has at most 128 bytes, not "{"x" * 40}..."'),
        (["a=1", "a=2"], '--header "a" is given twice; a message has each header once'),
    ],
)
def test_a_header_that_is_none_is_wrong_usage(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=r".") as told:
        _headers(words)
    assert str(told.value) == sentence


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"order": 7}', "application/json"),
        (b"[]\n", "application/json"),
        (b"7", "text/plain; charset=utf-8"),
        ("привет".encode(), "text/plain; charset=utf-8"),
        (b"", "text/plain; charset=utf-8"),
        (b"{", "text/plain; charset=utf-8"),
        (b"[" * 100_000, "text/plain; charset=utf-8"),
        (b"\xff\xfe", None),
    ],
)
def test_the_content_type_is_what_the_body_looks_like(body: bytes, content_type: str | None) -> None:
    assert _content_type(body) == content_type


def test_a_body_is_a_text_or_a_file_byte_for_byte_or_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"one\r\n\xff\n\nlast")
    assert _bodies("text", lines=False) == [b"text"]
    assert _bodies(f"@{file}", lines=False) == [b"one\r\n\xff\n\nlast"]
    assert _bodies(f"@{file}", lines=True) == [b"one", b"\xff", b"", b"last"]
    assert _bodies("a\nb\n", lines=True) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [("@missing", 'cannot read "missing": No such file or directory'), ("", "there is nothing to send: no line came")],
)
def test_what_cannot_be_a_body_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as told:
        _bodies(body, lines=True)
    assert str(told.value) == sentence


@pytest.mark.parametrize("text", ["5", "0s", "soon", "-1s"])
def test_a_timeout_that_is_no_duration_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout is a duration"):
        _seconds(text)


# Processes


async def test_what_it_says_is_sent_is_there(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    # Given a queue of the file, bound to an exchange of the file
    async with broker.channel() as channel:
        exchange = await channel.declare_exchange("orders", "topic", durable=True)
        queue = await channel.declare_queue("billing", durable=True)
        await queue.bind(exchange, "order.#")
    (tmp_path / "order.json").write_text('{"order": 7}')

    # When messages are sent to the one and to the other
    one = run_piperun(
        shop(broker.url), "billing", "@order.json", *("--header", "tries=3", "--message-id", "A"), verb="send"
    )
    assert one.wait() == 0, one.output
    many = run_piperun(
        shop(broker.url),
        *("--exchange", "orders", "--routing-key", "order.new", "--lines", "--format", "json"),
        verb="send",
        stdin="first\nsecond\n",
    )
    assert many.wait() == 0, many.output

    # Then each says where its messages are, and there they are
    assert one.lines == ['sent A to queue "billing": 12 bytes, application/json']
    told = json.loads(many.output)
    assert (told["exchange"], told["routing_key"], told["messages"]) == ("orders", "order.new", 2)
    assert told["failures"] == []
    first, *others = await broker.get_all("billing")
    assert (first.body, first.headers, first.content_type, first.message_id, first.delivery_mode) == (
        b'{"order": 7}',
        {"tries": 3},
        "application/json",
        "A",
        2,
    )
    assert [each.body for each in others] == [b"first", b"second"]
    assert [each.message_id for each in others] == told["confirmed"]


async def test_what_no_queue_takes_is_not_sent(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    # Given an exchange without a queue behind it
    async with broker.channel() as channel:
        await channel.declare_exchange("orders", "topic", durable=True)

    # When something is sent to it
    words = ("--exchange", "orders", "--routing-key", "order.new", "x", "--count", "2", "--format", "json")
    command = run_piperun(shop(broker.url), *words, verb="send")
    assert command.wait() == 1

    # Then exchange and key are named, and the way out; and nothing was made
    told = next(line for line in command.lines if line.startswith("{"))
    assert sorted(command.lines) == sorted(
        [
            'error: message 1 of 2: exchange "orders" has no queue for routing key "order.new" (NO_ROUTE)',
            "       no such queue, or no binding takes the key: a start of the pipeline declares those of the file",
            told,
        ]
    )
    assert json.loads(told)["confirmed"] == []
    assert [(each["number"], each["kind"]) for each in json.loads(told)["failures"]] == [
        (1, "unroutable"),
        (2, "unroutable"),
    ]
    assert broker.queue_depths() == {}


def test_a_missing_right_to_write_is_told(rabbitmq: PrivateRabbitMQ, run_piperun: Commands) -> None:
    vhost = rabbitmq.add_vhost()
    user = f"reader-of-{vhost}"
    rabbitmq.add_user(user, "reader-password")
    rabbitmq.set_permissions(user, vhost, configure="^$", write="^$", read=".*")
    url = rabbitmq.url(vhost, user, "reader-password")
    command = run_piperun(shop(url), "--exchange", "orders", "--routing-key", "a.b", "x", verb="send")
    assert command.wait() == 1
    assert "ACCESS_REFUSED" in command.lines[0]
    assert "`piperun doctor FILE --rights`" in command.lines[1]
    assert "reader-password" not in command.output


def test_a_broker_that_is_not_there_is_status_3(run_piperun: Commands) -> None:
    with a_port_that_refuses() as port:
        command = run_piperun(shop(f"amqp://shop:t0psecret@127.0.0.1:{port}"), "billing", "x", verb="send")
        assert command.wait() == 3
    assert command.lines == [
        f"error: connection refused by 127.0.0.1:{port}: nothing listens there",
        "       start RabbitMQ there, or correct host and port: amqp is on 5672, amqps on 5671",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["billing", "x"], "error: pipeline.yaml runs on the embedded broker"),
        (["biling", "x", "--broker", "amqp://127.0.0.1:1"], 'did you mean "billing"?'),
        (["billing", "x", "--message-id", "A", "--count", "2"], "error: --message-id names one message"),
        (["billing", "x", "--count", "0"], "x>=1"),
        (["queus.yaml"], 'queus.yaml:1:1: error[unknown-key]: no section is called "queus"'),
    ],
)
def test_wrong_usage_and_a_wrong_file_are_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipeline.yaml").write_text(FILE.replace('{url: "BROKER", connect_timeout: 2s}', "embedded"))
    Path("queus.yaml").write_text("queus: {billing: {}}\n")
    file = [] if words[0].endswith(".yaml") else ["pipeline.yaml"]
    assert ended(monkeypatch, "send", *file, *words) == 2
    assert said in capsys.readouterr().err
