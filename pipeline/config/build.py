"""A tree without mistakes to the model: defaults filled in from the schema, durations in seconds, paths absolute.
Reads no files and reports nothing; whoever calls it has made sure that there is nothing to report."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Literal
from urllib.parse import quote

from pipeline.config import arguments, broker, dead_letters, retries
from pipeline.config.document import Document
from pipeline.config.model import (
    Arguments,
    Binding,
    Consumer,
    Declare,
    Exchange,
    FileSource,
    Http,
    Idempotency,
    IntervalSource,
    Log,
    Pipeline,
    Producer,
    Publish,
    PythonSource,
    Queue,
    Runtime,
    Source,
    StdinSource,
)
from pipeline.config.nodes import MapNode, Node, ScalarNode, at, plain
from pipeline.config.schema import variant
from pipeline.config.settings import Settings, default, filled
from pipeline.config.units import seconds
from pipeline.secret import Secret


def build(root: MapNode, document: Document, secrets: tuple[Secret, ...], told: Mapping[str, Any]) -> Pipeline:
    """One file as a pipeline. `told` stands in the place of keys of its `runtime`."""
    name = root.get("name")
    written = plain(name) if name is not None else None
    builder = _Builder(root=root, document=document, name=str(written or document.file.stem))
    return Pipeline(
        name=builder.name,
        path=document.file,
        broker=broker.build(root, document),
        declare=builder.declare(),
        publish=_publish(filled(variant("publish"), None), exchange="", routing_key=""),
        exchanges=tuple(builder.exchange(key) for key in builder.keys("exchanges")),
        queues=tuple(builder.queue(key) for key in builder.keys("queues")),
        producers=tuple(builder.producer(key) for key in builder.keys("producers")),
        consumers=tuple(builder.consumer(key) for key in builder.keys("consumers")),
        runtime=builder.runtime(told),
        secrets=secrets,
    )


@dataclass(frozen=True, kw_only=True)
class _Builder:
    root: MapNode
    document: Document
    name: str

    @cached_property
    def settings(self) -> Settings:
        return Settings(self.root)

    @cached_property
    def dead_letter_queues(self) -> set[str]:
        return dead_letters.holders(self.settings)

    def keys(self, section: str) -> list[str]:
        return [key for key, _ in self.settings.objects(section)]

    def values(self, section: str, key: str, *names: str) -> dict[str, Any]:
        """Plain settings that the model has under the same name."""
        return {name: self.settings.value(section, key, name) for name in names}

    def declare(self) -> Declare:
        values: dict[str, Any] = filled(variant("defaults"), self.root.get("defaults"))
        declare: Declare = values["declare"]
        return declare

    def exchange(self, key: str) -> Exchange:
        return Exchange(
            key=key,
            name=self.settings.broker_name("exchanges", key),
            arguments=_table(self.settings.value("exchanges", key, "arguments")),
            bindings=self.bindings("exchanges", key),
            **self.values("exchanges", key, "type", "durable", "auto_delete", "internal", "declare"),
        )

    def queue(self, key: str) -> Queue:
        name, dead_letter = self.settings.broker_name("queues", key), self.dead_letter(key)
        return Queue(
            key=key,
            name=name,
            arguments=arguments.merged(
                self.settings, key, dead_letter or None, holds_dead_letters=name in self.dead_letter_queues
            ),
            bindings=self.bindings("queues", key),
            dead_letter=dead_letter,
            **self.values("queues", key, "type", "durable", "exclusive", "auto_delete", "declare"),
        )

    def dead_letter(self, key: str) -> str | Literal[False] | None:
        value = self.settings.value("queues", key, "dead_letter")
        if isinstance(value, str):
            return self.settings.broker_name("queues", value)
        return False if value is False else None

    def bindings(self, section: str, key: str) -> tuple[Binding, ...]:
        nodes = self.settings.value(section, key, "bindings")
        found: list[Binding] = []
        for number in range(len(nodes)) if isinstance(nodes, list) else ():
            values: dict[str, Any] = filled(variant("binding"), at(self.root, (section, key, "bindings", number)))
            written = values["routing_key"]
            found += [
                Binding(
                    exchange=self.settings.broker_name("exchanges", values["exchange"]),
                    routing_key=routing_key or "",
                    arguments=_table(values["arguments"]),
                )
                for routing_key in (written if isinstance(written, list) else [written])
            ]
        return tuple(found)

    def producer(self, key: str) -> Producer:
        publish = self.publish(at(self.root, ("producers", key, "publish")))
        assert publish is not None
        source = at(self.root, ("producers", key, "source"))
        assert source is not None
        return Producer(
            name=key, source=self.source(key, source), publish=publish, **self.values("producers", key, "max_in_flight")
        )

    def source(self, producer: str, node: Node) -> Source:
        if isinstance(node, ScalarNode):
            return PythonSource(generator=node.text)
        values: dict[str, Any] = filled(variant("source"), node)
        match values["type"]:
            case "interval":
                return IntervalSource(
                    every=seconds(values["every"]),
                    count=values["count"],
                    body=values["body"],
                    headers=_table(values["headers"]),
                )
            case "file":
                return FileSource(
                    path=self.document.folder / values["path"],
                    format=values["format"],
                    headers=_table(values["headers"]),
                    checkpoint=self.checkpoint(producer, values["checkpoint"]),
                )
            case "stdin":
                return StdinSource(format=values["format"], headers=_table(values["headers"]))
            case _:
                return PythonSource(generator=values["generator"])

    def checkpoint(self, producer: str, written: str | Literal[False] | None) -> FilePath | None:
        # The embedded broker forgets its messages; a position that outlived them would skip what was never handled.
        if written is False or broker.is_embedded(self.root):
            return None
        name = f"{quote(self.name, safe='')}.{quote(producer, safe='')}.json"
        return self.document.folder / (written or FilePath(".piperun") / name)

    def publish(self, node: Node | None) -> Publish | None:
        if not isinstance(node, MapNode):
            return None
        values: dict[str, Any] = filled(variant("publish"), node)
        if values["queue"] is not None:
            exchange, routing_key = "", self.settings.broker_name("queues", values["queue"])
        else:
            exchange = self.settings.broker_name("exchanges", values["exchange"])
            routing_key = values["routing_key"] or ""
        return _publish(values, exchange=exchange, routing_key=routing_key)

    def consumer(self, key: str) -> Consumer:
        timeout = self.settings.text("consumers", key, "timeout")
        queue = self.settings.text("consumers", key, "queue")
        assert queue is not None
        return Consumer(
            name=key,
            queue=self.settings.broker_name("queues", queue),
            timeout=seconds(timeout) if timeout is not None else None,
            retry=retries.build(self.settings, key),
            arguments=_table(self.settings.value("consumers", key, "arguments")),
            publish=self.publish(at(self.root, ("consumers", key, "publish"))),
            idempotency=self.idempotency(key),
            **self.values("consumers", key, "handler", "ack", "prefetch", "concurrency", "crash_limit"),
            **self.values("consumers", key, "content", "exclusive", "lifespan"),
        )

    def idempotency(self, consumer: str) -> Idempotency | None:
        node = self.settings.node("consumers", consumer, "idempotency")
        if node is None:
            return None
        values: dict[str, Any] = filled(variant("idempotency"), node)
        store: Any = node.text if isinstance(node, ScalarNode) else values["store"]
        return Idempotency(
            store=store,
            header=values["header"],
            path=self.keys_of(consumer, values["path"]) if store == "sqlite" else None,
            window=seconds(values["window"]),
            max_keys=values["max_keys"],
            lease=seconds(values["lease"]),
        )

    def keys_of(self, consumer: str, written: str | None) -> FilePath | None:
        # The ids of what a file sends are the same in the next run; on the embedded broker that is a new beginning.
        if broker.is_embedded(self.root):
            return None
        name = f"{quote(self.name, safe='')}.{quote(consumer, safe='')}.sqlite"
        return self.document.folder / (written or FilePath(".piperun") / name)

    def runtime(self, told: Mapping[str, Any]) -> Runtime:
        values: dict[str, Any] = {**filled(variant("runtime"), self.root.get("runtime")), **told}
        return Runtime(
            until=values["until"],
            workers=values["workers"],
            loop=values["loop"],
            startup=values["startup"],
            shutdown_timeout=seconds(values["shutdown_timeout"]),
            lifespan=values["lifespan"],
            http=_http(values["http"]),
            log=log_settings(at(self.root, ("runtime", "log"))),
        )


def log_settings(node: Node | None) -> Log:
    """`runtime.log` as a file has it, or as the schema has it where there is none."""
    log: dict[str, Any] = filled(variant("log"), node)
    return Log(format=log["format"], level=log["level"], bodies=_head(log["bodies"]))


def _http(written: Any) -> Http | None:
    """`9419`, `127.0.0.1:9419` or `{address: ...}`; a port alone is one of this machine."""
    if written is None:
        return None
    schema = variant("http")["properties"]
    long: dict[str, Any] = {key: default(part) for key, part in schema.items()}
    long |= written if isinstance(written, dict) else {"address": written}
    host, _, port = str(long["address"]).rpartition(":")
    return Http(
        host=host.strip("[]").replace("localhost", _LOOPBACK) or _LOOPBACK,
        port=int(port),
        hosts=tuple(long["hosts"]),
    )


_LOOPBACK = "127.0.0.1"


def _publish(values: dict[str, Any], *, exchange: str, routing_key: str) -> Publish:
    names = ["mandatory", "delivery_mode", "content_type", "content_encoding", "priority"]
    names += ["correlation_id", "reply_to", "type", "app_id"]
    expiration = values["expiration"]
    return Publish(
        exchange=exchange,
        routing_key=routing_key,
        headers=_table(values["headers"]),
        expiration=seconds(expiration) if expiration is not None else None,
        **{name: values[name] for name in names},
    )


def _table(value: Any) -> Arguments:
    return dict(value) if value else {}


def _head(bodies: str) -> int | None:
    """`head:200` is 200 bytes; `none` is none."""
    _, colon, count = bodies.partition(":")
    return int(count) if colon else None
