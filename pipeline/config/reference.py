"""The reference page, from the schema to Markdown: every object of a file with its keys, what they take and their
defaults. `python -m pipeline.config.reference` prints it; `docs/reference.md` is that text. Pure, but for the print."""

import json
import re
from collections.abc import Iterator, Mapping

from pipeline.config.schema import Schema, load_schema, resolved

_HEAD = """# Reference: every key of a file

Printed from `schemas/pipeline.schema.json` by `python -m pipeline.config.reference`; do not edit it by hand. How the
parts belong together is in the [tutorial](tutorial.md), what a wrong file is told in [problems](problems/).

A key that is not here is an error. A key without a value (`hello:`) means the same as a key with an empty map.
Top-level keys that begin with `x-` are yours, for YAML anchors.

Durations carry a unit: `500ms`, `5s`, `1m`, `2h`, `7d`. Sizes do, too: `512B`, `64KiB`, `16MiB`. Relative paths are
relative to the folder of the file. Any value may hold `${NAME}` (a variable of the environment), `${NAME:-default}`,
`${NAME:?message}` or `${file:path}` (the content of a file, treated as a secret); `$${` is a plain `${`.
"""
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "`true` or `false`",
    "array": "a list",
    "object": "a map",
}
_NUMBERS = 10**9  # bounds beyond this are the broker's, and of no use to a reader
_PLAIN = re.compile(r"[A-Za-z0-9_./<][A-Za-z0-9_./<> :!-]*")
_NUMBER = re.compile(r"[0-9.]+")


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(schema) for schema in _objects(load_schema(), set()))])


def _objects(schema: Schema, seen: set[str]) -> Iterator[Schema]:
    """Every object that has keys, once each, in the order in which a reader of the file meets them."""
    schema = resolved({"$ref": schema["$ref"]} if "$ref" in schema else schema)  # its own description, not its user's
    if "properties" in schema:
        if schema["title"] in seen:
            return
        seen.add(schema["title"])
        yield schema
    for part in _parts(schema):
        yield from _objects(part, seen)


def _parts(schema: Schema) -> list[Schema]:
    inside = [*schema.get("properties", {}).values(), *(branch["then"] for branch in schema.get("allOf", ()))]
    inside += [schema[key] for key in ("additionalProperties", "items") if isinstance(schema.get(key), dict)]
    # The values of a table nest for ever and have no keys of their own.
    return [part for part in inside if part.get("$ref") != "#/$defs/table_value"]


def _section(schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [_row(key, value, key in required) for key, value in schema["properties"].items()]
    head = ["| Key | Takes | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {_heading(schema)}", "", schema["description"], "", *head, *rows, "", *_kinds(schema)])


def _kinds(schema: Schema) -> list[str]:
    """Where the keys of each `type` stand."""
    kinds = [resolved(branch["then"]) for branch in schema.get("allOf", ())]
    links = [f"[{kind['title']}](#{_anchor(_heading(kind))})" for kind in kinds]
    return [f"The keys of each type: {', '.join(links)}.", ""] if links else []


def _heading(schema: Schema) -> str:
    title: str = schema["title"]
    return title[0].upper() + title[1:]


def _row(key: str, schema: Schema, required: bool) -> str:
    schema = resolved(schema)
    default = "**required**" if required else _default(schema)
    examples = ", ".join(f"`{_flow(example)}`" for example in schema.get("examples", ()))
    meaning = " ".join([schema["description"], *([f"For example {examples}."] if examples else [])])
    return f"| `{key}` | {_cell(_takes(schema))} | {_cell(default)} | {_cell(meaning)} |"


def _takes(schema: Schema) -> str:
    if "const" in schema:
        return f"`{_flow(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_flow(value)}`" for value in schema["enum"] if value is not None)
    if "properties" in schema:
        also = "text, or " if "string" in schema["type"] else ""
        return f"{also}[{schema['title']}](#{_anchor(_heading(schema))})"
    inside = resolved(schema.get("additionalProperties") or schema.get("items") or {})
    if "properties" in inside:
        many = "names, each with" if "additionalProperties" in schema else "a list, each item"
        return f"{many} [{inside['title']}](#{_anchor(_heading(inside))})"
    return schema.get("title") or _of_types(schema)


def _of_types(schema: Schema) -> str:
    written = schema.get("type", [])
    types = [written] if isinstance(written, str) else written
    named = [_TYPES[name] for name in types if name != "null"]
    return " or ".join(named) + _bounds(schema) if named else "any value"


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None:
        return ""
    return f", {least} to {most}" if most is not None and most < _NUMBERS else f", {least} or more"


def _default(schema: Schema) -> str:
    value = schema.get("default")
    return "none" if value in (None, {}, []) else f"`{_flow(value)}`"


def _flow(value: object) -> str:
    """As YAML in one line."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str() if _PLAIN.fullmatch(value) and not _NUMBER.fullmatch(value) and ": " not in value:
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    print(page(), end="")
