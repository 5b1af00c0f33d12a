"""What a dead letter tells of its failures: the `x-piperun-*` headers and the broker's own `x-death`, read without
trust, and by what dead letters are grouped. Pure. Who writes the headers stands in `failure.headers`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pipeline.values import Frozen

REPLAYS: Final = "x-piperun-replays"
_MOST_DEATHS = 32  # the broker keeps one for each queue and reason; a forged list may be longer
_MOST_KEYS = 8
_MOST_REPLAYS = 2**31


class Death(Frozen, frozen=True, kw_only=True):
    """An entry of `x-death`: the broker itself took the message out of `queue`, `count` times for this reason."""

    queue: str
    reason: str  # rejected, expired, maxlen, delivery_limit
    count: int
    exchange: str
    routing_keys: tuple[str, ...]
    milliseconds: int | None  # since 1970, of the first time


class Kind(Frozen, frozen=True, kw_only=True):
    """Equal for dead letters that failed alike. `queue` only where it was the broker that gave up on them."""

    reason: str
    by_broker: bool
    error_type: str
    digest: str
    queue: str


class Story(Frozen, frozen=True, kw_only=True):
    """None, or an empty text, is what the headers do not say, or say in a way that cannot be true. Times are
    milliseconds since 1970."""

    reason: str  # of the last failure, piperun's word or the broker's; empty: nobody says
    by_broker: bool  # whether the last one was the broker's
    own_reason: str  # piperun's word, also where the broker came later
    error_type: str
    error: str
    digest: str
    attempts: int | None
    first_failure: int | None
    last_failure: int | None
    queue: str  # where it came from
    exchange: str | None
    routing_key: str | None
    consumer: str
    run_id: str
    replays: int
    deaths: tuple[Death, ...]  # the newest first

    @property
    def kind(self) -> Kind:
        return Kind(
            reason=self.reason,
            by_broker=self.by_broker,
            error_type="" if self.by_broker else self.error_type,
            digest="" if self.by_broker else self.digest,
            queue=self.queue if self.by_broker else "",
        )

    def told(self) -> dict[str, str]:
        """What can be asked for by a short name, where no header has that name."""
        return {
            "reason": self.reason,
            "error-type": self.error_type,
            "error": self.error,
            "digest": self.digest,
            "queue": self.queue,
            "consumer": self.consumer,
            "replays": str(self.replays),
        }


def story(headers: Mapping[str, object]) -> Story:
    """Never fails: anybody may have written these headers."""
    deaths = _deaths(headers.get("x-death"))
    own_reason = _text(headers, "reason")
    # A copy of ours leaves `x-death` behind. Where there is one, the broker has moved the message since.
    by_broker = bool(deaths)
    last = _time(headers.get("x-piperun-last-failure"))
    return Story(
        reason=deaths[0].reason if by_broker else own_reason,
        by_broker=by_broker,
        own_reason=own_reason,
        error_type=_text(headers, "error-type"),
        error=_text(headers, "error"),
        digest=_text(headers, "error-digest"),
        attempts=_number(headers.get("x-piperun-attempt")),
        first_failure=_time(headers.get("x-piperun-first-failure")),
        last_failure=(deaths[0].milliseconds or last) if by_broker else last,
        queue=_text(headers, "queue") or (deaths[0].queue if by_broker else ""),
        exchange=_origin(headers, "exchange", deaths[-1].exchange if deaths else None),
        routing_key=_origin(headers, "routing-key", next(iter(deaths[-1].routing_keys), None) if deaths else None),
        consumer=_text(headers, "consumer"),
        run_id=_text(headers, "run-id"),
        replays=replays(headers),
        deaths=deaths,
    )


def replays(headers: Mapping[str, object]) -> int:
    """How often the message was sent back from a dead-letter queue."""
    number = _number(headers.get(REPLAYS))
    return number if number is not None and number < _MOST_REPLAYS else 0


def as_text(value: object) -> str:
    """A header's value as one writes it to ask for it."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return ""
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", errors="backslashreplace")
        case datetime():
            return str(int(value.timestamp()))
        case _:
            return str(value)


def _deaths(value: object) -> tuple[Death, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(_death(each) for each in value[:_MOST_DEATHS] if isinstance(each, Mapping) and _is_death(each))


def _is_death(entry: Mapping[str, object]) -> bool:
    return isinstance(entry.get("queue"), str) and isinstance(entry.get("reason"), str)


def _death(entry: Mapping[str, object]) -> Death:
    keys, time = entry.get("routing-keys"), entry.get("time")
    return Death(
        queue=as_text(entry.get("queue")),
        reason=as_text(entry.get("reason")),
        count=_number(entry.get("count")) or 1,
        exchange=as_text(entry.get("exchange")),
        routing_keys=tuple(as_text(each) for each in keys[:_MOST_KEYS]) if isinstance(keys, list) else (),
        milliseconds=int(time.timestamp() * 1000) if isinstance(time, datetime) else None,
    )


def _origin(headers: Mapping[str, object], what: str, of_broker: str | None) -> str | None:
    """Our own word, which may be the empty name of the default exchange; else where the broker first took it from."""
    value = headers.get(f"x-piperun-{what}")
    return value if isinstance(value, str) else of_broker


def _text(headers: Mapping[str, object], what: str) -> str:
    value = headers.get(f"x-piperun-{what}")
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _time(value: object) -> int | None:
    # Up to the year 9999: what comes later cannot even be printed.
    return value if type(value) is int and 0 < value < 253_402_300_800_000 else None
