"""Keys that the schema does not know: misspelt, in the wrong place, of a later version, or of another program's file.
Looks a key up in the whole schema before calling it unknown."""

from collections.abc import Collection, Iterator
from functools import lru_cache, partial
from itertools import takewhile

from pipeline.config.nodes import MapNode, Node, Path, ScalarNode, at
from pipeline.config.owner import owner
from pipeline.config.phrases import either
from pipeline.config.report import Report
from pipeline.config.schema import Schema, homes, keys, load_schema, lookup, resolved
from pipeline.problems import Place, closest, did_you_mean, likeness

_ROOT = "a pipeline"  # the schema's title
_SECTIONS = ("exchanges", "queues", "producers", "consumers")
_ONLY = {
    "exchanges": "only routes messages",
    "queues": "only holds messages",
    "producers": "only sends messages",
    "consumers": "only receives messages",
}
_LATER = {
    "crash_limit": "it comes in a later version",
    "brokers": "several brokers come in a later version",
    "tests": "tests come in a later version",
}
_RETRY = "retry: {delays: [5s, 1m]}"
_ACK = "ack: none, or on_success"
_URL = "url: amqp://user@host:port/vhost"
# Keys of clients, of other systems and of plain language: which key must be legal there, and what to write.
_ELSEWHERE: dict[str, tuple[str, str | None]] = {
    "noack": ("ack", _ACK),
    "autoack": ("ack", _ACK),
    "retries": ("handler", _RETRY),
    "maxretries": ("handler", _RETRY),
    "callback": ("handler", None),
    "function": ("handler", None),
    "onmessage": ("handler", None),
    "qos": ("prefetch", None),
    "workers": ("concurrency", None),
    "health": ("http", None),
    "metrics": ("http", None),
    "prometheus": ("http", None),
    "ttl": ("message_ttl", None),
    "dlq": ("dead_letter", None),
    "dlx": ("dead_letter", None),
    "args": ("arguments", None),
    "host": ("url", _URL),
    "hostname": ("url", _URL),
    "port": ("url", _URL),
    "user": ("url", _URL),
    "username": ("url", _URL),
    "password": ("url", "url: ${AMQP_URL}, with the password in it"),
    "vhost": ("url", _URL),
    "virtualhost": ("url", _URL),
    "subscribers": ("consumers", None),
    "receivers": ("consumers", None),
    "listeners": ("consumers", None),
    "publishers": ("producers", None),
    "senders": ("producers", None),
    "topics": ("exchanges", None),
    "include": ("consumers", "several files run together: piperun a.yaml b.yaml"),
}


def foreign(root: MapNode, report: Report) -> bool:
    """A file of another program is told so once, not key by key."""
    if any(section in root.entries for section in _SECTIONS):
        return False
    name = _program(root)
    if name:
        first = next(iter(root.entries.values())).key
        report.error(
            "foreign-file",
            first,
            f"this looks like {name} file, not like a pipeline",
            "`piperun FILE` reads a pipeline: queues, producers, consumers",
        )
    return bool(name)


def _program(root: MapNode) -> str | None:
    services = root.get("services")
    if isinstance(services, MapNode):
        parts = [entry.value for entry in services.entries.values()]
        if any(isinstance(part, MapNode) and part.entries.keys() & {"image", "build"} for part in parts):
            return "a Docker Compose"
    names = root.entries.keys()
    if {"apiVersion", "kind"} <= names:
        return "a Kubernetes"
    if {"on", "jobs"} <= names:
        return "a GitHub workflow"
    if names & {"openapi", "swagger"}:
        return "an OpenAPI"
    return None


def report_key(root: Node, path: Path, key: str, schema: Schema, report: Report) -> None:
    """The one diagnostic for a key that is not known where it stands."""
    parent = at(root, path)
    assert isinstance(parent, MapNode)
    if report.full:
        return
    place = parent.entries[key].key
    near = closest(key, keys(schema, parent))
    elsewhere = [noun for noun in homes(key) if noun != schema.get("title")]
    if elsewhere and not (near and likeness(key, near[0]) >= 0.9):
        _misplaced(path, key, elsewhere, schema, place, report)
    else:
        known = keys(schema, parent)
        hint = _LATER.get(key) or _meant_by(key, known) or did_you_mean(key, known) or _slipped(parent, key, path)
        report.error("unknown-key", place, _no_such_key(path, key, schema), hint)


def _meant_by(key: str, known: Collection[str]) -> str | None:
    """What a key of another system is called here."""
    if "\xa0" in key:
        return "a no-break space stands in it, which is no space to YAML"
    plain_key = key.casefold().replace("-", "").replace("_", "")
    here, hint = _ELSEWHERE.get(plain_key, ("", None))
    return (hint or f'did you mean "{here}"?') if here in known else None


def _slipped(parent: MapNode, key: str, path: Path) -> str | None:
    """Below a section that is empty, the name of what belongs into it."""
    names = list(parent.entries)
    before = names[names.index(key) - 1] if names.index(key) else None
    if path or before not in _SECTIONS or not _is_empty(parent.entries[before].value):
        return None
    return f"indent it, if it belongs to `{before}`"


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.empty


def report_outdented(root: MapNode, report: Report) -> Iterator[Path]:
    """Settings that stand beside their object because their lines are not indented enough: told once for each object.
    Gives the paths of all that are part of that mistake."""
    for section in _SECTIONS:
        node = root.get(section)
        if not isinstance(node, MapNode):
            continue
        known = keys(lookup(section, "any"))
        names = list(node.entries)
        for number, name in enumerate(names):
            found = list(takewhile(partial(_is_setting, node, known), names[number + 1 :]))
            if _is_empty(node.entries[name].value) and found:
                sentence = f'"{found[0]}" stands beside {owner((section, name))} and not in it'
                hint = "indent it further" if len(found) == 1 else "indent these lines further"
                report.error("misplaced-key", node.entries[found[0]].key, sentence, hint)
                yield from ((section, each) for each in [name, *found])


def _is_setting(section: MapNode, known: Collection[str], name: str) -> bool:
    value = section.entries[name].value
    return name in known and not isinstance(value, MapNode) and not _is_empty(value)


def _no_such_key(path: Path, key: str, schema: Schema) -> str:
    if not path:
        return f'no section is called "{key}"'
    return f'{schema["title"]} has no key "{key}"'


def _misplaced(path: Path, key: str, nouns: list[str], schema: Schema, place: Place, report: Report) -> None:
    belongs = either(["the top of the file" if noun == _ROOT else noun for noun in nouns[:4]])
    if not path:
        tail = ", not to the top of the file"
    elif path[0] in _SECTIONS and len(path) == 2:
        tail = f"; {owner(path)} {_ONLY[str(path[0])]}"
    else:
        tail = f", not to {schema['title']}"
    report.error("misplaced-key", place, f'"{key}" belongs to {belongs}{tail}', _way(path, key, schema))


def _way(path: Path, key: str, schema: Schema) -> str | None:
    """Up or down to where the key belongs, if it is on the way."""
    for name, part in schema.get("properties", {}).items():
        if key in keys(resolved(part)):
            return f"write it under `{name}`"
    for levels in range(1, len(path)):
        above = lookup(*(str(step) for step in path[:-levels]))
        if key in keys(above):
            return "one level up" if levels == 1 else f"{levels} levels up"
    return None


def suspects(root: MapNode, section: str) -> bool:
    """Whether a section may be there under a misspelt name, or what belongs into it stands below it without being
    indented, so that nobody should miss what stands in it."""
    names = list(root.entries)
    if section in names and _is_empty(root.entries[section].value):
        below = names[names.index(section) + 1 :]
        return bool(below) and below[0] not in keys(load_schema(), root)
    return misspelt(root, section, load_schema())


def misspelt(node: Node | None, key: str, schema: Schema) -> bool:
    """Whether a key may be there under a misspelt name, so that nobody should miss it."""
    if not isinstance(node, MapNode) or not node.entries or key in node.entries:
        return False
    known = tuple(keys(schema, node))
    return any(name not in known and key in _meant(name, known) for name in node.entries)


@lru_cache(maxsize=10_000)
def _meant(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(closest(name, known))
