"""Scenarios as they stand in `scenarios/*.yaml`, read into values and checked: names of methods and their fields,
words of the player. The format is described in README.md; playing is the player's business."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from tests.conformance import wire
from tests.conformance.tables import KINDS, Fields, Typed

Version = Literal["3.10", "4.3"]
VERSIONS: tuple[Version, ...] = get_args(Version)

HERE = Path(__file__).parent
FOLDER = HERE / "scenarios"

# What the player does by itself, beside sending methods; see README.md.
VERBS = {"wait", "ready", "gone", "cut", "frame"}
# Beside the fields of a method.
OPTIONS = {"as", "sync"}
CONTENT = {"properties", "body", "size", "content"}

_BEFORE = re.compile(r"(?P<times>\d+)x|(?P<connection>c\d+)|ch(?P<channel>\d+)")


class ScenarioError(Exception):
    """A scenario that cannot be played: where, what, and a way out."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a scenario. `text` is the line itself, for people."""

    text: str
    connection: str
    channel: int
    verb: str
    fields: Fields
    times: int


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`area` is the name of its file, `name` is its own; `versions` are those that it is played for."""

    area: str
    name: str
    why: str
    versions: tuple[Version, ...]
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        return f"{self.area}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Area:
    """One file of scenarios."""

    name: str
    title: str
    scenarios: tuple[Scenario, ...]


def area_names() -> list[str]:
    """In the order of the alphabet."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_all() -> list[Area]:
    return [load_area(name) for name in area_names()]


def load_area(name: str) -> Area:
    return load(name, (FOLDER / f"{name}.yaml").read_text())


def load(area: str, text: str) -> Area:
    """One file. Raises ScenarioError."""
    try:
        tree = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{area}: {error}") from error
    scenarios = [_scenario(area, name, value) for name, value in tree["scenarios"].items()]
    return Area(name=area, title=tree["title"], scenarios=tuple(scenarios))


def _scenario(area: str, name: str, value: dict[str, Any]) -> Scenario:
    where = f"{area}/{name}"
    if unknown := value.keys() - {"why", "steps", "only"}:
        raise ScenarioError(f"{where}: a scenario has why, steps and only, not {', '.join(sorted(unknown))}")
    if not value.get("why") or not value.get("steps"):
        raise ScenarioError(f"{where}: why and steps are needed")
    only = value.get("only")
    if only not in (None, *VERSIONS):
        raise ScenarioError(f'{where}: only is "3.10" or "4.3", in quotes, not {only!r}')
    steps = tuple(_step(f"{where}, step {n}", each) for n, each in enumerate(value["steps"], 1))
    return Scenario(area=area, name=name, why=value["why"], versions=(only,) if only else VERSIONS, steps=steps)


def _step(where: str, value: str | dict[str, Any]) -> Step:
    words, fields = (value, {}) if isinstance(value, str) else next(iter(value.items()))
    if not isinstance(value, str) and len(value) != 1:
        raise ScenarioError(f"{where}: one method with its fields in braces, not {value}")
    *before, verb = words.split()
    found: dict[str, str] = {}
    for word in before:
        match = _BEFORE.fullmatch(word)
        if match is None:
            raise ScenarioError(f"{where}: {words!r} is not of the form `3x c1 ch1 basic.publish`")
        found |= {key: value for key, value in match.groupdict().items() if value}
    _check(where, verb, fields or {})
    return Step(
        text=f"{words}: {_plain(fields)}" if fields else words,
        connection=found.get("connection", "c1"),
        channel=0 if verb.startswith("connection.") else int(found.get("channel", 1)),
        verb=verb,
        fields=cast(Fields, fields or {}),
        times=int(found.get("times", 1)),
    )


def _check(where: str, verb: str, fields: Mapping[str, Any]) -> None:
    if verb == "frame" and not (isinstance(fields.get("type"), int) and isinstance(fields.get("payload", ""), str)):
        raise ScenarioError(f"{where}: a frame has a type and a payload in hex, quoted where it looks like a number")
    if verb in VERBS:
        return
    if verb not in wire.METHODS:
        raise ScenarioError(f"{where}: there is no {verb!r}{_like(verb, [*wire.METHODS, *VERBS])}")
    known = {*wire.fields_of(wire.METHODS[verb]), *OPTIONS} | (CONTENT if verb == "basic.publish" else set())
    for field in fields:
        if field not in known:
            raise ScenarioError(f"{where}: {verb} has no field {field!r}{_like(field, known)}")
    for name in cast(Mapping[str, Any], fields.get("properties", {})) if verb == "basic.publish" else {}:
        if name not in wire.PROPERTIES:
            raise ScenarioError(f"{where}: there is no property {name!r}{_like(name, wire.PROPERTIES)}")


def _like(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(each) for each in value) + "]"
    if isinstance(value, Typed):
        return f"!{value.kind} {_plain(value.value)}"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


# YAML


def _resolvers() -> Iterator[tuple[str, list[Any]]]:
    """Without those that make `on` and `no` truth, and dates out of strings."""
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items():
        left = [(tag, pattern) for tag, pattern in found if not tag.endswith((":bool", ":timestamp"))]
        if first in "tf":
            left.append(("tag:yaml.org,2002:bool", re.compile("true|false")))
        yield first, left


class _Loader(yaml.CSafeLoader):
    """Typed values by tag, `!byte 5`; keys that stand twice are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} stands twice", node.start_mark)
        return super().construct_mapping(node, deep=True)


def _typed(kind: str, loader: _Loader, node: yaml.Node) -> Typed:
    if isinstance(node, yaml.SequenceNode):
        return Typed(kind=kind, value=loader.construct_sequence(node))
    assert isinstance(node, yaml.ScalarNode)
    text = str(node.value)
    if kind == "binary":
        return Typed(kind=kind, value=text)
    return Typed(kind=kind, value=float(text) if kind in ("float", "double") else int(text))


_Loader.yaml_implicit_resolvers = dict(_resolvers())
for _kind in KINDS:
    _Loader.add_constructor(f"!{_kind}", partial(_typed, _kind))
