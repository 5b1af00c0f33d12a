"""The schema as a book to look things up in: which keys a place has, which types it takes, what the default is.
Finds the file in the repository or in the wheel; validating against it is the business of `validate`."""

import json
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path as FilePath
from typing import Any

from pipeline.config.nodes import MapNode, Node, ScalarNode, Step
from pipeline.problems import likeness

Schema = Mapping[str, Any]

NAME = "pipeline.schema.json"


@cache
def load_schema() -> Schema:
    """The JSON Schema of a pipeline file. In a wheel it lies inside the package, in a clone beside it."""
    package = FilePath(__file__).resolve().parent.parent
    for folder in (package / "schemas", package.parent / "schemas"):
        if (folder / NAME).is_file():
            schema: Schema = json.loads((folder / NAME).read_text(encoding="utf-8"))
            return schema
    raise FileNotFoundError(f"{NAME} is neither in {package} nor beside it; piperun is not installed completely")


def resolved(schema: Schema) -> Schema:
    """A schema with its reference followed; what stands beside the reference wins."""
    if "$ref" not in schema:
        return schema
    target = load_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def branches(schema: Schema, node: Node | None) -> Iterator[Schema]:
    """The schema, and those that it adds for a node of this `type`."""
    whole = resolved(schema)
    yield whole
    for part in whole.get("allOf", ()):
        wanted = part["if"]["properties"]["type"]["const"]
        kind = node.get("type") if isinstance(node, MapNode) else None
        if isinstance(kind, ScalarNode) and kind.value == wanted:
            yield resolved(part["then"])


def child(schema: Schema, step: Step, node: Node | None) -> Schema:
    """What the schema says of one key or item of a node; empty where it says nothing."""
    found: Schema = {}
    for branch in branches(schema, node):
        if isinstance(step, int):
            found = branch.get("items", found)
        elif step in branch.get("properties", {}):
            found = branch["properties"][step]
        elif isinstance(branch.get("additionalProperties"), dict):
            found = branch["additionalProperties"]
    return resolved(found)


@lru_cache(maxsize=1000)
def lookup(*path: str) -> Schema:
    """The schema of a key, by the names of the sections: `lookup("consumers", "*", "prefetch")`."""
    schema = load_schema()
    for step in path:
        schema = child(schema, step, None)
    return schema


def variant(kind: str) -> Schema:
    """A part of the schema by its name in `$defs`."""
    schema: Schema = load_schema()["$defs"][kind]
    return schema


def keys(schema: Schema, node: Node | None = None) -> list[str]:
    """The keys that may stand in a node."""
    return list(dict.fromkeys(key for branch in branches(schema, node) for key in branch.get("properties", {})))


def types(schema: Schema) -> set[str]:
    """The JSON types that a place takes; empty where it takes anything."""
    schema = resolved(schema)
    if "const" in schema:
        return {_type_of(schema["const"])}
    if "enum" in schema:
        return {_type_of(value) for value in schema["enum"]}
    found = schema.get("type", [])
    return {found} if isinstance(found, str) else set(found)


def homes(key: str) -> list[str]:
    """The objects that have such a key, as a sentence calls them: "a consumer", "`runtime`"; also for `camelCase`."""
    found = (nouns for name, nouns in _homes().items() if likeness(name, key) == 1)
    return list(next(found, ()))


@cache
def _homes() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for schema in _objects(load_schema()):
        for key in schema["properties"]:
            nouns = found.setdefault(key, [])
            # `defaults` repeats keys of the objects; a key belongs to the object first of all.
            if schema["title"] not in nouns and "defaults." not in schema["title"]:
                nouns.append(schema["title"])
    return {key: tuple(nouns) for key, nouns in found.items()}


def _objects(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, Mapping):
        if "properties" in schema and "title" in schema:
            yield schema
        for value in schema.values():
            yield from _objects(value)


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    return "string" if isinstance(value, str) else "integer"
