"""What is legal and risky: a warning with its reason. Nothing here is an error, and nothing is said of what is broken.
A false alarm costs more than a miss: whoever is wrong about legal files is switched off."""

import re
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

from pipeline.config import argument_checks, broker, dead_letters, retries, retry_strategies
from pipeline.config.address import DEFAULT_PORTS, THIS_MACHINE, BadUrl, parse
from pipeline.config.names import BROKERS_OWN
from pipeline.config.nodes import ListNode, MapNode, Path, ScalarNode, at, key_place, value_place
from pipeline.config.phrases import both
from pipeline.config.references import bindings
from pipeline.config.report import Report
from pipeline.config.schema import variant
from pipeline.config.settings import Settings
from pipeline.config.units import seconds, spoken
from pipeline.problems import Place

_BROKERS_PATIENCE = 30 * 60.0  # seconds; RabbitMQ's default consumer timeout
_PASSWORD = re.compile(r"://([^\s/:@]*):(?!\$\{)([^\s]+?)@")


def advise(settings: Settings, report: Report) -> None:
    """All warnings of one file."""
    argument_checks.advise(settings, report)
    _urls(settings, report)
    _names(settings, report)
    _bindings(settings, report)
    _queues(settings, report)
    _consumers(settings, report)
    _files(settings, report)


def _urls(settings: Settings, report: Report) -> None:
    for node in broker.urls(settings.root):
        url = parse(node.text)
        if isinstance(url, BadUrl) or node.place.path != report.document.path:
            continue
        address = url.address
        found = _PASSWORD.search(node.source)
        at_home = address.username == "guest" and address.host in THIS_MACHINE
        if found and not at_home:
            hint = "`${AMQP_URL}` or `${file:...}`"
            report.warning("plain-password", node.place, "the password stands in the file", hint)
        other: Literal["amqp", "amqps"] = "amqp" if address.scheme == "amqps" else "amqps"
        if address.port == DEFAULT_PORTS[other]:
            usual = DEFAULT_PORTS[address.scheme]
            what = "the port without TLS" if address.scheme == "amqps" else "the port for TLS"
            sentence = f"{address.scheme} usually listens on {usual}; {address.port} is {what}"
            report.warning("port-and-scheme", node.place, sentence, f"port {usual}, or {other}://")


def _names(settings: Settings, report: Report) -> None:
    for section in ("exchanges", "queues"):
        seen: dict[str, str] = {}
        for key, entry in settings.objects(section):
            folded = settings.broker_name(section, key).casefold()
            first = seen.setdefault(folded, key)
            if first != key and settings.broker_name(section, first) != settings.broker_name(section, key):
                place = key_place(settings.root, (section, first))
                sentence = (
                    f'{section} "{key}" and "{first}" ({place.line}:{place.column}) differ in case only; '
                    "to the broker they are two"
                )
                report.warning("case-only-difference", entry.key, sentence, related=place)


def _bindings(settings: Settings, report: Report) -> None:
    for path, node in bindings(settings):
        exchange = node.get("exchange")
        name = exchange.text if isinstance(exchange, ScalarNode) else ""
        kind = BROKERS_OWN.get(name) or settings.text("exchanges", name, "type")
        for key in _routing_keys(node):
            if kind == "topic":
                _pattern(key, report)
            elif kind in ("fanout", "headers") and key.value:
                whom = f'{"queue" if path[0] == "queues" else "exchange"} "{path[1]}"'
                why = f"{whom} gets everything" if kind == "fanout" else "it compares `arguments` with the headers"
                sentence = f"a {kind} exchange ignores routing keys: {why}"
                report.warning("routing-key-ignored", key.place, sentence, "leave `routing_key` out")


def _routing_keys(binding: MapNode) -> list[ScalarNode]:
    node = binding.get("routing_key")
    items = node.items if isinstance(node, ListNode) else [node]
    return [item for item in items if isinstance(item, ScalarNode) and isinstance(item.value, str)]


def _pattern(key: ScalarNode, report: Report) -> None:
    for word in key.text.split("."):
        sign = next((sign for sign in "*#" if sign in word), None)
        if sign and word != sign:
            meant = ".".join(sign if part == word else part for part in key.text.split("."))
            what = {"*": "one whole word", "#": "any number of whole words"}[sign]
            spelt = {"*": "an asterisk", "#": "a hash"}[sign]
            sentence = f'"{sign}" stands for {what}; "{word}" only matches a key that is spelt with {spelt}'
            report.warning("bad-pattern", key.place, sentence, f'"{meant}"')


def _queues(settings: Settings, report: Report) -> None:
    holders = dead_letters.holders(settings)
    careful = _consumers_that_can_fail(settings)
    for queue, entry in settings.objects("queues"):
        dead_letter = settings.value("queues", queue, "dead_letter")
        if dead_letter is False:
            _dropped(settings, queue, careful.get(queue, []), report)
        own = settings.value("queues", queue, "arguments")
        routed = isinstance(own, dict) and "x-dead-letter-exchange" in own
        quorum = settings.value("queues", queue, "type") == "quorum"
        ours = settings.value("queues", queue, "declare") == "assert"
        if (
            quorum
            and ours
            and dead_letter is None
            and not routed
            and settings.broker_name("queues", queue) not in holders
        ):
            limit = retries.native_arguments(settings, queue).get("x-delivery-limit", 20)
            times = "once" if limit == 1 else f"{limit} times"
            sentence = f"from RabbitMQ 4.0 a message returned {times} is dropped by the broker"
            name = settings.broker_name("queues", queue)
            report.warning(
                "quorum-without-dead-letter",
                entry.key,
                sentence,
                f"dead_letter: {name}.dlq",
            )


def _consumers_that_can_fail(settings: Settings) -> dict[str, list[str]]:
    """By the queue they read."""
    found: dict[str, list[str]] = {}
    for name, _ in settings.objects("consumers"):
        queue = settings.text("consumers", name, "queue")
        if queue is not None and settings.value("consumers", name, "ack") != "none":
            found.setdefault(queue, []).append(f'"{name}"')
    return found


def _dropped(settings: Settings, queue: str, names: list[str], report: Report) -> None:
    if names:
        plural = "s" if len(names) > 1 else ""
        place = value_place(settings.root, ("queues", queue, "dead_letter"))
        sentence = f"messages that fail in consumer{plural} {both(names)} are dropped"
        report.warning("failures-dropped", place, sentence, f"dead_letter: {settings.broker_name('queues', queue)}.dlq")


def _consumers(settings: Settings, report: Report) -> None:
    for name, _ in settings.objects("consumers"):
        if settings.value("consumers", name, "ack") != "none":
            _idle(settings, name, report)
            _slow(settings, name, report)


def _idle(settings: Settings, name: str, report: Report) -> None:
    concurrency, prefetch = (settings.value("consumers", name, key) for key in ("concurrency", "prefetch"))
    written = settings.written("consumers", name, "concurrency") or settings.written("consumers", name, "prefetch")
    if type(concurrency) is int and type(prefetch) is int and 0 < prefetch < concurrency:
        place = value_place(settings.root, written or ("defaults", "consumers", "concurrency"))
        sentence = f"only {prefetch} of {concurrency} can ever work, since prefetch is {prefetch}"
        report.warning("idle-concurrency", place, sentence, f"prefetch: {concurrency}")


def _slow(settings: Settings, name: str, report: Report) -> None:
    timeout = settings.text("consumers", name, "timeout")
    written: Path = settings.written("consumers", name, "timeout") or ("defaults", "consumers", "timeout")
    if not timeout or not re.fullmatch(variant("positive_duration")["pattern"], timeout):
        return  # the schema has said so
    place = value_place(settings.root, written)
    hold = retry_strategies.longest_hold(settings, name, seconds(timeout))
    own = _own_patience(settings, name)
    if own is not None:
        if hold >= own.seconds:
            sentence = (
                f"RabbitMQ takes a message back after {spoken(own.seconds)}, as the `x-consumer-timeout` of the "
                f'{own.said_by} says; "{name}" may hold it for {spoken(hold)}'
            )
            hint = "a shorter `timeout`, or a longer `x-consumer-timeout`"
            report.warning("slow-handler", place, sentence, hint, related=own.place)
    elif hold > _BROKERS_PATIENCE and _has_patience(settings, settings.text("consumers", name, "queue")):
        sentence = "RabbitMQ takes a message back after 30 minutes by default; "
        report.warning("slow-handler", place, f'{sentence}"{name}" may hold it for {_spoken(hold)}')


class _Patience(NamedTuple):
    """How long the broker waits for an acknowledgement because the file says so."""

    seconds: float
    said_by: str
    place: Place


def _own_patience(settings: Settings, name: str) -> _Patience | None:
    """The consumer's argument counts before the queue's. RabbitMQ 3.10 knows neither."""
    if _version(settings) == "3.10":
        return None
    queue = settings.text("consumers", name, "queue") or ""
    for section, key, said_by in (("consumers", name, "consumer"), ("queues", queue, "queue")):
        arguments = settings.node(section, key, "arguments")
        node = arguments.get("x-consumer-timeout") if isinstance(arguments, MapNode) else None
        if isinstance(node, ScalarNode) and type(node.value) is int and node.value > 0:
            return _Patience(node.value / 1000, said_by, node.place)
    return None


def _has_patience(settings: Settings, queue: str | None) -> bool:
    """Whether the broker's default concerns this queue: 4.3 limits quorum queues only."""
    return _version(settings) != "4.3" or settings.value("queues", queue or "", "type") == "quorum"


def _version(settings: Settings) -> object:
    """Where the file says so: whoever leaves it out may run on any."""
    version = at(settings.root, ("broker", "version"))
    return version.value if isinstance(version, ScalarNode) else None


def _spoken(duration: float) -> str:
    text = spoken(duration)
    return text.removesuffix("m") if text.endswith("m") else text


def _files(settings: Settings, report: Report) -> None:
    for name, _ in settings.objects("producers"):
        if _text(settings, ("producers", name, "source", "type")) == "file":
            _file(settings, ("producers", name, "source", "path"), report)
    for key in ("ca_file", "cert_file", "key_file"):
        _file(settings, ("broker", "tls", key), report)


def _file(settings: Settings, path: Path, report: Report) -> None:
    written = _text(settings, path)
    if not written:
        return
    file = report.document.folder / written
    try:
        if file.exists():
            return
        beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
    except (OSError, ValueError):
        beside = []
    near = report.did_you_mean(written, [str(FilePath(written).parent / name) for name in beside])
    place = value_place(settings.root, path)
    report.warning("missing-file", place, f'"{written}" does not exist on this machine', near)


def _text(settings: Settings, path: Path) -> str | None:
    node = at(settings.root, path)
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else None
