"""From a file without mistakes to the model: defaults from the schema, units, names, arguments, paths."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import Overrides
from pipeline.config.model import (
    Address,
    Binding,
    FileSource,
    Http,
    Idempotency,
    IntervalSource,
    Log,
    PythonSource,
    Runtime,
    StdinSource,
    Tls,
)
from pipeline.secret import Secret
from tests.config.examples import ENVIRONMENT, FULL
from tests.config.loading import pipeline_of
from tests.models import a_retry


def test_an_empty_object_has_the_defaults_of_the_schema() -> None:
    pipeline = pipeline_of("""
        queues: {hello: }
        producers: {greet: {source: "greetings:all", publish: {queue: hello}}}
        consumers: {print: {queue: hello, handler: "pipeline.handlers:log"}}
        """)
    (queue,), (producer,), (consumer,) = pipeline.queues, pipeline.producers, pipeline.consumers
    assert (pipeline.name, pipeline.path) == ("pipeline", Path("pipeline.yaml").absolute())
    assert (queue.name, queue.type, queue.durable, queue.exclusive, queue.declare) == (
        "hello",
        "classic",
        True,
        False,
        "assert",
    )
    assert (queue.arguments, queue.dead_letter) == ({"x-queue-type": "classic"}, None)
    assert (producer.max_in_flight, producer.publish.mandatory, producer.publish.delivery_mode) == (
        100,
        True,
        "persistent",
    )
    assert (consumer.ack, consumer.prefetch, consumer.concurrency, consumer.timeout) == ("on_success", 32, 1, None)
    assert consumer.crash_limit == 3
    assert pipeline.runtime == Runtime(
        until="stopped",
        workers=0,
        loop="auto",
        startup="fail",
        shutdown_timeout=25.0,
        lifespan=None,
        http=None,
        log=Log(format="auto", level="info", bodies=None),
    )
    assert pipeline.broker.embedded
    assert (pipeline.publish.exchange, pipeline.publish.mandatory, pipeline.publish.headers) == ("", True, {})
    assert (pipeline.broker.version, pipeline.broker.heartbeat, pipeline.broker.connect_timeout) == ("4.3", 15, 10.0)
    assert (pipeline.broker.reconnect_initial, pipeline.broker.reconnect_max) == (0.5, 30.0)
    assert pipeline.broker.max_message_size == 16 * 2**20


def test_the_long_form_of_everything() -> None:
    pipeline = pipeline_of(FULL, ENVIRONMENT)
    assert [str(address) for address in pipeline.broker.addresses] == ["rabbit-1:5672", "rabbit-2:5672"]
    assert (pipeline.broker.heartbeat, pipeline.broker.reconnect_max) == (30, 60.0)
    assert pipeline.broker.max_message_size == 64_000_000
    assert pipeline.secrets == (Secret("hunter-two"),)
    assert pipeline.runtime == Runtime(
        until="idle",
        workers=2,
        loop="asyncio",
        startup="fail",
        shutdown_timeout=60.0,
        lifespan=None,
        http=Http(host="0.0.0.0", port=9419, hosts=("metrics.example.org",)),
        log=Log(format="json", level="debug", bodies=200),
    )
    nightly, ticks, terminal, generated = (producer.source for producer in pipeline.producers)
    folder = Path.cwd()
    assert nightly == FileSource(
        path=folder / "data/orders.jsonl",
        format="jsonl",
        headers={},
        checkpoint=folder / ".piperun/billing.nightly.json",
    )
    assert ticks == IntervalSource(every=0.2, count=5, body={"hello": [1, 2.5, None, True]}, headers={})
    assert terminal == StdinSource(format="lines", headers={})
    assert generated == PythonSource(generator="shop.orders:nightly")
    invoices = next(queue for queue in pipeline.queues if queue.key == "invoices")
    assert invoices.arguments == {
        "x-queue-type": "classic",
        "x-message-ttl": 3_600_000,
        "x-max-length": 1000,
        "x-max-length-bytes": 16 * 1024 * 1024,
        "x-overflow": "reject-publish",
    }
    charge = pipeline.consumers[0]
    assert (charge.prefetch, charge.concurrency, charge.timeout) == (100, 16, 30.0)
    assert charge.publish is not None
    assert (charge.publish.exchange, charge.publish.routing_key) == ("", "invoices")
    assert pipeline.producers[1].publish.expiration == 600.0
    assert pipeline.producers[0].publish.headers == {"origin": "nightly", "tries": 3}


def test_a_list_of_routing_keys_is_as_many_bindings() -> None:
    pipeline = pipeline_of("""
        exchanges: {orders: {type: topic, name: shop.orders}}
        queues: {billing: {bindings: [{exchange: orders, routing_key: [a.b, "c.#"]}]}}
        """)
    assert pipeline.queues[0].bindings == (
        Binding(exchange="shop.orders", routing_key="a.b", arguments={}),
        Binding(exchange="shop.orders", routing_key="c.#", arguments={}),
    )


def test_the_file_speaks_of_keys_and_the_model_of_names_on_the_broker() -> None:
    pipeline = pipeline_of("""
        exchanges: {out: {name: shop.out, type: fanout}}
        queues: {work: {name: shop.work, dead_letter: failed}, failed: {name: shop.failed}}
        producers: {p: {source: {type: stdin}, publish: {queue: work}}}
        consumers: {c: {queue: work, handler: "shop:charge", publish: {exchange: out}}}
        """)
    assert pipeline.consumers[0].queue == pipeline.producers[0].publish.routing_key == "shop.work"
    assert pipeline.consumers[0].publish is not None
    assert pipeline.consumers[0].publish.exchange == "shop.out"
    assert pipeline.queues[0].dead_letter == "shop.failed"


QUORUM = {"x-queue-type": "quorum"}
DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "failed"}
SAFE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", "x-delivery-limit": 50}


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ("{type: quorum, dead_letter: failed}", QUORUM | DEAD | SAFE),
        ("{type: quorum, dead_letter: failed, delivery_limit: 5}", QUORUM | DEAD | SAFE | {"x-delivery-limit": 5}),
        ("{type: quorum}", QUORUM),
        ("{type: quorum, dead_letter: false}", QUORUM),
        ("{dead_letter: failed}", {"x-queue-type": "classic"} | DEAD),
        ("{single_active_consumer: true, max_priority: 5}", {"x-single-active-consumer": True, "x-max-priority": 5}),
        ("{expires: 1.5s, overflow: drop-head}", {"x-expires": 1500, "x-overflow": "drop-head"}),
        ("{arguments: {x-queue-leader-locator: balanced}}", {"x-queue-leader-locator": "balanced"}),
        (
            "{type: quorum, dead_letter: failed, arguments: {x-dead-letter-strategy: at-most-once}}",
            QUORUM | DEAD | SAFE | {"x-dead-letter-strategy": "at-most-once"},
        ),
    ],
)
def test_arguments_of_a_queue_go_out_as_the_broker_wants_them(settings: str, arguments: dict[str, Any]) -> None:
    pipeline = pipeline_of(f"queues: {{billing: {settings}}}\n")
    assert pipeline.queues[0].arguments == {"x-queue-type": "classic"} | arguments


@pytest.mark.parametrize("name", ["failed", "billing.dlq"])
def test_a_quorum_queue_for_dead_letters_may_be_looked_into_often(name: str) -> None:
    target = f", dead_letter: {name}" if name == "failed" else ""
    pipeline = pipeline_of(f"queues: {{billing: {{durable: true{target}}}, {name}: {{type: quorum}}}}\n")
    assert pipeline.queues[1].arguments == QUORUM | {"x-delivery-limit": 1_000_000}


def test_defaults_of_the_file_stand_between_an_object_and_the_schema() -> None:
    pipeline = pipeline_of("""
        defaults: {declare: check, queues: {type: quorum, declare: skip}, consumers: {prefetch: 5, timeout: 1m}}
        exchanges: {orders: {}}
        queues: {a: {dead_letter: f}, b: {type: classic, declare: assert}}
        consumers: {c: {queue: a, handler: "shop:charge", timeout: null}}
        """)
    assert pipeline.declare == pipeline.exchanges[0].declare == "check"
    assert [(queue.type, queue.declare) for queue in pipeline.queues] == [("quorum", "skip"), ("classic", "assert")]
    assert (pipeline.consumers[0].prefetch, pipeline.consumers[0].timeout) == (5, None)


CHECKPOINTS = [
    ("amqp://localhost", "", ".piperun/shop.p%2F1.json"),
    ("amqp://localhost", ", checkpoint: state/p.json", "state/p.json"),
    ("amqp://localhost", ", checkpoint: false", None),
    ("embedded", "", None),
]


@pytest.mark.parametrize(("broker", "option", "expected"), CHECKPOINTS)
def test_a_checkpoint_lies_beside_the_file_unless_it_would_outlive_the_messages(
    broker: str, option: str, expected: str | None
) -> None:
    pipeline = pipeline_of(f"""
        name: shop
        broker: {broker}
        queues: {{hello: {{}}}}
        producers: {{p/1: {{source: {{type: file, path: /etc/hosts{option}}}, publish: {{queue: hello}}}}}}
        """)
    source = pipeline.producers[0].source
    assert isinstance(source, FileSource)
    assert source.checkpoint == (Path.cwd() / expected if expected else None)
    assert source.path == Path("/etc/hosts")


def test_the_command_line_replaces_the_url_and_nothing_else_of_the_broker() -> None:
    file = "broker: {url: '${NOT_SET}', heartbeat: 5s, tls: {ca_file: /etc/hosts}}\nruntime: {workers: 2}\n"
    pipeline = pipeline_of(file, overrides=Overrides(broker_url="amqps://app:s%20t@rabbit/shop", until="idle"))
    assert pipeline.broker.addresses == (
        Address(scheme="amqps", host="rabbit", port=5671, username="app", password=Secret("s t"), vhost="shop"),
    )
    assert pipeline.broker.heartbeat == 5
    assert pipeline.broker.tls == Tls(ca_file=Path("/etc/hosts"), cert_file=None, key_file=None, key_password=None)
    assert (pipeline.runtime.until, pipeline.runtime.workers) == ("idle", 2)


def test_the_command_line_replaces_keys_of_runtime() -> None:
    file = "runtime: {workers: 2, loop: uvloop, until: idle, shutdown_timeout: 5s}\n"
    runtime = pipeline_of(file, overrides=Overrides(workers=0, loop="asyncio")).runtime
    assert (runtime.workers, runtime.loop, runtime.until, runtime.shutdown_timeout) == (0, "asyncio", "idle", 5.0)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("memory", None),
        ("sqlite", ".piperun/my%2Fshop.a%20b.sqlite"),
        ("{store: sqlite, path: keys.sqlite}", "keys.sqlite"),
        ("{store: sqlite, path: /var/lib/keys.sqlite}", "/var/lib/keys.sqlite"),
    ],
)
@pytest.mark.parametrize("broker", ["embedded", "amqp://rabbit"])
def test_keys_lie_beside_the_file_and_are_not_kept_on_the_embedded_broker(
    written: str, expected: str | None, broker: str
) -> None:
    file = f"""
        name: my/shop
        broker: {broker}
        queues: {{q: {{}}}}
        consumers: {{a b: {{queue: q, handler: "shop:charge", idempotency: {written}}}}}
        """
    settings = pipeline_of(file).consumers[0].idempotency
    assert settings is not None
    assert settings.store in written
    assert settings.path == (Path.cwd() / expected if expected and broker != "embedded" else None)
    assert (settings.header, settings.window, settings.max_keys, settings.lease) == (None, 86_400.0, 100_000, 15.0)


def test_the_long_form_of_idempotency() -> None:
    pipeline = pipeline_of("""
        queues: {q: {}}
        consumers:
          a: {queue: q, handler: "shop:charge", idempotency: {store: memory, header: order, window: 2h, max_keys: 5}}
          b: {queue: q, handler: "shop:charge"}
        """)
    assert [each.idempotency for each in pipeline.consumers] == [
        Idempotency(store="memory", header="order", path=None, window=7_200.0, max_keys=5, lease=15.0),
        None,
    ]


def test_the_heartbeat_of_a_url_wins() -> None:
    pipeline = pipeline_of("broker: {url: 'amqp://localhost?heartbeat=7', heartbeat: 30s}\n")
    assert pipeline.broker.heartbeat == 7


def test_nothing_of_the_model_prints_a_password(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("open sesame\n")
    pipeline = pipeline_of(
        f"""
        broker:
          url: amqps://app:${{PASSWORD}}@rabbit
          tls: {{key_password: "${{file:{tmp_path}/key}}"}}
        """,
        ENVIRONMENT,
    )
    assert pipeline.broker.tls is not None
    assert pipeline.broker.tls.key_password == Secret("open sesame")
    assert "hunter-two" not in repr(pipeline) and "sesame" not in repr(pipeline)
    assert set(pipeline.secrets) == {Secret("hunter-two"), Secret("open sesame")}


@pytest.mark.parametrize(
    ("written", "delays"),
    [
        ("delays: [500ms, 5s, 1m]", (0.5, 5.0, 60.0)),
        ("delays: [5s]", (5.0,)),
        ("initial: 5s, attempts: 4", (5.0, 10.0, 20.0)),
        ("initial: 5s, factor: 3, attempts: 4", (5.0, 15.0, 45.0)),
        ("initial: 5s, factor: 1.5, max: 7s, attempts: 4", (5.0, 7.0, 7.0)),
        ("initial: 100ms, factor: 1, attempts: 3", (0.1, 0.1)),
        ("initial: 333ms, factor: 1.1, attempts: 4", (0.333, 0.366, 0.403)),  # in whole milliseconds
        ("initial: 5s, factor: 100, max: 1h, attempts: 100", (5.0, 500.0, *[3600.0] * 97)),
        ("initial: 5s, attempts: 4, strategy: native", (5.0, 10.0, 15.0)),
        ("initial: 5s, max: 12s, attempts: 5, strategy: native", (5.0, 10.0, 12.0, 12.0)),
    ],
)
def test_both_forms_of_retry_are_one_list(written: str, delays: tuple[float, ...]) -> None:
    pipeline = pipeline_of(f"""
        queues: {{billing: {{type: quorum, dead_letter: failed}}}}
        consumers: {{charge: {{queue: billing, handler: "shop:charge", retry: {{{written}}}}}}}
        """)
    retry = pipeline.consumers[0].retry
    assert retry is not None
    assert (retry.delays, retry.attempts) == (delays, len(delays) + 1)


def test_the_rest_of_a_retry() -> None:
    pipeline = pipeline_of("""
        defaults: {consumers: {retry: {delays: [5s], except: [ValueError], strategy: inline}}}
        queues: {billing: {}, log: {}}
        consumers:
          charge: {queue: billing, handler: "shop:charge", retry: {delays: [1s], only: ["shop.errors:Transient"]}}
          refund: {queue: billing, handler: "shop:refund"}
          off: {queue: billing, handler: "shop:refund", retry: }
          print: {queue: log, handler: "shop:print", ack: none}
        """)
    charge, refund, *others = (consumer.retry for consumer in pipeline.consumers)
    assert charge == a_retry(1.0, only=("shop.errors:Transient",))
    assert refund == a_retry(5.0, excluded=("ValueError",), strategy="inline")
    assert others == [None, None]  # a file's defaults are no mistake of a consumer to which nothing comes back


def test_a_queue_with_native_retry_is_declared_for_it() -> None:
    pipeline = pipeline_of("""
        defaults: {queues: {type: quorum}}
        queues: {billing: {name: shop.billing, dead_letter: failed}, other: {dead_letter: f}}
        consumers:
          a: {queue: billing, handler: "shop:a", retry: {initial: 5s, max: 12s, attempts: 4, strategy: native}}
          b: {queue: other, handler: "shop:b", retry: {delays: [5s]}}
        """)
    ours = {"x-delayed-retry-type": "failed", "x-delayed-retry-min": 5_000, "x-delayed-retry-max": 12_000}
    assert pipeline.queues[0].arguments == {**QUORUM, **DEAD, **SAFE, **ours, "x-delivery-limit": 3}
    assert pipeline.queues[1].arguments == {**QUORUM, **DEAD, **SAFE, "x-dead-letter-routing-key": "f"}


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("9419", "127.0.0.1", 9419),
        ('"9419"', "127.0.0.1", 9419),
        ("localhost:80", "127.0.0.1", 80),
        ("10.0.0.7:0", "10.0.0.7", 0),
        ('"[::1]:9419"', "::1", 9419),
        ("{address: 9419}", "127.0.0.1", 9419),
    ],
)
def test_an_address_to_listen_on_is_one_of_this_machine_unless_it_says_otherwise(
    written: str, host: str, port: int
) -> None:
    runtime = pipeline_of(f"queues: {{hello: {{}}}}\nruntime: {{http: {written}}}\n").runtime
    assert runtime.http == Http(host=host, port=port, hosts=())
