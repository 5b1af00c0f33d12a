"""Model objects with every value given, for tests that change one or two of them. What a file would say is the schema's
business and is tested there."""

from pathlib import Path
from typing import Any

from pipeline.config.model import (
    Broker,
    Consumer,
    Idempotency,
    IntervalSource,
    Log,
    Pipeline,
    Producer,
    Publish,
    Queue,
    Retry,
    Runtime,
)


def a_queue(name: str, **changes: Any) -> Queue:
    values: dict[str, Any] = {
        "key": name,
        "name": name,
        "type": "classic",
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "arguments": {"x-queue-type": "classic"},
        "bindings": (),
        "dead_letter": None,
        "declare": "assert",
    }
    return Queue(**{**values, **changes})


def a_publish(**changes: Any) -> Publish:
    values: dict[str, Any] = {
        "exchange": "",
        "routing_key": "invoices",
        "mandatory": True,
        "delivery_mode": "persistent",
        "headers": {},
        **dict.fromkeys(["content_type", "content_encoding", "priority", "expiration", "correlation_id"]),
        **dict.fromkeys(["reply_to", "type", "app_id"]),
    }
    return Publish(**{**values, **changes})


def a_consumer(name: str = "charge", **changes: Any) -> Consumer:
    values: dict[str, Any] = {
        "name": name,
        "queue": "billing",
        "handler": "steps:charge",
        "ack": "on_success",
        "prefetch": 32,
        "concurrency": 1,
        "timeout": None,
        "retry": None,
        "crash_limit": 3,
        "content": None,
        "exclusive": False,
        "arguments": {},
        "lifespan": None,
        "publish": None,
        "idempotency": None,
    }
    return Consumer(**{**values, **changes})


def a_retry(*delays: float, **changes: Any) -> Retry:
    values: dict[str, Any] = {"delays": delays, "only": (), "excluded": (), "strategy": "broker"}
    return Retry(**{**values, **changes})


def an_idempotency(**changes: Any) -> Idempotency:
    values: dict[str, Any] = {"store": "memory", "header": None, "path": None, "window": 3_600.0, "max_keys": 1_000}
    return Idempotency(**{**values, "lease": 15.0, **changes})


def a_producer(name: str = "nightly", **changes: Any) -> Producer:
    values: dict[str, Any] = {
        "name": name,
        "source": IntervalSource(every=1.0, count=None, body="hello", headers={}),
        "publish": a_publish(routing_key="billing"),
        "max_in_flight": 100,
    }
    return Producer(**{**values, **changes})


def a_log(**changes: Any) -> Log:
    return Log(**{"format": "text", "level": "info", "bodies": None, **changes})


def a_runtime(**changes: Any) -> Runtime:
    values: dict[str, Any] = {
        "until": "stopped",
        "workers": 0,
        "loop": "asyncio",
        "startup": "fail",
        "shutdown_timeout": 25.0,
        "lifespan": None,
        "http": None,
        "log": a_log(),
    }
    return Runtime(**{**values, **changes})


def a_broker(**changes: Any) -> Broker:
    values: dict[str, Any] = {
        "addresses": (),
        "version": "4.3",
        "max_message_size": 16 * 2**20,
        "connect_timeout": 5.0,
        "heartbeat": 15,
        "reconnect_initial": 0.1,
        "reconnect_max": 5.0,
        "tls": None,
    }
    return Broker(**{**values, **changes})


def a_pipeline(**changes: Any) -> Pipeline:
    values: dict[str, Any] = {
        "name": "shop",
        "path": Path("/srv/shop/shop.yaml"),
        "broker": a_broker(),
        "declare": "assert",
        "publish": a_publish(routing_key=""),
        "exchanges": (),
        "queues": (),
        "producers": (),
        "consumers": (),
        "runtime": a_runtime(),
        "secrets": (),
    }
    return Pipeline(**{**values, **changes})
