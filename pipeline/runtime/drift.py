"""What a file wants of exchanges and queues, held against what was seen of them: missing, different, fine, each with a
way out. Pure. How the broker was asked is `examine`'s, how findings are shown the command line's."""

from collections.abc import Iterator, Mapping
from typing import Literal

from pipeline.amqp.difference import Difference
from pipeline.amqp.inspect import Depth, Server, Unseen
from pipeline.config.model import Exchange, Queue
from pipeline.runtime.plan import ConsumerPlan, Plan
from pipeline.runtime.rights import objects
from pipeline.values import Frozen

Level = Literal["error", "warning", "ok"]
Publishing = Literal["taken", "blocked", "forbidden", "unanswered"]

RIGHTS = "`piperun doctor FILE --rights` prints what the file needs"

_NOT_FOUND, _LOCKED = 404, 405


class Finding(Frozen, frozen=True, kw_only=True):
    """`kind` is for programs, `hint` the way out. `differs`: a start of the pipeline would end over it."""

    level: Level
    kind: str
    sentence: str
    hint: str | None = None
    differs: bool = False


class Seen(Frozen, frozen=True, kw_only=True):
    """The live broker. `differences` is None where nothing was compared but names; `publishing` is what became of a
    message that no queue could take."""

    server: Server
    exchanges: Mapping[str, Unseen | None]
    queues: Mapping[str, Depth | Unseen]
    differences: tuple[Difference, ...] | None
    publishing: Publishing


def of_objects(plan: Plan, seen: Seen) -> Iterator[Finding]:
    """One for each object that the file declares, in its order, and one for each difference."""
    for each in objects(plan):
        if isinstance(each, Exchange):
            found = seen.exchanges[each.name]
            yield _there(f'exchange "{each.name}" is there') if found is None else _unseen(each, found)
        else:
            yield _queue(plan, each, seen.queues[each.name])
    yield from _differences(seen)


def _queue(plan: Plan, queue: Queue, found: Depth | Unseen) -> Finding:
    consumers = [each for each in plan.consumers if each.queue.name == queue.name]
    if queue.exclusive and isinstance(found, Unseen) and found.code in (_NOT_FOUND, _LOCKED):
        return _exclusive(queue, found)
    if isinstance(found, Unseen):
        return _unseen(queue, found)
    if consumers and not found.consumers:
        return _nobody_consumes(queue, consumers, found)
    if not consumers and found.ready and queue.name in _dead_letter_queues(plan):
        sentence = f'dead-letter queue "{queue.name}" holds {_messages(found.ready)}'
        hint = f"piperun dlq ls {plan.pipeline.path.name} tells why they failed"
        return Finding(level="warning", kind="dead-letters", sentence=sentence, hint=hint)
    if waits_for := _waits_for(plan, queue.name):
        return _there(f'queue "{queue.name}": {_waiting(found.ready)} on the way back to "{waits_for}"')
    who = f"{found.consumers} consumer{'' if found.consumers == 1 else 's'}"
    return _there(f'queue "{queue.name}": {_waiting(found.ready)}, {who}')


def _nobody_consumes(queue: Queue, consumers: list[ConsumerPlan], found: Depth) -> Finding:
    who = " and ".join(f'"{each.consumer.name}"' for each in consumers)
    sentence = f'queue "{queue.name}": nobody consumes it, which consumer {who} should'
    if not found.ready:
        return Finding(level="warning", kind="not-consumed", sentence=sentence, hint="start the pipeline")
    sentence = f'queue "{queue.name}": {_waiting(found.ready)}, and nobody consumes it, which consumer {who} should'
    hint = "start the pipeline; if it runs, its log says why this consumer does not"
    return Finding(level="error", kind="not-consumed", sentence=sentence, hint=hint)


def _exclusive(queue: Queue, found: Unseen) -> Finding:
    if found.code == _LOCKED:
        return _there(f'queue "{queue.name}" is there, seen by the connection alone that it is exclusive to')
    sentence = f'queue "{queue.name}" is not there: the connection that it is exclusive to is not'
    return Finding(level="warning", kind="not-consumed", sentence=sentence, hint="start the pipeline")


def _unseen(wanted: Exchange | Queue, found: Unseen) -> Finding:
    what = f'{"exchange" if isinstance(wanted, Exchange) else "queue"} "{wanted.name}"'
    match found.code:
        case 404:
            return _missing(wanted, what)
        case 405:
            sentence = f"{what} is exclusive to another connection, and the file says otherwise"
            hint = "rabbitmqctl list_queues name owner_pid tells whose it is; end that, or use another name"
            return Finding(level="error", kind="locked", sentence=sentence, hint=hint, differs=True)
        case 403:
            return Finding(level="error", kind="right", sentence=f"{what}: {found.text}", hint=RIGHTS)
        case _:
            return Finding(level="error", kind="unseen", sentence=f"{what} cannot be asked for: {found.text}")


def _missing(wanted: Exchange | Queue, what: str) -> Finding:
    match wanted.declare:
        case "assert":
            sentence, hint = f"{what} is not there", "a start of the pipeline makes it"
            return Finding(level="warning", kind="missing", sentence=sentence, hint=hint)
        case "check":
            sentence = f"{what} is not there, and `declare: check` does not make it"
            hint = "create it there, or write `declare: assert`: without it a start ends with status 4"
            return Finding(level="error", kind="missing", sentence=sentence, hint=hint, differs=True)
        case "skip":
            sentence = f"{what} is not there, and `declare: skip` leaves it to somebody else"
            return Finding(level="error", kind="missing", sentence=sentence, hint="create it, or `declare: assert`")


def _differences(seen: Seen) -> Iterator[Finding]:
    for each in seen.differences or ():
        if each.forbidden:
            yield Finding(level="error", kind="right", sentence=each.sentence, hint=RIGHTS)
        else:
            hint = "it was made otherwise: `declare: skip` uses it as it is, or give it a new name"
            yield Finding(level="error", kind="differs", sentence=each.sentence, hint=hint, differs=True)


def _there(sentence: str) -> Finding:
    return Finding(level="ok", kind="there", sentence=sentence)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _waiting(count: int) -> str:
    return f"{_messages(count)} wait{'s' if count == 1 else ''}" if count else "no message waits"


def _dead_letter_queues(plan: Plan) -> set[str]:
    from_copies = {each.dead_letter for each in plan.consumers if each.dead_letter}
    return from_copies | {each.dead_letter for each in plan.pipeline.queues if each.dead_letter}


def _waits_for(plan: Plan, name: str) -> str | None:
    """The queue to which messages go back from this one after a delay."""
    return next((each.queue.name for each in plan.consumers if name in each.wait_queues), None)
