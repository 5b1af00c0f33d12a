"""Where `idempotency` of a consumer cannot work: without acknowledgements, with settings of another store, in the
memory of several processes. Whether its values are legal is the schema's business."""

from pipeline.config.model import Workers
from pipeline.config.nodes import MapNode, Path, ScalarNode, at, key_place, value_place
from pipeline.config.report import Report
from pipeline.config.settings import Settings

_ONLY_FOR = {"path": "sqlite", "lease": "sqlite", "max_keys": "memory"}


def check(settings: Settings, report: Report, workers: Workers | None) -> None:
    """`workers` stands in the place of `runtime.workers`."""
    for name, _ in settings.objects("consumers"):
        path: Path = ("consumers", name, "idempotency")
        store = _store(settings, path)
        if store is None:
            continue
        if settings.value("consumers", name, "ack") == "none":
            sentence = "with `ack: none` a message is gone once it is delivered; it cannot be held back, nor come again"
            report.error("idempotency-without-ack", key_place(settings.root, path), sentence, "ack: on_success")
            continue
        _of_another_store(settings, path, store, report)
        if store == "memory":
            _in_memory(settings, path, report, workers)


def _store(settings: Settings, path: Path) -> str | None:
    """None where there is none, or nobody can know it."""
    node = at(settings.root, path)
    if isinstance(node, MapNode):
        node = node.get("store")
    return node.value if isinstance(node, ScalarNode) and node.value in ("memory", "sqlite") else None


def _of_another_store(settings: Settings, path: Path, store: str, report: Report) -> None:
    node = at(settings.root, path)
    for key, entry in node.entries.items() if isinstance(node, MapNode) else ():
        if _ONLY_FOR.get(key, store) != store:
            sentence = f'`{key}` is for `store: {_ONLY_FOR[key]}`, and consumer "{path[1]}" has `store: {store}`'
            related = key_place(settings.root, (*path, "store"))
            report.error("conflicting-keys", entry.key, sentence, f"store: {_ONLY_FOR[key]}, or leave it out", related)


def _in_memory(settings: Settings, path: Path, report: Report, told: Workers | None) -> None:
    """Each process remembers for itself. A warning: some want no more than to see repeats within one process."""
    node = at(settings.root, ("runtime", "workers"))
    workers = told if told is not None else node.value if isinstance(node, ScalarNode) else 0
    if workers == "auto" or (type(workers) is int and workers > 1):
        sentence = f'each worker remembers for itself: consumer "{path[1]}" handles a message again that another one '
        sentence += "has handled"
        inside = (*path, "store")
        short = at(settings.root, inside) is None
        way = "idempotency: sqlite" if short else "store: sqlite"
        report.warning("idempotency-in-memory", value_place(settings.root, path if short else inside), sentence, way)
