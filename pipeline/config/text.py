"""YAML to a tree of values with places: YAML 1.2 scalars, repeated keys, merges, and budgets checked while reading.
The only file that knows PyYAML; what keys mean, and what `${...}` stands for, is decided later."""

import re
from collections.abc import Iterator

import yaml

from pipeline.config.document import Document
from pipeline.config.model import Scalar
from pipeline.config.nodes import BROKEN, Entry, ListNode, MapNode, Node, ScalarNode, Step
from pipeline.config.owner import owner
from pipeline.config.report import Report
from pipeline.config.syntax import Fault, explain
from pipeline.problems import Place

MOST_BYTES = 1024 * 1024
MOST_LEVELS = 50
MOST_NODES = 100_000

# Numbers are plain decimals; digits are bounded so that every number fits what a broker can hold.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,18})\.[0-9]{1,30}")
_TAG = re.compile(r"!\S*")
_ANCHOR = re.compile(r"&\S+\s*")

# PyYAML ends lines at these characters, YAML 1.2 does not: they are exchanged while it reads.
_AWAY = str.maketrans({"\x85": "\U0010ff85", "\u2028": "\U0010ff28", "\u2029": "\U0010ff29"})
_BACK = str.maketrans({"\U0010ff85": "\x85", "\U0010ff28": "\u2028", "\U0010ff29": "\u2029"})


class _Stop(Exception):
    """The file cannot be read any further; the reason has been reported."""


def read(document: Document, report: Report) -> MapNode | None:
    """The tree of a file, or None where it is no YAML or no map; everything wrong with it is in the report."""
    try:
        _check_size(document, report)
        root = _Composer(document, report).compose()
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        _explain(error, document, report)
        return None
    except yaml.reader.ReaderError as error:
        place = document.place(error.position)
        report.error("not-text", place, "this character is not allowed in YAML", "remove it, or write it as an escape")
        return None
    return _map(root, document, report)


def scalar(text: str) -> Scalar:
    """What a plain scalar means in YAML 1.2."""
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "~", "null"):
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def _check_size(document: Document, report: Report) -> None:
    if len(document.text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        report.error(
            "too-large",
            document.beginning,
            "the file is larger than 1 MiB (the limit stops it from filling the memory)",
        )
        raise _Stop


def _map(root: Node | None, document: Document, report: Report) -> MapNode | None:
    if root is None or (isinstance(root, ScalarNode) and root.value is None):
        report.error(
            "empty-file",
            document.beginning,
            "the file is empty; a pipeline has at least one queue, exchange, producer or consumer",
            "queues: {hello: {}}",
        )
        return None
    if isinstance(root, MapNode):
        return root if root.entries or report.has_errors else _map(None, document, report)
    if report.has_errors:
        return None
    this = "a list" if isinstance(root, ListNode) else "a single value"
    report.error(
        "wrong-shape",
        root.place,
        f"a pipeline file maps section names to their content; this is {this}",
        "queues: {hello: {}}",
    )
    return None


class _Composer:
    """Builds the tree from PyYAML's events; its own composer would recurse without a limit."""

    def __init__(self, document: Document, report: Report) -> None:
        self.document = document
        self.report = report
        self.events: Iterator[yaml.Event] = yaml.parse(document.text.translate(_AWAY), Loader=yaml.SafeLoader)
        self.anchors: dict[str, Node | None] = {}  # None while the anchored node is still being read
        self.path: list[Step] = []
        self.count = 0

    def compose(self) -> Node | None:
        next(self.events)  # the start of the stream
        if not isinstance(next(self.events), yaml.DocumentStartEvent):
            return None
        root = self.node(next(self.events), 1)
        next(self.events)  # the end of the document
        after = next(self.events)
        if isinstance(after, yaml.DocumentStartEvent):
            self.report.error(
                "several-documents",
                self.document.place(*_span(after)),
                "a second document begins here; a file holds one pipeline",
                "put it in a file of its own",
            )
            raise _Stop
        return root

    def node(self, event: yaml.Event, level: int) -> Node:
        if level > MOST_LEVELS:
            self._too_large(
                event, f"the file nests deeper than {MOST_LEVELS} levels (the limit stops it from never ending)"
            )
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, yaml.NodeEvent)
        self._count(1, event)
        if event.anchor:
            self.anchors[event.anchor] = None
        node = self._tagged(event, self._build(event, level))
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _build(self, event: yaml.Event, level: int) -> Node:
        match event:
            case yaml.SequenceStartEvent():
                return self._list(event, level)
            case yaml.MappingStartEvent():
                return self._mapping(event, level)
            case _:
                assert isinstance(event, yaml.ScalarEvent)
                return self._scalar(event)

    def _scalar(self, event: yaml.ScalarEvent) -> ScalarNode:
        start, end = self._start(event), _span(event)[1]
        text = event.value.translate(_BACK)
        return ScalarNode(
            place=self.document.place(start, end),
            value=text if event.style else scalar(text),
            text=text,
            source=self.document.text[start:end],
            start=start,
            end=end,
        )

    def _list(self, event: yaml.SequenceStartEvent, level: int) -> ListNode:
        items: list[Node] = []
        while not isinstance(event_inside := next(self.events), yaml.SequenceEndEvent):
            self.path.append(len(items))
            items.append(self.node(event_inside, level + 1))
            self.path.pop()
        return ListNode(place=self._place(event), items=items, size=1 + sum(item.size for item in items))

    def _mapping(self, event: yaml.MappingStartEvent, level: int) -> Node:
        entries: dict[str, Entry] = {}
        merged: list[MapNode] = []
        whole = True
        while not isinstance(key_event := next(self.events), yaml.MappingEndEvent):
            key = self.node(key_event, level + 1)
            self.path.append(key.text if isinstance(key, ScalarNode) else "?")
            value = self.node(next(self.events), level + 1)
            self.path.pop()
            if isinstance(key, ScalarNode) and key.source == "<<":
                merged += self._to_merge(key, value, key_event)
            else:
                whole = self._enter(entries, key, value) and whole
        if not whole:
            return self._broken(self._place(event))
        for other in merged:
            for name, entry in other.entries.items():
                entries.setdefault(name, entry)
        size = 1 + sum(1 + entry.value.size for entry in entries.values())
        return MapNode(place=self._place(event), entries=entries, size=size)

    def _enter(self, entries: dict[str, Entry], key: Node, value: Node) -> bool:
        """Put one pair into a map; False where its key is none."""
        if not isinstance(key, ScalarNode):
            this = "a list" if isinstance(key, ListNode) else "a map"
            self.report.error("bad-yaml", key.place, f"a key is a text; this is {this}", _braces(key, self.document))
            return False
        if key.text in entries:
            self.report.error(
                "duplicate-key",
                key.place,
                f'"{key.text}" stands twice in {owner(tuple(self.path))}, first at {_where(entries[key.text].key)}; '
                "YAML would silently keep the last",
                "keep one",
                entries[key.text].key,
            )
        else:
            entries[key.text] = Entry(key=key.place, value=value)
        return True

    def _to_merge(self, key: ScalarNode, value: Node, event: yaml.Event) -> list[MapNode]:
        candidates = list(value.items) if isinstance(value, ListNode) else [value]
        maps = [candidate for candidate in candidates if isinstance(candidate, MapNode)]
        for candidate in candidates:
            if not isinstance(candidate, MapNode) and getattr(candidate, "value", None) is not BROKEN:
                self.report.error(
                    "wrong-shape", key.place, '"<<" takes over the keys of a map; this is none', "<<: *anchor"
                )
        self._count(sum(candidate.size for candidate in maps), event)
        return maps

    def _alias(self, event: yaml.AliasEvent) -> Node:
        name = event.anchor or ""
        node = self.anchors.get(name)
        if node is not None:
            self._count(node.size, event)
            return node
        place = self.document.place(*_span(event))
        if name in self.anchors:
            self.report.error("recursive-alias", place, f'alias "*{name}" stands inside its own anchor "&{name}"')
        else:
            hint = self.report.did_you_mean(f"*{name}", (f"*{anchor}" for anchor in self.anchors))
            hint = hint or f'for a text that begins with an asterisk, put it in quotes: "*{name}"'
            self.report.error("unknown-alias", place, f'no anchor "{name}" stands above this line', hint)
        return self._broken(place)

    def _tagged(self, event: yaml.NodeEvent, node: Node) -> Node:
        tag = getattr(event, "tag", None)
        if tag is None:
            return node
        found = _TAG.search(self.document.text, _span(event)[0])
        place = self.document.place(*found.span()) if found else node.place
        if tag == "!" or not found:
            return node  # the non-specific tag only says that a scalar is a text
        self.report.error(
            "unknown-tag",
            place,
            f'tags such as "{found[0]}" are not allowed',
            "for values from outside use ${NAME} or ${file:...}",
        )
        return self._broken(node.place)

    def _broken(self, place: Place) -> ScalarNode:
        return ScalarNode(place=place, value=BROKEN, text="", source="*")

    def _place(self, event: yaml.Event) -> Place:
        return self.document.place(self._start(event))

    def _start(self, event: yaml.Event) -> int:
        """Where the value itself begins, behind its anchor."""
        start = _span(event)[0]
        if getattr(event, "anchor", None) and (anchor := _ANCHOR.match(self.document.text, start)):
            return anchor.end()
        return start

    def _count(self, more: int, event: yaml.Event) -> None:
        self.count += more
        if self.count > MOST_NODES:
            self._too_large(
                event,
                f"the file grows past {MOST_NODES:,} nodes when its aliases are expanded "
                "(the limit stops it from filling the memory)",
            )

    def _too_large(self, event: yaml.Event, sentence: str) -> None:
        self.report.error("too-large", self.document.place(*_span(event)), sentence)
        raise _Stop


def _span(event: yaml.Event) -> tuple[int, int]:
    assert event.start_mark is not None and event.end_mark is not None  # set for every event that comes from a text
    return event.start_mark.index, event.end_mark.index


def _where(place: Place) -> str:
    return f"{place.line}:{place.column}"


def _braces(key: Node, document: Document) -> str | None:
    """`{{NAME}}`, as templates write it, is a map as a key."""
    line = document.line(key.place.line)
    return "for values from outside use ${NAME} in quotes" if "{{" in line else None


def _explain(error: yaml.MarkedYAMLError, document: Document, report: Report) -> None:
    fault = Fault(
        text=document.text,
        context=error.context or "",
        opened=error.context_mark.index if error.context_mark else None,
        problem=error.problem or "",
        index=error.problem_mark.index if error.problem_mark else 0,
    )
    diagnosis = explain(fault)
    report.error(diagnosis.word, document.place(diagnosis.start, diagnosis.end), diagnosis.sentence, diagnosis.hint)
