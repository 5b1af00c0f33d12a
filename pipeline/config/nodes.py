"""A file's values as a tree in which every key and value knows its place. Knows nothing of YAML or of what keys mean.
A node may be shared between several places of the tree (an alias), so nothing here is changed after reading."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.model import Scalar as ScalarValue
from pipeline.problems import Place
from pipeline.values import Frozen


class Broken:
    """Stands for a value that has been reported already; whoever meets it says nothing more."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN = Broken()


class ScalarNode(Frozen, frozen=True, kw_only=True):
    """`value` is what YAML makes of it; `text` what it says; `source` what stands in the file before `${...}`."""

    place: Place
    value: ScalarValue | Broken
    text: str
    source: str
    start: int = 0  # where in the file's text it begins and ends
    end: int = 0
    size: int = 1

    @property
    def empty(self) -> bool:
        """Nothing stands after the colon; then a caret belongs under the key."""
        return self.value is None and not self.source


class ListNode(Frozen, frozen=True, kw_only=True):
    place: Place
    items: Sequence["Node"]
    size: int


class Entry(Frozen, frozen=True, kw_only=True):
    key: Place
    value: "Node"


class MapNode(Frozen, frozen=True, kw_only=True):
    place: Place
    entries: Mapping[str, Entry]
    size: int

    def get(self, key: str) -> "Node | None":
        entry = self.entries.get(key)
        return entry.value if entry else None


Node = ScalarNode | ListNode | MapNode
Step = str | int
Path = tuple[Step, ...]

# What stands at a path that is not there, or that was reported already.
Plain = ScalarValue | Broken | list["Plain"] | dict[str, "Plain"]


def plain(node: Node) -> Plain:
    """The bare values of a tree."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key: plain(entry.value) for key, entry in node.entries.items()}


def at(root: Node, path: Path) -> Node | None:
    """The node at a path."""
    node: Node | None = root
    for step in path:
        match node:
            case MapNode() if isinstance(step, str):
                node = node.get(step)
            case ListNode() if isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            case _:
                return None
    return node


def key_place(root: Node, path: Path) -> Place:
    """Where the name of the thing at a path stands: its key, or the item itself in a list."""
    parent = at(root, path[:-1]) if path else None
    if path and isinstance(parent, MapNode) and isinstance(path[-1], str) and path[-1] in parent.entries:
        return parent.entries[path[-1]].key
    node = at(root, path)
    return node.place if node else root.place


def value_place(root: Node, path: Path) -> Place:
    """Where the value at a path stands. Lists, maps and values that are left empty stand where their name does."""
    node = at(root, path)
    if isinstance(node, ScalarNode) and not node.empty:
        return node.place
    return key_place(root, path)


def objects(root: Node, section: str) -> Iterator[tuple[str, Entry]]:
    """The named objects of a section: queues, consumers..."""
    node = root.get(section) if isinstance(root, MapNode) else None
    if isinstance(node, MapNode):
        yield from node.entries.items()
