"""Which arguments a queue may have in each version of RabbitMQ: tables to be held against what it answers. How they
are gone through is `arguments`' business; what an argument does is not known here."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.embedded.declarations.argument_checks import (
    Check,
    a_priority,
    a_time,
    flag,
    integer,
    not_negative,
    not_zero,
    one_of,
    queue_version,
    short,
    text,
)

CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"


@dataclass(frozen=True, kw_only=True)
class QueueArguments:
    """An argument that stands nowhere here is kept, and never compared."""

    checks: Mapping[str, tuple[Check, ...]]  # in the order in which RabbitMQ looks at them
    of_type: Mapping[str, tuple[str, ...]]  # what each type takes, in the order in which declarations are compared
    of_streams: frozenset[str]  # what no other type takes
    words_for_classic: frozenset[str]  # as x-queue-type
    sorts: bool  # arguments are gone through by their names; before, as they came
    tells_usual_type: bool  # a queue declared without x-queue-type is called classic where it is compared
    of_consumers: Mapping[str, tuple[Check, ...]]  # arguments of basic.consume besides x-priority

    def of_other_types(self, of_type: str) -> frozenset[str]:
        return self.of_streams.union(*self.of_type.values()).difference(self.of_type[of_type])


_OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
_COUNT = (integer, not_negative)

_FIRST: Mapping[str, tuple[Check, ...]] = {
    "x-expires": (integer, not_negative, not_zero, a_time),
    "x-message-ttl": (integer, not_negative, a_time),
    "x-dead-letter-exchange": (text, short),
    "x-dead-letter-routing-key": (text, short),
    "x-dead-letter-strategy": (text, one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy")),
    "x-max-length": _COUNT,
    "x-max-length-bytes": _COUNT,
    "x-max-in-memory-length": _COUNT,
    "x-max-in-memory-bytes": _COUNT,
    "x-max-priority": (integer, not_negative, a_priority),
    "x-overflow": (text, one_of(_OVERFLOWS, "invalid_overflow")),
}
_LAST: Mapping[str, tuple[Check, ...]] = {
    "x-quorum-initial-group-size": (integer, not_negative, not_zero),
    "x-queue-leader-locator": (text, one_of(("client-local", "balanced"), "invalid_queue_locator_arg")),
}

OF_3_10 = QueueArguments(
    checks={
        **_FIRST,
        "x-queue-mode": (text, one_of(("default", "lazy"), "\"unsupported queue mode '{}'\"")),
        "x-queue-version": (integer, queue_version(1, 2)),
        "x-single-active-consumer": (flag,),
        **_LAST,
    },
    of_type={
        CLASSIC: (
            "x-expires",
            "x-message-ttl",
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-priority",
            "x-overflow",
            "x-queue-mode",
            "x-queue-version",
            "x-single-active-consumer",
            "x-queue-type",
            "x-queue-master-locator",
        ),
        QUORUM: (
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-dead-letter-strategy",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-in-memory-length",
            "x-max-in-memory-bytes",
            "x-overflow",
            "x-single-active-consumer",
            "x-queue-type",
            "x-quorum-initial-group-size",
            "x-delivery-limit",
            "x-message-ttl",
            "x-queue-leader-locator",
        ),
    },
    of_streams=frozenset({"x-initial-cluster-size", "x-max-age", "x-stream-max-segment-size-bytes"}),
    words_for_classic=frozenset({CLASSIC}),
    sorts=False,
    tells_usual_type=False,
    of_consumers={},
)

OF_4_3 = QueueArguments(
    checks={
        **_FIRST,
        "x-queue-version": (integer, queue_version(2)),  # x-queue-mode is kept and compared, whatever it says
        "x-single-active-consumer": (flag,),
        "x-consumer-timeout": _COUNT,
        "x-consumer-disconnected-timeout": _COUNT,
        **_LAST,
    },
    of_type={
        CLASSIC: (*OF_3_10.of_type[CLASSIC], "x-queue-leader-locator"),
        QUORUM: (
            *OF_3_10.of_type[QUORUM],
            "x-consumer-disconnected-timeout",
            "x-consumer-timeout",
            "x-delayed-retry-type",
            "x-delayed-retry-min",
            "x-delayed-retry-max",
        ),
    },
    of_streams=OF_3_10.of_streams | {"x-stream-filter-size-bytes"},
    words_for_classic=frozenset({CLASSIC, "undefined", ""}),
    sorts=True,
    tells_usual_type=True,
    of_consumers={"x-consumer-timeout": _COUNT},
)
