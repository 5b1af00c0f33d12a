"""The exceptions of piperun, by whose fault it is: the file, the broker, the handler, the source. Few, and each says
when it is raised. Exit statuses are the command line's."""

from collections.abc import Sequence

from pipeline.problems import Problem


class PiperunError(Exception):
    """Anything that piperun raises on purpose. The text is a sentence for a person."""


class FileError(PiperunError):
    """Raised when a pipeline file cannot be used; `problems` holds every diagnostic, warnings included."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = sum(problem.severity == "error" for problem in problems)
        super().__init__(f"{count} error{'s' if count != 1 else ''} in the configuration")
        self.problems = tuple(problems)


class UsageError(PiperunError):
    """Raised when options of the command line contradict the file or each other."""


class BrokerError(PiperunError):
    """Raised when the broker cannot be reached or refuses us: address, login, virtual host, rights, protocol."""


class TopologyDiffers(PiperunError):
    """Raised at the first start when objects on the broker are not as the file says; `differences` holds all of them
    as sentences."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("; ".join(differences))
        self.differences = tuple(differences)


class LifespanError(PiperunError):
    """Raised when a `lifespan` of the file fails while it is entered."""


class SourceError(PiperunError):
    """Raised when a source cannot begin or cannot go on; `frames` holds the places `file:line` of the user's own
    code where that is what failed."""

    def __init__(self, sentence: str, *, frames: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.frames = frames


class SourceProblem(PiperunError):
    """Raised before anything runs when what `source` names cannot be a source."""


class StoreError(PiperunError):
    """Raised when the keys of `idempotency` cannot be read or written. `busy`: another process has the store just now,
    and it is worth another try at once."""

    def __init__(self, sentence: str, *, busy: bool = False) -> None:
        super().__init__(sentence)
        self.busy = busy


class WorkerFailed(PiperunError):
    """Raised when a worker cannot even start: to try again would change nothing. `status` is what it ended with."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class ConnectionLost(PiperunError):
    """Raised when the connection ended while something waited on it. A publish that raises this is unconfirmed: it
    may have arrived."""


class NotConnected(PiperunError):
    """Raised when there was no connection to begin with within the time allowed: nothing was sent."""


class ChannelGone(PiperunError):
    """Raised when a delivery is settled after its channel ended: the broker delivers the message again."""


class PublishError(PiperunError):
    """Raised when the broker did not take a message. Nothing of it was stored."""


class Unroutable(PublishError):
    """Raised when a mandatory message reached no queue."""

    def __init__(self, *, exchange: str, routing_key: str, reason: str = "NO_ROUTE") -> None:
        where = f'exchange "{exchange}"' if exchange else "the default exchange"
        super().__init__(f'{where} has no queue for routing key "{routing_key}" ({reason})')
        self.exchange = exchange
        self.routing_key = routing_key


class Nacked(PublishError):
    """Raised when the broker answered a publish with basic.nack, as a full queue with `overflow: reject-publish`
    does. Worth another try after a pause."""


class PublishRefused(PublishError):
    """Raised when the broker closed the publishing channel over this message: no such exchange (404), no right to
    write (403), a property it does not accept or a message that is too large (406)."""


class Unwritable(PublishRefused):
    """Raised when AMQP or the client library cannot carry a header or property of the message. Nothing was sent, and
    another try would end the same way."""


class TooLarge(PublishRefused):
    """Raised when the body of a message is longer than `max_message_size`. Nothing was sent, and another try would end
    the same way."""


class SettlementError(PiperunError):
    """Raised in a handler that settles a message twice, or one that is not its own to settle."""


class Retry(Exception):
    """Raised by a handler that wants the message again later. `after` is a duration such as "30s", or seconds."""

    def __init__(self, after: str | float | None = None, reason: str = "") -> None:
        super().__init__(reason or "the handler asked for a retry")
        self.after = after


class Reject(Exception):
    """Raised by a handler whose message can never succeed: it goes to the dead-letter queue at once."""

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


def innermost(error: BaseException) -> BaseException:
    """One error out of a group of tasks; a group of several stays what it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
