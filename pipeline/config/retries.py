"""`retry` of a consumer: its two forms compiled to one list of delays, and what the native strategy makes of its queue.
What is wrong with one is told by `retry_checks`; wait queues and headers are known to the floor of failures."""

import math
from typing import Any

from pipeline.config.model import Retry, RetryStrategy, Value
from pipeline.config.nodes import MapNode, ScalarNode
from pipeline.config.schema import variant
from pipeline.config.settings import Settings, filled
from pipeline.config.units import is_duration, seconds


def build(settings: Settings, consumer: str) -> Retry | None:
    """The consumer's own, else that of `defaults`. None: a failure is final, as it always is with `ack: none` and on a
    stream, to which no message comes back."""
    node = settings.node("consumers", consumer, "retry")
    if not isinstance(node, MapNode) or not can_retry(settings, consumer):
        return None
    values: dict[str, Any] = filled(variant("retry"), node)
    return Retry(
        delays=delays(values),
        only=tuple(values["only"] or ()),
        excluded=tuple(values["except"] or ()),
        strategy=values["strategy"],
    )


def can_retry(settings: Settings, consumer: str) -> bool:
    return settings.value("consumers", consumer, "ack") != "none" and kind_of_queue(settings, consumer) != "stream"


def kind_of_queue(settings: Settings, consumer: str) -> object:
    queue = settings.text("consumers", consumer, "queue")
    return None if queue is None else settings.value("queues", queue, "type")


def delays(values: dict[str, Any]) -> tuple[float, ...]:
    """The pauses in seconds, rounded to the milliseconds in which the broker counts."""
    if values["delays"] is not None:
        return tuple(_rounded(seconds(each)) for each in values["delays"])
    return grown(
        seconds(values["initial"]),
        factor=values["factor"],
        longest=math.inf if values["max"] is None else seconds(values["max"]),
        count=values["attempts"] - 1,
        strategy=values["strategy"],
    )


def says(node: MapNode, key: str) -> bool:
    """Whether a value stands there; a key that is left empty says nothing."""
    value = node.get(key)
    return value is not None and not (isinstance(value, ScalarNode) and value.value is None)


def understood(node: MapNode) -> dict[str, Any] | None:
    """The values of a `retry`; None where a mistake stands in one that decides about pauses, which has been told."""
    values: dict[str, Any] = filled(variant("retry"), node)
    listed = values["delays"]
    if values["strategy"] not in ("broker", "native", "inline"):
        return None
    if listed is not None:
        good = isinstance(listed, list) and listed and all(map(is_duration, listed))
        return values if good else None
    attempts, factor = values["attempts"], values["factor"]
    numbers = type(attempts) is int and 2 <= attempts <= 100 and type(factor) in (int, float) and 1 <= factor <= 100
    pauses = is_duration(values["initial"]) and (values["max"] is None or is_duration(values["max"]))
    return values if numbers and pauses else None


def grown(initial: float, *, factor: float, longest: float, count: int, strategy: RetryStrategy) -> tuple[float, ...]:
    """So many pauses. RabbitMQ's own grow by the first one each time (min x count, x-delayed-retry-max), all others by
    the factor."""
    if strategy == "native":
        return tuple(_rounded(min(initial * number, longest)) for number in range(1, count + 1))
    return tuple(_rounded(min(initial * float(factor) ** number, longest)) for number in range(count))


def native_arguments(settings: Settings, queue: str) -> dict[str, Value]:
    """What a queue is declared with for a consumer with `strategy: native`; empty where there is none."""
    for name, _ in settings.objects("consumers"):
        if settings.text("consumers", name, "queue") == queue:
            node = settings.node("consumers", name, "retry")
            values = understood(node) if isinstance(node, MapNode) and can_retry(settings, name) else None
            if values is not None and values["strategy"] == "native":
                pauses = delays(values)
                return {
                    "x-delayed-retry-type": "failed",
                    "x-delayed-retry-min": round(pauses[0] * 1000),
                    "x-delayed-retry-max": round(pauses[-1] * 1000),
                    # Of all deliveries but the last one: that one's failure is copied by us, with its story.
                    "x-delivery-limit": len(pauses),
                }
    return {}


def _rounded(duration: float) -> float:
    return round(duration, 3)
