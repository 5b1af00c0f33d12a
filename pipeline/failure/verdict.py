"""Decide what happens to a message whose handler has ended. Pure: an outcome, an attempt and what the file allows go
in, a verdict comes out. Nothing here knows queues or channels; `runtime.settle` acts."""

import hashlib
import traceback
from typing import Literal, assert_never

from pipeline.config.model import Ack, RetryStrategy
from pipeline.failure.delays import delay
from pipeline.outcome import Done, Failed, GivenBack, Outcome, Rejected, RetryAsked, TimedOut, Undecodable, text_of
from pipeline.values import Frozen, replace

_OURS = __file__.rsplit("failure", 1)[0]  # the folder of this package
_MOST_FRAMES = 8  # a recursion without an end has a thousand

Reason = Literal["max_attempts", "fatal", "no_retry", "decode", "timeout", "crash", "given_up"]


class Failure(Frozen, frozen=True, kw_only=True):
    """Why a message did not succeed. `error_type` and `error` are what a person searches for."""

    reason: Reason
    error_type: str
    error: str
    frames: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Equal for failures of one kind, so that dead letters can be grouped."""
        return hashlib.sha256(f"{self.error_type}:{self.error}".encode(errors="replace")).hexdigest()[:16]


class Policy(Frozen, frozen=True, kw_only=True):
    """`retry` of a consumer, with its exception classes at hand."""

    delays: tuple[float, ...]
    strategy: RetryStrategy
    only: tuple[type[BaseException], ...] = ()  # none: whatever is raised
    excluded: tuple[type[BaseException], ...] = ()

    @property
    def attempts(self) -> int:
        return len(self.delays) + 1

    def covers(self, error: type[BaseException]) -> bool:
        return (not self.only or issubclass(error, self.only)) and not issubclass(error, self.excluded)


class Acknowledge(Frozen, frozen=True):
    """It succeeded."""


class HandleAgain(Frozen, frozen=True):
    """It is handled again after so many seconds. Nothing is lost by it: it waits on the broker, or is held."""

    failure: Failure
    after: float


class DeadLetter(Frozen, frozen=True):
    """Copy it to the dead-letter queue, then acknowledge."""

    failure: Failure


class Drop(Frozen, frozen=True):
    """It failed and the file says that failures are not kept. The only loss there is."""

    failure: Failure


class GiveBack(Frozen, frozen=True):
    """Nobody's fault: the broker shall deliver it again."""


Verdict = Acknowledge | HandleAgain | DeadLetter | Drop | GiveBack

ACKNOWLEDGE = Acknowledge()
GIVE_BACK = GiveBack()


def decide(outcome: Outcome, *, ack: Ack, dead_letter: bool, policy: Policy | None = None, attempt: int = 1) -> Verdict:
    """What becomes of a message. `dead_letter` is False where the file says `dead_letter: false`; without a `policy`
    every failure is final."""
    match outcome:
        case Done():
            return ACKNOWLEDGE
        case GivenBack():
            return GIVE_BACK
        case _:
            failure = failure_of(outcome)
            if policy is not None:
                after = _again_after(outcome, policy, attempt)
                if after is not None:
                    return HandleAgain(failure, after)
                failure = replace(failure, reason=_final_reason(outcome, failure.reason, policy))
            return final(failure, ack=ack, dead_letter=dead_letter)


def final(failure: Failure, *, ack: Ack, dead_letter: bool) -> DeadLetter | Drop:
    """What becomes of a message that is not handled again."""
    # With `ack: none` the broker has forgotten the message already: there is nothing left to move.
    return DeadLetter(failure) if dead_letter and ack != "none" else Drop(failure)


def _again_after(outcome: Outcome, policy: Policy, attempt: int) -> float | None:
    """Seconds until it is handled again; None: never. Who asks for it in words gets it, whatever `only` says."""
    match outcome:
        case RetryAsked(after=after):
            # How long a message waits in its own queue is the broker's to say.
            return delay(policy.delays, attempt, after=None if policy.strategy == "native" else after)
        case Failed(error) if policy.covers(type(error)):
            return delay(policy.delays, attempt)
        case TimedOut() if policy.covers(TimeoutError):
            return delay(policy.delays, attempt)
        case _:
            return None


def _final_reason(outcome: Outcome, reason: Reason, policy: Policy) -> Reason:
    match outcome:
        case RetryAsked():
            return "max_attempts"
        case Failed(error) if not policy.covers(type(error)):
            return "fatal"
        case _:
            return reason


def failure_of(outcome: RetryAsked | Rejected | Undecodable | Failed | TimedOut) -> Failure:
    match outcome:
        case Rejected(reason):
            return Failure(reason="fatal", error_type="Reject", error=reason)
        case RetryAsked(_, reason):
            return Failure(reason="no_retry", error_type="Retry", error=reason)
        case Undecodable(reason):
            return Failure(reason="decode", error_type="Undecodable", error=reason)
        case TimedOut(seconds):
            return Failure(reason="timeout", error_type="TimeoutError", error=f"no end within {seconds:g} s")
        case Failed(error):
            return Failure(
                reason="max_attempts",
                error_type=type(error).__qualname__,
                error=text_of(error),
                frames=_frames(error),
            )
        case _:
            assert_never(outcome)


def crashed(deaths: int, cause: str) -> Failure:
    """Of a message that is not handled again, because so many processes died with it in hand."""
    times = "1 worker" if deaths == 1 else f"{deaths} workers"
    return Failure(
        reason="crash", error_type="WorkerDied", error=f"{times} died with it in hand, the last one: {cause}"
    )


def _frames(error: BaseException) -> tuple[str, ...]:
    """The last places of the user's own code that the exception passed, the innermost last; ours are left out."""
    passed = ((frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__))
    places = [f"{code.co_filename}:{line} in {code.co_name}" for code, line in passed if _OURS not in code.co_filename]
    return tuple(places[-_MOST_FRAMES:])
