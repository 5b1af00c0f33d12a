"""One value that the schema rejects, as a word, a sentence and a way out.
Knows what people usually mean; how the schema is asked is the business of `validate`."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config.nodes import Node, Path, ScalarNode, at, value_place
from pipeline.config.owner import dotted, owner
from pipeline.config.phrases import either, options, phrase, this
from pipeline.config.report import Report
from pipeline.config.schema import Schema, resolved
from pipeline.config.units import is_duration, is_size, meant_duration, seconds
from pipeline.problems import did_you_mean
from pipeline.values import Frozen

_QUESTIONS = {
    "handler": "which function gets its messages?",
    "queue": "which queue does it read?",
    "source": "where do its messages come from?",
    "publish": "where do its messages go?",
    "exchange": "where do its messages come from?",
    "path": "which file does it read?",
    "generator": "which function yields its messages?",
    "type": "what kind of source is it?",
    "address": "where does it listen?",
    "store": "where are its keys kept?",
}

_EXAMPLES = {
    "exchanges": "orders: {type: topic}",
    "producers": "greeter: {source: ..., publish: ...}",
    "consumers": "printer: {queue: ..., handler: ...}",
}

# What is often written alone in the place of a map.
_SHORT_FOR = {"publish": "queue", "runtime": "until", "log": "format"}


Answer = tuple[str, str, str | None]  # word, sentence, way out


class Rejection(Frozen, frozen=True, kw_only=True):
    """What the validator says: at `path`, `value` breaks the `rule` of `schema`."""

    path: Path
    rule: str
    value: Any
    schema: Schema


def tell(root: Node, rejection: Rejection, report: Report) -> None:
    """Report a value that does not fit its place."""
    word, sentence, hint = _Mistake(root=root, rejection=rejection).answer()
    report.error(word, value_place(root, rejection.path), sentence, hint)


def lacking(path: Path, keys: Sequence[str]) -> str:
    """That an object lacks a key, as a sentence; for a single key, what it is for."""
    who = f"a binding of {owner(path[:2])}" if "bindings" in path else owner(path)
    names = " and no ".join(f"`{key}`" for key in keys)
    question = f": {_QUESTIONS[keys[0]]}" if len(keys) == 1 else ""
    return f"{who} has no {names}{question}"


class _Mistake(Frozen, frozen=True, kw_only=True):
    """A value that does not fit its place."""

    root: Node
    rejection: Rejection

    @property
    def path(self) -> Path:
        return self.rejection.path

    @property
    def value(self) -> Any:
        return self.rejection.value

    @property
    def schema(self) -> Schema:
        return self.rejection.schema

    @property
    def node(self) -> Node | None:
        return at(self.root, self.path)

    def answer(self) -> Answer:
        kind = str(self.schema.get("$anchor", ""))
        for endings, answer in self._by_kind().items():
            if kind.endswith(endings) and not isinstance(self.value, list | dict):
                return answer()
        by_rule: dict[str, Callable[[], Answer]] = {
            "type": self._type,
            "enum": self._option,
            "const": self._option,
            "pattern": self._option,
            "not": self._neither,
            "minimum": self._range,
            "maximum": self._range,
            "minLength": self._empty,
            "minItems": self._empty,
            "maxItems": self._many,
        }
        return by_rule[self.rejection.rule]()

    def _by_kind(self) -> dict[str, Callable[[], Answer]]:
        return {
            "duration": self._duration,
            "size": self._size,
            "python_path": self._python_path,
            "exception": self._exception,
            "source": self._source,
            "http": self._address,
            "http_address": self._address,
            "idempotency": self._idempotency,
        }

    @property
    def key(self) -> str:
        return str(next(step for step in reversed(self.path) if isinstance(step, str)))

    @property
    def name(self) -> str:
        """The key as the sentence calls it."""
        if isinstance(self.path[-1], int):
            return f"each item of `{self.key}`"
        if len(self.path) == 2 and self.path[0] in ("exchanges", "queues", "producers", "consumers"):
            return owner(self.path)
        for table in ("headers", "arguments"):
            if table in self.path[:-1]:
                return f"`{dotted(self.path[self.path.index(table) :])}`"
        return f"`{self.key}`"

    def _sentence(self) -> str:
        if self.value is None:
            return f"{self.name} is {phrase(self.schema)}, and nothing stands here"
        return f"{self.name} is {phrase(self.schema)}, this is {this(self.value)}"

    def _type(self) -> Answer:
        wanted = _wanted(self.schema)
        if wanted == {"boolean"}:
            return self._boolean()
        if isinstance(self.value, list | dict) or not wanted - {"object", "array"}:
            return self._shape(wanted)
        return "wrong-type", self._sentence(), self._type_hint(wanted)

    def _type_hint(self, wanted: set[str]) -> str | None:
        quoted = isinstance(self.node, ScalarNode) and self.node.source[:1] in ("'", '"')
        if isinstance(self.value, str) and wanted & {"integer", "number"}:
            number = self.value.strip().replace("_", "").lstrip("+")
            if number.isdecimal() and number.isascii():
                plain_number = number.lstrip("0") or "0"
                return (
                    "remove the quotes" if quoted and number == plain_number == self.value else f"write {plain_number}"
                )
        takes_text = "string" in wanted and "integer" not in wanted
        if isinstance(self.value, bool | int | float) and takes_text and isinstance(self.node, ScalarNode):
            return f'put it in quotes: "{self.node.text}"'
        if self.value is None and "string" in wanted and isinstance(self.node, ScalarNode):
            return 'a text that begins with "#" needs quotes' if self.key == "routing_key" else None
        return None

    def _boolean(self) -> Answer:
        text = self.value.casefold() if isinstance(self.value, str) else str(self.value)
        if text in ("yes", "on", "y", "true", "1"):
            hint: str | None = "write true"
        elif text in ("no", "off", "n", "false", "0"):
            hint = "write false"
        else:
            hint = None
        if self.value is None:
            return "not-a-boolean", f"{self.name} is true or false, and nothing stands here", hint
        if isinstance(self.value, str):
            return "not-a-boolean", f'{self.name} is true or false; "{self.value}" is a text in YAML 1.2', hint
        return "not-a-boolean", f"{self.name} is true or false, this is {this(self.value)}", hint

    def _shape(self, wanted: set[str]) -> Answer:
        if self.value is None and "required" in self.schema and "string" not in wanted:
            return "missing-key", lacking(self.path, self.schema["required"]), None
        it = this(self.value) if self.value is not None else "left empty"
        if len(self.path) == 1 and self.path[0] in ("exchanges", "queues", "producers", "consumers"):
            sentence = f"{self.name} maps each name to its settings; this is {it}"
            return "wrong-shape", sentence, self._section_hint()
        if "object" in wanted and "string" not in wanted:
            hint = self._in_braces() if isinstance(self.value, str) else None
            if self.key == "retry" and isinstance(self.value, list):
                hint = "{delays: [...]}"
            return "wrong-shape", f"{self.name} maps its keys to values; this is {it}", hint
        if "array" in wanted and "string" not in wanted:
            hint = "- {exchange: ..., routing_key: ...}" if self.key == "bindings" else None
            return "wrong-shape", f"{self.name} is a list; this is {it}", hint
        hint = "broker: {url: [...]}" if self.path == ("broker",) and isinstance(self.value, list) else None
        return "wrong-shape", f"{self.name} is {phrase(self.schema)}, this is {it}", hint

    def _in_braces(self) -> str | None:
        """The key under which a single value was probably meant."""
        in_section = len(self.path) == 2 and self.path[0] in ("exchanges", "queues")
        key = "type" if in_section else _SHORT_FOR.get(self.key)
        if key and key in self.schema["properties"]:
            legal = options(resolved(self.schema["properties"][key]))
            return f"{{{key}: {self.value}}}" if not legal or self.value in legal else None
        return f"- {{exchange: {self.value}}}" if self.path[-2:-1] == ("bindings",) else None

    def _section_hint(self) -> str:
        first = self.value[0] if isinstance(self.value, list) and self.value else self.value
        if self.path[0] == "queues":
            return f"{first}: {{}}" if isinstance(first, str) and first else "billing: {}"
        return _EXAMPLES[str(self.path[0])]

    def _option(self) -> Answer:
        if self.path == ("version",) and self.value == "1":
            return "wrong-type", self._sentence(), self._type_hint({"integer"})
        if self.path == ("version",):
            sentence = "this piperun reads version 1 of the file format"
            return "unsupported-version", sentence, "a newer piperun, or `version: 1`"
        if isinstance(self.value, list | dict):
            return self._shape(_wanted(self.schema))
        if self.key == "ack" and self.value == "auto":
            sentence = '"auto" means "after success" in Spring and "no acknowledgement" in RabbitMQ'
            return "ambiguous-ack", sentence, "on_success or none"
        legal = options(self.schema)
        hint = did_you_mean(self.value, legal) if isinstance(self.value, str) else None
        hint = hint or self._type_hint(_wanted(self.schema))  # a number in quotes, where a word may stand as well
        if not isinstance(self.value, str) and isinstance(self.node, ScalarNode) and self.node.text in legal:
            hint = f'put it in quotes: "{self.node.text}"'  # as it is written: 3.10 is the number 3.1
        if self.value is None:
            return "unknown-value", f"{self.name} is {phrase(self.schema)}, and nothing stands here", None
        it = f'"{self.value}"' if isinstance(self.value, str) else this(self.value)
        return "unknown-value", f"{self.name} is {phrase(self.schema)}, not {it}", hint

    def _neither(self) -> Answer:
        return "unknown-value", f"{self.name} is {phrase(self.schema)}; true says neither", None

    def _range(self) -> Answer:
        if self.key == "prefetch" and self.value == 0:
            sentence = '0 means "without limit" in AMQP, and one slow consumer would hold the whole queue'
            return "unlimited-prefetch", sentence, "write a number from 1"
        return "out-of-range", self._sentence(), None

    def _empty(self) -> Answer:
        return "wrong-type", f"{self.name} cannot be empty", None

    def _many(self) -> Answer:
        return "out-of-range", f"{self.name} has at most {self.schema['maxItems']} items", None

    def _duration(self) -> Answer:
        if is_duration(self.value) and seconds(self.value) == 0:
            if self.key == "every":
                return "bad-schedule", f"an interval of {self.value} would never pause", "write at least 1ms"
            return "out-of-range", self._sentence(), None
        if is_duration(self.value):
            return "out-of-range", f"{self.name} is a duration with at most nine digits and three decimals", None
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return "bad-duration", "a duration carries a unit", f"{self.value}s? {self.value}m?"
        if isinstance(self.value, str) and self.value.isdecimal():
            return "bad-duration", "a duration carries a unit", f"{self.value}s? {self.value}m?"
        meant = meant_duration(self.value) if isinstance(self.value, str) else None
        return "bad-duration", self._sentence(), f"write {meant}" if meant else None

    def _size(self) -> Answer:
        if is_size(self.value):
            return "out-of-range", self._sentence(), None
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return "bad-size", "a size carries a unit", f"{self.value}B? {self.value}KiB?"
        return "bad-size", self._sentence(), None

    def _source(self) -> Answer:
        if isinstance(self.value, str) and self.value in options(self.schema["properties"]["type"]):
            return "wrong-shape", self._sentence(), f"{{type: {self.value}}}"
        return self._python_path()

    def _address(self) -> Answer:
        sentence = f"{self.name} is a port, or an IP address with a port, not {this(self.value)}"
        return "bad-address", sentence, address_hint(self.value) if isinstance(self.value, str) else None

    def _idempotency(self) -> Answer:
        stores = options(self.schema["properties"]["store"])
        hint = did_you_mean(self.value, stores) if isinstance(self.value, str) else None
        if isinstance(self.value, bool) or self.value is None:
            hint = "leave it out" if self.value is False else f"idempotency: {either(stores)}"
        return "unknown-value", self._sentence(), hint

    def _python_path(self) -> Answer:
        if not isinstance(self.value, str):
            return "wrong-type", self._sentence(), None
        return "bad-handler-path", f"a {self.key} is written package.module:function", path_hint(self.value)

    def _exception(self) -> Answer:
        if not isinstance(self.value, str):
            return "wrong-type", self._sentence(), None
        sentence = "an exception class is written package.module:Class, or is one of Python's own such as TimeoutError"
        return "bad-handler-path", sentence, path_hint(self.value)


def path_hint(path: str) -> str | None:
    """How a path was probably meant: `shop.billing.charge` is `shop.billing:charge`."""
    cleaned = "".join(path.split()).removeprefix("./").removesuffix("()")
    cleaned = cleaned.replace("/", ".").replace(".py:", ":").replace("::", ":")
    if ":" not in cleaned:
        module, dot, name = cleaned.removesuffix(".py").rpartition(".")
        cleaned = f"{module}:{name}" if dot else ""
    parts: list[Any] = cleaned.split(":")
    good = len(parts) == 2 and all(name.isidentifier() for part in parts for name in part.split("."))
    return cleaned if good and cleaned != path else None


def address_hint(text: str) -> str | None:
    """How an address to listen on was probably meant."""
    rest = text.strip().removeprefix("http://").rstrip("/")
    host, colon, port = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if host in ("", "*") and port.isdecimal():
        return f"{port} is this machine only, 0.0.0.0:{port} is every interface"
    if re.fullmatch(r"[0-9.]+|localhost|::1|", host) and not port:
        return f"{host or '127.0.0.1'}:9419"
    if rest != text:
        return rest
    named = bool(colon) and port.isdecimal() and host.islower()
    return "the IP address of an interface, instead of a name" if named else None


def _wanted(schema: Schema) -> set[str]:
    found = schema.get("type", [])
    return ({found} if isinstance(found, str) else set(found)) - {"null"}
