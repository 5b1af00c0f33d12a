"""Keys that the schema does not know: misspelt, in the wrong place, of a later version, or of another program's file.
Looks a key up in the whole schema before calling it unknown."""

from functools import lru_cache

from pipeline.config.nodes import MapNode, Node, Path, at
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
    "retry": "delayed retry comes in a later version; until then a failure is dead-lettered at once",
    "crash_limit": "it comes in a later version",
    "brokers": "several brokers come in a later version",
    "tests": "tests come in a later version",
    "http": "health pages and metrics come in a later version",
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
        hint = _LATER.get(key) or did_you_mean(key, keys(schema, parent))
        report.error("unknown-key", place, _no_such_key(path, key, schema), hint)


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
    """Whether a section may be there under a misspelt name, so that nobody should miss what stands in it."""
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
