"""The schema's answers as problems of our own: a word, a place, a sentence, a way out. Nothing else knows jsonschema.
All of them at once; what a schema cannot say (names that must be declared, ...) comes later, in `references`."""

from collections.abc import Iterator
from functools import cache

from jsonschema import Draft202012Validator

from pipeline.config import unknown
from pipeline.config.mistake import Rejection, lacking, tell
from pipeline.config.nodes import BROKEN, MapNode, Node, Path, Plain, at, key_place, plain
from pipeline.config.report import Report
from pipeline.config.schema import Schema, keys, load_schema, resolved
from pipeline.problems import likeness

Stranger = tuple[Path, str, Schema]  # where, which key, and the schema that does not know it


def validate(root: MapNode, report: Report) -> None:
    """Everything in the tree that the schema does not allow."""
    if unknown.foreign(root, report):
        return
    beside = set(unknown.report_outdented(root, report))
    errors = [error for error in _errors(plain(root)) if error.path[:2] not in beside and not _broken(root, error.path)]
    strangers = list(_strangers(errors))
    for path, key, schema in strangers:
        unknown.report_key(root, path, key, schema, report)
    _missing_keys(root, errors, strangers, report)
    told: set[Path] = set()
    for error in errors:
        if error.rule not in ("additionalProperties", "required") and error.path not in told:
            told.add(error.path)
            tell(root, error, report)


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(dict(load_schema()))


def _errors(value: Plain) -> Iterator[Rejection]:
    for error in _validator().iter_errors(value):
        assert isinstance(error.schema, dict)
        yield Rejection(
            path=tuple(error.absolute_path), rule=str(error.validator), value=error.instance, schema=error.schema
        )


def _broken(root: Node, path: Path) -> bool:
    return any(getattr(at(root, path[:end]), "value", None) is BROKEN for end in range(1, len(path) + 1))


def _strangers(errors: list[Rejection]) -> Iterator[Stranger]:
    """Keys that no schema knows: where, which, and what is known there."""
    for error in errors:
        if error.rule == "additionalProperties":
            for key in error.value:
                own = key.startswith("x-") and "patternProperties" in error.schema
                if key not in error.schema["properties"] and not own:
                    yield error.path, key, error.schema


def _missing_keys(root: Node, errors: list[Rejection], strangers: list[Stranger], report: Report) -> None:
    for path, absent in _missing(errors, strangers).items():
        report.error("missing-key", key_place(root, path), lacking(path, absent))


def _missing(errors: list[Rejection], strangers: list[Stranger]) -> dict[Path, list[str]]:
    """What was misspelt there, or stands in the wrong place elsewhere, has been told already and is not missing."""
    here: dict[Path, list[str]] = {}
    for path, key, _ in strangers:
        here.setdefault(path, []).append(key)
    everywhere = {key for _, key, _ in strangers}
    missing: dict[Path, list[str]] = {}
    for error in errors:
        if error.rule == "required":
            known = [*missing.get(error.path, []), *error.value]
            others = here.get(error.path, [])
            told = [
                key
                for key in error.schema["required"]
                if key in everywhere or _near(key, others) or _holds(error.schema["properties"][key], others)
            ]
            absent = [key for key in error.schema["required"] if key not in known and key not in told]
            if absent:
                missing.setdefault(error.path, []).extend(absent)
    return missing


def _holds(schema: Schema, others: list[str]) -> bool:
    """Whether one of the others was told to be written under this key."""
    inside = keys(resolved(schema))
    return any(other in inside for other in others)


def _near(key: str, others: list[str]) -> bool:
    return any(likeness(other, key) >= 0.7 for other in others)
