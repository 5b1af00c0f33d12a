"""The schema is strict and explains itself, and the model follows it in both directions."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct, structs

from pipeline.config import model
from pipeline.config.arguments import FIRST_CLASS
from pipeline.config.schema import homes, keys, load_schema, lookup, resolved, types, variant


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "if" not in path:
            yield path, schema
        for name, part in schema.items():
            if name != "if":
                yield from objects(part, f"{path}/{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from objects(part, f"{path}/{number}")


OBJECTS = dict(objects(load_schema()))
KEYS = [
    pytest.param(schema, key, id=f"{path}/{key}") for path, schema in OBJECTS.items() for key in schema["properties"]
]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(dict(load_schema()))


@pytest.mark.parametrize("path", OBJECTS)
def test_every_object_is_strict_and_has_a_name(path: str) -> None:
    # `source` adds its keys by type, and each of the types is strict.
    assert OBJECTS[path].get("additionalProperties") is not None or path == "/$defs/source"
    assert OBJECTS[path]["title"]


@pytest.mark.parametrize(("schema", "key"), KEYS)
def test_every_key_has_a_description_an_example_and_a_default(schema: dict[str, Any], key: str) -> None:
    part = resolved(schema["properties"][key])
    assert part["description"].endswith(".")
    assert part["examples"]
    has_default = "default" in part or key in schema.get("required", ())
    optional = key in ("publish", "idempotency")  # an object that is there or not; a default would be an empty target
    assert has_default or optional


@pytest.mark.parametrize(("schema", "key"), KEYS)
def test_defaults_and_examples_are_legal(schema: dict[str, Any], key: str) -> None:
    part = schema["properties"][key]
    whole = dict(part) | {"$defs": load_schema()["$defs"]}
    shown = [*part.get("examples", []), *([part["default"]] if part.get("default") is not None else [])]
    # What an example leaves to a variable is not known to the schema.
    texts = [example for example in shown if "${" not in str(example)]
    assert [error.message for example in texts for error in Draft202012Validator(whole).iter_errors(example)] == []


def fields(kind: type[Struct]) -> set[str]:
    return {field.name for field in structs.fields(kind)}


FIRST_CLASS_KEYS = set(FIRST_CLASS)

# Kind of the model, keys of the schema, keys that the model has under another name, fields that no key stands for.
PAIRS: list[tuple[type[Any], set[str], set[str], set[str]]] = [
    (model.Exchange, set(keys(variant("exchange"))), set(), {"key"}),
    (model.Queue, set(keys(variant("queue"))), FIRST_CLASS_KEYS, {"key"}),
    (model.Binding, set(keys(variant("binding"))), set(), set()),
    (model.Publish, set(keys(variant("publish"))), {"queue"}, set()),
    (model.Producer, set(keys(variant("producer"))), set(), {"name"}),
    (model.Consumer, set(keys(variant("consumer"))), set(), {"name"}),
    (
        model.Retry,
        set(keys(variant("retry"))),
        {"initial", "factor", "max", "attempts", "except"},
        {"excluded"},
    ),
    (model.Idempotency, set(keys(variant("idempotency"))), set(), set()),
    (model.IntervalSource, set(keys(variant("interval_source"))), {"type"}, set()),
    (model.FileSource, set(keys(variant("file_source"))), {"type"}, set()),
    (model.StdinSource, set(keys(variant("stdin_source"))), {"type"}, set()),
    (model.PythonSource, set(keys(variant("python_source"))), {"type"}, set()),
    (model.Tls, set(keys(variant("tls"))), set(), set()),
    (model.Runtime, set(keys(variant("runtime"))), set(), set()),
    (model.Http, set(keys(variant("http"))), {"address"}, {"host", "port"}),
    (model.Log, set(keys(variant("log"))), set(), set()),
    (
        model.Broker,
        set(keys(variant("broker"))) | {f"reconnect_{key}" for key in keys(lookup("broker", "reconnect"))},
        {"url", "reconnect"},
        {"addresses"},
    ),
    (
        model.Pipeline,
        set(keys(lookup())),
        {"version", "defaults"},
        {"path", "declare", "publish", "secrets"},
    ),
]


@pytest.mark.parametrize(("kind", "known", "renamed", "added"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_schema_and_model_agree_in_both_directions(
    kind: type[Any], known: set[str], renamed: set[str], added: set[str]
) -> None:
    assert renamed <= known
    assert known - renamed == fields(kind) - added


def test_no_field_of_the_model_has_a_default() -> None:
    kinds = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, Struct)]
    with_default = [
        f"{kind.__name__}.{field.name}" for kind in kinds for field in structs.fields(kind) if not field.required
    ]
    assert len(kinds) > 15
    assert with_default == []


def test_every_first_class_key_is_a_key_of_a_queue() -> None:
    assert set(keys(variant("queue"))) >= FIRST_CLASS_KEYS


def test_looking_things_up() -> None:
    assert lookup("consumers", "*", "prefetch")["default"] == 32
    assert types(lookup("queues", "*", "dead_letter")) == {"string", "boolean", "null"}
    assert types(lookup("version")) == {"integer"}
    assert homes("handler") == ["a consumer"]
    assert homes("maxInFlight") == ["a producer"]
    assert homes("nonsense") == []
