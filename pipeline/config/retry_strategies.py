"""What a consumer and its queue allow its `retry`: whether a message comes back at all, and whether queue and broker
have what the strategy needs. What is wrong with a `retry` by itself is told by `retry_checks`."""

from typing import Any

from pipeline.config import broker, model, retries
from pipeline.config.names import MOST_NAME_BYTES
from pipeline.config.nodes import MapNode, Path, at, key_place
from pipeline.config.report import Report
from pipeline.config.settings import Settings
from pipeline.config.units import spoken

# Half of RabbitMQ's default consumer timeout: the handler itself takes time, too.
_MOST_SECONDS_INLINE = 900.0
_FIRST_WITH_DELAYED_RETRY = "4.3"
_NATIVE_ARGUMENTS = ("x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max", "x-delivery-limit")


def check(settings: Settings, report: Report) -> None:
    """The `retry` of every consumer, its own or that of `defaults`."""
    for name, _ in settings.objects("consumers"):
        _consumer(settings, name, report)
    _one_native_policy(settings, report)


def longest_hold(settings: Settings, consumer: str, timeout: float) -> float:
    """How long a message may be held by a consumer whose handler may take so long: all its attempts and the pauses
    between them, where they are made in this process."""
    values = _values(settings, consumer)
    if values is None or values["strategy"] != "inline":
        return timeout
    delays = retries.delays(values)
    return timeout * (len(delays) + 1) + sum(delays)


def _values(settings: Settings, consumer: str) -> dict[str, Any] | None:
    """What the consumer's `retry` says; None where it has none, or a broken one."""
    node = settings.node("consumers", consumer, "retry")
    return retries.understood(node) if isinstance(node, MapNode) and retries.can_retry(settings, consumer) else None


def _consumer(settings: Settings, name: str, report: Report) -> None:
    own = settings.written("consumers", name, "retry")
    node = settings.node("consumers", name, "retry")
    if own is not None and isinstance(node, MapNode):
        _never_comes_back(settings, name, own, report)
    values = _values(settings, name)
    if values is None or not isinstance(node, MapNode):
        return
    path = own or ("defaults", "consumers", "retry")
    match values["strategy"]:
        case "native":
            _native(settings, name, path, node, report)
        case "inline":
            _inline(settings, name, path, values, report)
        case _:
            _wait_queues(settings, name, path, values, report)


def _never_comes_back(settings: Settings, name: str, path: Path, report: Report) -> None:
    place = key_place(settings.root, path)
    if settings.value("consumers", name, "ack") == "none":
        sentence = "with `ack: none` a message is gone once it is delivered; there is nothing to retry"
        report.error("retry-without-ack", place, sentence, "ack: on_success, or leave `retry` out")
    elif retries.kind_of_queue(settings, name) == "stream":
        queue = settings.text("consumers", name, "queue")
        sentence = f'a stream keeps its messages where they are, and queue "{queue}" of consumer "{name}" is one'
        report.error("queue-type", place, sentence, "type: quorum, or leave `retry` out")


# strategy: broker


def _wait_queues(settings: Settings, name: str, path: Path, values: dict[str, Any], report: Report) -> None:
    """Their names are made from the queue's, which may be too long for that, and are nobody else's."""
    queue = settings.text("consumers", name, "queue")
    if queue is None:
        return
    names = [model.wait_queue(settings.broker_name("queues", queue), each) for each in retries.delays(values)]
    longest = max(len(each.encode()) for each in names)
    if longest > MOST_NAME_BYTES:
        sentence = (
            f'a name on the broker has at most {MOST_NAME_BYTES} bytes, and a wait queue of consumer "{name}" would '
            f"have {longest}: the name of its queue and the delay"
        )
        report.error("bad-name", key_place(settings.root, path), sentence, "a shorter name for its queue")
    for key, entry in settings.objects("queues"):
        if settings.broker_name("queues", key) in names:
            sentence = (
                f'"{settings.broker_name("queues", key)}" is what the wait queue of consumer "{name}" is called, '
                "which piperun declares itself"
            )
            report.error("duplicate-name", entry.key, sentence, "leave it out, or give it another name")
    if _refuses_when_full(settings, queue):
        sentence = (
            f'when queue "{queue}" is full it refuses what comes back to it, too, and then a message of consumer '
            f'"{name}" is lost: classic queues dead-letter without a second try'
        )
        report.warning(
            "lossy-retry", key_place(settings.root, path), sentence, "type: quorum, or a queue without limit"
        )


def _refuses_when_full(settings: Settings, queue: str) -> bool:
    own = settings.value("queues", queue, "arguments")
    arguments = own if isinstance(own, dict) else {}
    overflow = settings.value("queues", queue, "overflow") or arguments.get("x-overflow")
    limits = [settings.value("queues", queue, key) for key in ("max_length", "max_length_bytes")]
    limits += [arguments.get(key) for key in ("x-max-length", "x-max-length-bytes")]
    limited = any(limit is not None for limit in limits)
    return settings.value("queues", queue, "type") == "classic" and overflow == "reject-publish" and limited


# strategy: inline


def _inline(settings: Settings, name: str, path: Path, values: dict[str, Any], report: Report) -> None:
    place = key_place(settings.root, path)
    if settings.value("consumers", name, "ack") == "manual":
        sentence = (
            f'with `strategy: inline` consumer "{name}" calls its handler again for one delivery, which with '
            "`ack: manual` the handler itself has settled"
        )
        report.error("conflicting-keys", place, sentence, "ack: on_success, or strategy: broker")
    total = sum(retries.delays(values))
    if total > _MOST_SECONDS_INLINE:
        sentence = (
            f'with `strategy: inline` consumer "{name}" holds a message for {spoken(total)} of pauses alone; '
            "more than 15m would come too near to the 30m for which RabbitMQ waits"
        )
        report.error("out-of-range", place, sentence, "shorter delays, or strategy: broker")


# strategy: native


def _native(settings: Settings, name: str, path: Path, node: MapNode, report: Report) -> None:
    place = key_place(settings.root, path)
    for key in ("delays", "factor"):
        if retries.says(node, key):
            sentence = (
                f"with `strategy: native` each pause is longer than the one before by `initial`; `{key}` says otherwise"
            )
            hint = "initial: 5s, max: 1m, attempts: 4; or strategy: broker"
            report.error("conflicting-keys", node.entries[key].key, sentence, hint)
    queue, kind = settings.text("consumers", name, "queue"), retries.kind_of_queue(settings, name)
    if queue is None or at(settings.root, ("queues", queue)) is None or kind not in ("classic", "quorum"):
        return  # told elsewhere
    if kind != "quorum":
        sentence = f'RabbitMQ delays retries in quorum queues only, and consumer "{name}" reads {kind} queue "{queue}"'
        report.error("native-retry", place, sentence, "type: quorum, or strategy: broker")
    version = broker.version(settings.root)
    if version != _FIRST_WITH_DELAYED_RETRY:
        sentence = f'RabbitMQ {version} has no delayed retry of its own, for which consumer "{name}" asks'
        report.error("native-retry", place, sentence, "strategy: broker, which is for every version")
    _said_twice(settings, name, queue, path, report)


def _said_twice(settings: Settings, name: str, queue: str, path: Path, report: Report) -> None:
    there = key_place(settings.root, path)
    arguments = at(settings.root, ("queues", queue, "arguments"))
    written = [each for each in _NATIVE_ARGUMENTS if isinstance(arguments, MapNode) and each in arguments.entries]
    paths: list[Path] = [("queues", queue, "arguments", each) for each in written]
    if settings.written("queues", queue, "delivery_limit"):
        paths.append(("queues", queue, "delivery_limit"))
    for said in paths:
        sentence = f'`{said[-1]}` is set by `strategy: native` of consumer "{name}" ({there.line}:{there.column})'
        report.error("conflicting-keys", key_place(settings.root, said), sentence, "leave it out", there)


def _one_native_policy(settings: Settings, report: Report) -> None:
    """A queue has one set of arguments, whoever reads it."""
    first: dict[str, tuple[str, tuple[float, ...]]] = {}
    for name, _ in settings.objects("consumers"):
        queue, values = settings.text("consumers", name, "queue"), _values(settings, name)
        if queue is None or values is None or values["strategy"] != "native":
            continue
        if values["delays"] is not None:
            continue  # told already
        delays = retries.delays(values)
        other, theirs = first.setdefault(queue, (name, delays))
        if delays != theirs:
            path = settings.written("consumers", name, "retry") or ("defaults", "consumers", "retry")
            sentence = (
                f'consumers "{other}" and "{name}" want different delays of queue "{queue}", and with '
                "`strategy: native` it has one set of them"
            )
            report.error("native-retry", key_place(settings.root, path), sentence, "the same `retry` in both")
