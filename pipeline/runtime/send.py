"""Messages sent by hand: over a connection of their own, each confirmed, and what became of the first that was not.
Nothing is declared for them. Where they come from, and how the end is told, is not known here."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from pipeline.amqp.link import Link
from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.config.model import Pipeline
from pipeline.errors import ConnectionLost, Nacked, NotConnected, PiperunError, TooLarge, Unroutable, Unwritable
from pipeline.message import Message
from pipeline.runtime.errand import connected
from pipeline.runtime.target import Target
from pipeline.values import Frozen

Kind = Literal["unroutable", "nacked", "refused", "unwritable", "too-large", "not-sent", "unconfirmed", "blocked"]

_SIDE_BY_SIDE = 256  # as many as a publisher leaves unconfirmed
_GRACE = 0.5  # seconds in which the publisher itself can say why nothing went


class Failure(Frozen, frozen=True, kw_only=True):
    """`number` counts from 1 among the messages; `hint` is the way out."""

    number: int
    message_id: str
    kind: Kind
    sentence: str
    hint: str


class Sent(Frozen, frozen=True, kw_only=True):
    """`confirmed` holds ids in their order. After a failure no further message was begun."""

    confirmed: tuple[str, ...]
    failures: tuple[Failure, ...]


def send(pipeline: Pipeline, to: Target, messages: Sequence[Message], *, timeout: float, clock: Clock) -> Sent:
    """All of them in their order, until one fails; none waits longer than `timeout` seconds for its confirm. Raises
    `BrokerError` when the broker cannot be reached."""
    outgoing = [
        Outgoing.of(each, exchange=to.exchange, routing_key=to.routing_key, mandatory=True) for each in messages
    ]
    return asyncio.run(_send(pipeline, outgoing, timeout, clock))


async def _send(pipeline: Pipeline, messages: Sequence[Outgoing], timeout: float, clock: Clock) -> Sent:
    publisher = Publisher(clock=clock, emit=lambda _: None, longest=pipeline.broker.max_message_size)
    async with connected(pipeline, "send", clock, publisher) as link:
        confirmed: list[str] = []
        failures: list[Failure] = []
        for start in range(0, len(messages), _SIDE_BY_SIDE):
            some = messages[start : start + _SIDE_BY_SIDE]
            ends = await asyncio.gather(*(_ended(each, link, publisher, timeout, clock) for each in some))
            for number, (each, end) in enumerate(zip(some, ends, strict=True), start + 1):
                message_id = each.message_id
                if end is None:
                    confirmed.append(message_id)
                else:
                    failures.append(_failure(number, message_id, *end))
            if failures:
                break
        return Sent(confirmed=tuple(confirmed), failures=tuple(failures))


async def _ended(
    outgoing: Outgoing, link: Link, publisher: Publisher, timeout: float, clock: Clock
) -> tuple[Kind, str] | None:
    """None when it is confirmed."""
    try:
        async with clock.deadline(timeout + _GRACE):
            await publisher.send(outgoing, timeout=timeout)
    except TimeoutError:
        return _unconfirmed(outgoing, timeout, blocked=link.blocked)
    except PiperunError as error:
        if link.blocked and not isinstance(error, TooLarge):
            return "blocked", str(error)
        return _kind(error), str(error)
    return None


def _unconfirmed(outgoing: Outgoing, timeout: float, *, blocked: bool) -> tuple[Kind, str]:
    if blocked:
        why = "it takes no messages for now (memory or disk alarm)"
        return "blocked", f"the broker has not confirmed a message to {outgoing} within {timeout:g} s: {why}"
    return "unconfirmed", f"the broker has not confirmed a message to {outgoing} within {timeout:g} s"


def _kind(error: PiperunError) -> Kind:
    match error:
        case Unroutable():
            return "unroutable"
        case Nacked():
            return "nacked"
        case Unwritable():
            return "unwritable"
        case TooLarge():
            return "too-large"
        case NotConnected():
            return "not-sent"
        case ConnectionLost():
            return "unconfirmed"
        case _:
            return "refused"


_WAYS_OUT: dict[Kind, str] = {
    "unroutable": "no such queue, or no binding takes the key: a start of the pipeline declares those of the file",
    "nacked": "see how full it is: `piperun doctor FILE`; a limit with `reject-publish` refuses what is too much",
    "refused": "RabbitMQ's log says more; `piperun doctor FILE` looks at what the file needs there",
    "unwritable": "change the header or property; nothing was sent",
    "too-large": "nothing was sent; `broker.max_message_size` is the file's limit, and the broker has one of its own",
    "not-sent": "nothing was sent; try again",
    "unconfirmed": "it may have arrived: look before you send it again, with the same --message-id",
    "blocked": "it may arrive when the alarm ends: look before you send it again; `rabbitmqctl status` shows alarms",
}


_WAYS_OUT_OF_REFUSALS = {
    "NOT_FOUND": "a start of the pipeline declares the file's exchanges; `piperun doctor FILE` looks",
    "ACCESS_REFUSED": "the right to write is missing: `piperun doctor FILE --rights` prints what the file needs",
    "PRECONDITION_FAILED": "change the property that it names, or send less",
}


def _failure(number: int, message_id: str, kind: Kind, sentence: str) -> Failure:
    refusals = [hint for code, hint in _WAYS_OUT_OF_REFUSALS.items() if kind == "refused" and code in sentence]
    hint = (refusals or [_WAYS_OUT[kind]])[0]
    return Failure(number=number, message_id=message_id, kind=kind, sentence=sentence, hint=hint)
