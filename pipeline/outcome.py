"""The closed set of ways in which handling a message can end, and how an exception is read as one of them.
What is done about it (`failure.verdict`) and by whom (`runtime.settle`) is not known here."""

import re
import sys
from datetime import timedelta

from pipeline.errors import Reject, Retry
from pipeline.values import Frozen

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Done(Frozen, frozen=True):
    """The handler came to its end. `value` is what it returned, if anything, and not sent on yet."""

    value: object = None


class RetryAsked(Frozen, frozen=True):
    """The handler wants the message again, after `after` seconds where it said so."""

    after: float | None
    reason: str


class Rejected(Frozen, frozen=True):
    """The handler says that this message can never succeed."""

    reason: str


class Undecodable(Frozen, frozen=True):
    """The body could not be read or does not fit the handler's annotation; the handler was not called."""

    reason: str


class Failed(Frozen, frozen=True):
    """The handler raised."""

    error: BaseException


class TimedOut(Frozen, frozen=True):
    """The handler did not end within the consumer's `timeout`, in seconds."""

    seconds: float


class GivenBack(Frozen, frozen=True):
    """The pipeline is stopping and the message was not handled to its end: nobody's fault."""


Outcome = Done | RetryAsked | Rejected | Undecodable | Failed | TimedOut | GivenBack

DONE = Done()
GIVEN_BACK = GivenBack()


def outcome_of(error: BaseException) -> Outcome:
    """What an exception that left a handler means. Never raises, whatever the handler has put into it."""
    match error:
        case Reject():
            return Rejected(text_of(error))  # its text is the reason, also where that is another exception
        case Retry():
            try:
                return RetryAsked(seconds(getattr(error, "after", None)), text_of(error))
            except ValueError as bad:
                return Failed(bad)
        case _:
            return Failed(error)


def seconds(duration: object) -> float | None:
    """A duration as handlers write it, "30s" or a number of seconds. Raises `ValueError` with a sentence."""
    if duration is None:
        return None
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, str) and (found := _DURATION.fullmatch(duration)):
        return float(found[1]) * _UNIT_SECONDS[found[2]]
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        shown = f'"{duration}"' if isinstance(duration, str) else f"a {type(duration).__name__}"
        raise ValueError(f'{shown} is not a duration; write for example "30s", "5m" or a number of seconds')
    if not duration >= 0:  # not a number is neither
        raise ValueError(f"{duration} is not a duration: it cannot be negative")
    return float(min(duration, sys.float_info.max))


def text_of(error: BaseException) -> str:
    """The text of an exception of the user's, which may fail to print itself."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be shown)"
