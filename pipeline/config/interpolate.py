"""`${...}` in its four forms, after parsing and inside one value, so that it can never add structure to a file.
Says which values are secret. Of the schema it asks one thing: which types a place takes."""

import re
from collections.abc import Mapping
from pathlib import Path as FilePath

from pipeline.config.document import Document
from pipeline.config.model import Scalar
from pipeline.config.nodes import BROKEN, Entry, ListNode, MapNode, Node, ScalarNode
from pipeline.config.report import Report
from pipeline.config.schema import Schema, child, load_schema, types
from pipeline.config.text import scalar
from pipeline.problems import Place
from pipeline.secret import Secret
from pipeline.values import Frozen, replace

MOST_BYTES = 64 * 1024  # of a file that a value comes from

_OPENING = re.compile(r"\$\$\{|\$\{")
_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::([-?])(.*))?", re.DOTALL)
_FORMS = "`${NAME}`, `${NAME:-default}`, `${NAME:?message}` or `${file:path}`"


class _Unknown(Exception):
    """A value cannot be found; the reason has been reported."""


def interpolate(root: MapNode, document: Document, environment: Mapping[str, str], report: Report) -> MapNode:
    """The tree with every `${...}` replaced. Sections of the user's own (`x-...`) are left alone."""
    reader = _Reader(document=document, environment=environment, report=report)
    schema = load_schema()
    entries = {
        key: entry if key.startswith("x-") else reader.entry(key, entry, child(schema, key, root))
        for key, entry in root.entries.items()
    }
    return replace(root, entries=entries)


class _Reader(Frozen, frozen=True, kw_only=True):
    document: Document
    environment: Mapping[str, str]
    report: Report

    def entry(self, key: str, entry: Entry, schema: Schema) -> Entry:
        if "${" in key:
            self.report.error(
                "bad-interpolation",
                entry.key,
                f'`${{...}}` is not replaced in a name such as "{key}"',
                "an object of another name on the broker: name: ${NAME}",
            )
        return replace(entry, value=self.node(entry.value, schema))

    def node(self, node: Node, schema: Schema) -> Node:
        match node:
            case ScalarNode():
                return self.scalar(node, schema) if "${" in node.text else node
            case ListNode():
                items = [self.node(item, child(schema, place, node)) for place, item in enumerate(node.items)]
                return replace(node, items=items)
            case MapNode():
                entries = {key: self.entry(key, entry, child(schema, key, node)) for key, entry in node.entries.items()}
                return replace(node, entries=entries)

    def scalar(self, node: ScalarNode, schema: Schema) -> ScalarNode:
        try:
            text, whole = self.replaced(node)
        except _Unknown:
            return replace(node, value=BROKEN)
        value = _wanted(text, schema) if whole else text
        return replace(node, value=value, text=text)

    def replaced(self, node: ScalarNode) -> tuple[str, bool]:
        """The text, and whether it is one `${...}` from end to end."""
        parts: list[str] = []
        text, position, found_at, whole, unknown = node.text, 0, 0, False, False
        while opening := _OPENING.search(text, position):
            parts.append(text[position : opening.start()])
            position = opening.end()
            if opening[0] == "$${":
                parts.append("${")
                continue
            end = text.find("}", position)
            written = text[opening.start() : end + 1] if end >= 0 else "${"
            place, found_at = self.place(node, written, found_at)
            try:
                parts.append(self.value(text[position:end], written, place) if end >= 0 else self.unclosed(place))
            except _Unknown:
                unknown = True
            whole = written == text
            position = end + 1 if end >= 0 else len(text)
        if unknown:
            raise _Unknown
        return "".join(parts) + text[position:], whole

    def value(self, inner: str, written: str, place: Place) -> str:
        if inner.startswith("file:"):
            return self.from_file(inner.removeprefix("file:").strip(), place)
        named = _NAMED.fullmatch(inner)
        if not named or "${" in inner:
            hint = 'for a plain "${" write "$${"' if "${" not in inner else "one `${...}` cannot hold another"
            self.report.error("bad-interpolation", place, f"`{written}` is none of the forms {_FORMS}", hint)
            raise _Unknown
        return self.from_environment(named[1], named[2], named[3], place)

    def unclosed(self, place: Place) -> str:
        self.report.error("bad-interpolation", place, '"${" is never closed', 'for a plain "${" write "$${"')
        raise _Unknown

    def from_environment(self, name: str, form: str | None, rest: str, place: Place) -> str:
        value = self.environment.get(name)
        if value is not None and (value or form is None):
            return self.decodable(name, value, place)
        if form == "-":
            return rest
        near = self.report.did_you_mean(name, self.environment)
        if form == "?":
            self.report.error("unset-variable", place, f'variable "{name}" is not set: {rest}', near)
        else:
            hint = near or f"set it; `${{{name}:?...}}` makes this message yours"
            self.report.error("unset-variable", place, f'variable "{name}" is not set', hint)
        raise _Unknown

    def decodable(self, name: str, value: str, place: Place) -> str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.report.error("not-text", place, f'the value of variable "{name}" is no UTF-8 text')
            raise _Unknown from None
        return value

    def from_file(self, path: str, place: Place) -> str:
        value = self.content(path, place)
        # Editors and `echo` end a file with a line end that is no part of the secret.
        value = value.removesuffix("\n").removesuffix("\r")
        self.report.learn([Secret(value)])
        return value

    def content(self, path: str, place: Place) -> str:
        try:
            with (self.document.folder / FilePath(path).expanduser()).open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                self.report.error("too-large", place, f'"{path}" is larger than 64 KiB, too large for one value')
                raise _Unknown
            return content.decode("utf-8")
        except UnicodeDecodeError:
            self.report.error("not-text", place, f'"{path}" is no UTF-8 text')
        except (OSError, ValueError, RuntimeError) as error:
            self.report.error("unreadable-file", place, f'cannot read "{path}": {why(error)}')
        raise _Unknown

    def place(self, node: ScalarNode, written: str, after: int) -> tuple[Place, int]:
        """Where this `${...}` stands; escapes and folded lines can hide it, then it is the value's place."""
        index = node.source.find(written, after)
        if index < 0:
            return node.place, after
        start = node.start + index
        return self.document.place(start, start + len(written)), index + len(written)


def why(error: Exception) -> str:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(getattr(error, "strerror", None) or error).lower()


def _wanted(text: str, schema: Schema) -> Scalar:
    """A text as what the place wants. A place that takes a text as well as a number keeps the text, unless it is a word
    such as `auto` that alone may stand there."""
    wanted, value = types(schema), scalar(text)
    if isinstance(value, bool):
        return value if "boolean" in wanted and "number" not in wanted else text
    keeps = "string" in wanted and re.search(schema.get("pattern", ""), text)
    if isinstance(value, int | float) and not keeps:
        return value if wanted & {"integer", "number"} else text
    return text
