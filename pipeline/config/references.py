"""What a schema cannot say of one file: each name that is used is declared, and each way to publish leads somewhere.
Reads the tree, so that one mistake does not hide the next; syntax and values were checked before."""

from collections.abc import Collection, Iterator

from pipeline.config.model import Until
from pipeline.config.names import BROKERS_OWN
from pipeline.config.nodes import Entry, ListNode, MapNode, Path, ScalarNode, at, key_place, value_place
from pipeline.config.owner import owner
from pipeline.config.report import Report
from pipeline.config.schema import variant
from pipeline.config.settings import Settings
from pipeline.config.unknown import misspelt, suspects
from pipeline.problems import Place


def check(settings: Settings, report: Report, until: Until | None) -> None:
    """All cross references of one file."""
    _bindings(settings, report)
    _producers(settings, report)
    _consumers(settings, report)
    _endless_sources(settings, report, until)


def _known(settings: Settings, section: str) -> Collection[str] | None:
    """The names of a section, or None where a mistake in the section itself leaves that open."""
    node = settings.root.get(section)
    if suspects(settings.root, section):
        return None
    if node is None or (isinstance(node, ScalarNode) and node.value is None):
        return ()
    return node.entries.keys() if isinstance(node, MapNode) else None


def _queue(settings: Settings, path: Path, does: str, report: Report) -> None:
    """The queue named at a path is declared."""
    node, known = at(settings.root, path), _known(settings, "queues")
    if (
        not isinstance(node, ScalarNode)
        or not isinstance(node.value, str)
        or known is None
        or node.value in known
        or report.full
    ):
        return
    hint = _key_of(settings, "queues", node.value) or report.did_you_mean(node.value, known)
    hint = hint or f"queues: {{{_quoted(node.value)}: {{}}}}, or {{declare: check}} if it is somebody else's"
    sentence = f'{owner(path[:2])} {does} queue "{node.value}", which is not declared'
    report.error("unknown-queue", node.place, sentence, hint)


def _exchange(settings: Settings, path: Path, does: str, report: Report) -> str | None:
    """The exchange named at a path is declared, or the broker's own; its type is the answer."""
    node, known = at(settings.root, path), _known(settings, "exchanges")
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or known is None:
        return None
    if node.value in known:
        return settings.text("exchanges", node.value, "type")
    if node.value in BROKERS_OWN:
        return BROKERS_OWN[node.value]
    if node.value == "":
        _default_exchange(path, node, report)
        return None
    hint = _key_of(settings, "exchanges", node.value) or report.did_you_mean(node.value, [*known, *BROKERS_OWN])
    hint = hint or f"exchanges: {{{_quoted(node.value)}: {{}}}}, or {{declare: check}} if it is somebody else's"
    sentence = f'{owner(path[:2])} {does} exchange "{node.value}", which is not declared'
    report.error("unknown-exchange", node.place, sentence, hint)
    return None


def _default_exchange(path: Path, node: ScalarNode, report: Report) -> None:
    if "bindings" in path:
        sentence, hint = (
            "nothing can be bound to the default exchange: every queue is, by its name",
            "remove the binding",
        )
    else:
        sentence, hint = "the default exchange is reached by the name of a queue", "publish: {queue: ...}"
    report.error("unknown-exchange", node.place, sentence, hint)


def _key_of(settings: Settings, section: str, name: str) -> str | None:
    """A name of the broker where the file's own key is wanted."""
    keys = [key for key, _ in settings.objects(section) if settings.broker_name(section, key) == name]
    return f'in this file it is called "{keys[0]}"' if keys else None


def _quoted(name: str) -> str:
    return name if name.replace(".", "").replace("-", "").replace("_", "").isalnum() else f'"{name}"'


def _bindings(settings: Settings, report: Report) -> None:
    for path, node in bindings(settings):
        kind = _exchange(settings, (*path, "exchange"), "is bound to", report)
        if kind in ("direct", "topic") and _silent(node, "routing_key", "binding"):
            exchange = node.get("exchange")
            name = exchange.text if isinstance(exchange, ScalarNode) else ""
            hint = '"#" for all; "" if the empty key is meant' if kind == "topic" else '"" if the empty key is meant'
            sentence = f'binding to {kind} exchange "{name}" has no `routing_key`'
            report.error("missing-routing-key", _pointed(node), sentence, hint)


def bindings(settings: Settings) -> Iterator[tuple[Path, MapNode]]:
    """Every binding of the file with its path."""
    for section in ("exchanges", "queues"):
        for key, entry in settings.objects(section):
            listed = entry.value.get("bindings") if isinstance(entry.value, MapNode) else None
            for number, item in enumerate(listed.items) if isinstance(listed, ListNode) else ():
                if isinstance(item, MapNode):
                    yield (section, key, "bindings", number), item


def _silent(node: MapNode, key: str, kind: str) -> bool:
    """Whether a map of this kind says nothing under a key, not even under a misspelt name."""
    value = node.get(key)
    said = not (value is None or (isinstance(value, ScalarNode) and value.value is None))
    return not said and not misspelt(node, key, variant(kind))


def _pointed(node: MapNode) -> Place:
    """The name of what is bound, since an item of a list has no name of its own."""
    exchange = node.get("exchange")
    return exchange.place if exchange else node.place


def _producers(settings: Settings, report: Report) -> None:
    for name, entry in settings.objects("producers"):
        kind = _publish(settings, ("producers", name, "publish"), report)
        if kind in ("direct", "topic") and _never_brings_a_key(entry):
            publish = at(settings.root, ("producers", name, "publish"))
            if isinstance(publish, MapNode) and _silent(publish, "routing_key", "publish"):
                sentence = f'producer "{name}" publishes to a {kind} exchange without a `routing_key`'
                report.error("missing-routing-key", _pointed(publish), sentence, '"" if the empty key is meant')


def _never_brings_a_key(entry: Entry) -> bool:
    """A generator may give each message a routing key of its own, the other sources cannot."""
    source = entry.value.get("source") if isinstance(entry.value, MapNode) else None
    kind = source.get("type") if isinstance(source, MapNode) else None
    return isinstance(kind, ScalarNode) and kind.value in ("interval", "file", "stdin")


def _consumers(settings: Settings, report: Report) -> None:
    for name, _ in settings.objects("consumers"):
        _queue(settings, ("consumers", name, "queue"), "reads", report)
        _publish(settings, ("consumers", name, "publish"), report)
        queue = settings.text("consumers", name, "queue")
        stream = queue is not None and settings.value("queues", queue, "type") == "stream"
        if stream and settings.value("consumers", name, "ack") == "none":
            place = _said(settings, ("consumers", name, "ack"))
            sentence = f'a stream needs acknowledgements, and consumer "{name}" reads stream "{queue}" with `ack: none`'
            report.error("queue-type", place, sentence, "ack: on_success, or ack: manual")


def _said(settings: Settings, path: tuple[str, str, str]) -> Place:
    """Where a setting stands: on the object, else in the defaults."""
    here = settings.written(*path)
    return value_place(settings.root, here or ("defaults", path[0], path[2]))


def _publish(settings: Settings, path: Path, report: Report) -> str | None:
    """The target is one, and it is there. The answer is the type of the exchange."""
    node = at(settings.root, path)
    if not isinstance(node, MapNode):
        return None
    if not _silent(node, "queue", "publish"):
        for other in ("exchange", "routing_key"):
            if not _silent(node, other, "publish"):
                _two_targets(node, other, path, report)
        _queue(settings, (*path, "queue"), "publishes to", report)
        return None
    if _silent(node, "exchange", "publish"):
        sentence = f"`publish` of {owner(path[:2])} names neither a `queue` nor an `exchange`"
        report.error("missing-key", key_place(settings.root, path), sentence, "publish: {queue: ...}")
        return None
    kind = _exchange(settings, (*path, "exchange"), "publishes to", report)
    _internal(settings, path, report)
    return kind


def _two_targets(node: MapNode, other: str, path: Path, report: Report) -> None:
    if "queue" not in node.entries or other not in node.entries:
        return  # one of them is misspelt, which has been told
    first, second = sorted((node.entries["queue"].key, node.entries[other].key))
    sentence = (
        f"`publish` of {owner(path[:2])} goes to a queue by its name, so `queue` and `{other}` exclude each other"
    )
    report.error("conflicting-keys", second, f"{sentence}; first at {first.line}:{first.column}", "keep one", first)


def _internal(settings: Settings, path: Path, report: Report) -> None:
    node = at(settings.root, (*path, "exchange"))
    if isinstance(node, ScalarNode) and settings.value("exchanges", node.text, "internal") is True:
        sentence = (
            f'{owner(path[:2])} publishes to exchange "{node.text}", which is internal: only exchanges may send to it'
        )
        report.error("internal-exchange", node.place, sentence, "internal: false")


def _endless_sources(settings: Settings, report: Report, until: Until | None) -> None:
    node = at(settings.root, ("runtime", "until"))
    if (until or (node.text if isinstance(node, ScalarNode) else None)) != "idle":
        return
    for name, _ in settings.objects("producers"):
        source = at(settings.root, ("producers", name, "source"))
        kind = source.get("type") if isinstance(source, MapNode) else None
        if (
            isinstance(source, MapNode)
            and isinstance(kind, ScalarNode)
            and kind.value == "interval"
            and _silent(source, "count", "interval_source")
        ):
            sentence = f'producer "{name}" never ends, so the pipeline is never idle'
            way = "leave `until` out" if until is None else "leave --until-idle out"
            report.error(
                "endless-source", key_place(settings.root, ("producers", name)), sentence, f"count: 5, or {way}"
            )
