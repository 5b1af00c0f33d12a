"""What a key is set to: on the object itself, else in `defaults`, else in the schema. Only this file knows that order.
Works on trees with mistakes in them too, so the checks can go on with what is still understood."""

from collections.abc import Iterator

from pipeline.config.nodes import BROKEN, Entry, MapNode, Node, Path, Plain, at, objects, plain
from pipeline.config.schema import Schema, branches, lookup
from pipeline.config.unknown import misspelt

_SHARED = "declare"  # the one key that `defaults` has for all kinds of objects together


class Settings:
    """Reads one file's tree."""

    def __init__(self, root: MapNode) -> None:
        self.root = root

    def objects(self, section: str) -> Iterator[tuple[str, Entry]]:
        yield from objects(self.root, section)

    def node(self, section: str, name: str, key: str) -> Node | None:
        """The node that sets the key, or None where only the schema does."""
        for path in self._places(section, name, key):
            node: Node | None = self.root
            for step in path:
                node = node.get(step) if isinstance(node, MapNode) else None
            if node is not None:
                return node
        return None

    def value(self, section: str, name: str, key: str) -> Plain:
        """The value, `BROKEN` where nobody can know it: reported already, or perhaps there under a misspelt name."""
        node = self.node(section, name, key)
        if node is not None:
            return plain(node)
        if misspelt(at(self.root, (section, name)), key, lookup(section, "*")):
            return BROKEN
        return default(lookup(section, "*", key))

    def text(self, section: str, name: str, key: str) -> str | None:
        """The value where it is a text."""
        value = self.value(section, name, key)
        return value if isinstance(value, str) else None

    def written(self, section: str, name: str, key: str) -> Path | None:
        """Where the object itself says so, not its defaults."""
        node = at(self.root, (section, name))
        return (section, name, key) if isinstance(node, MapNode) and key in node.entries else None

    def broker_name(self, section: str, key: str) -> str:
        """What the queue or exchange of this key is called on the broker."""
        return self.text(section, key, "name") or key

    def _places(self, section: str, name: str, key: str) -> list[tuple[str, ...]]:
        places: list[tuple[str, ...]] = [(section, name, key), ("defaults", section, key)]
        return [*places, ("defaults", key)] if key == _SHARED else places


def default(schema: Schema) -> Plain:
    """The schema's default for a key; None where it has none."""
    value: Plain = schema.get("default")
    return value


def filled(schema: Schema, node: Node | None) -> dict[str, Plain]:
    """All keys of an object with their values, left-out ones with the schema's default."""
    written = plain(node) if isinstance(node, MapNode) else {}
    assert isinstance(written, dict)
    properties = {key: part for branch in branches(schema, node) for key, part in branch.get("properties", {}).items()}
    return {key: written.get(key, default(part)) for key, part in properties.items()}
