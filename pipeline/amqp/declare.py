"""Exchanges, queues and bindings in order, on channels that are thrown away: assert, check, skip. What the broker has
otherwise becomes differences, all of them in one go. Nothing is ever deleted or purged; who needs the objects is not
known here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from aiormq.abc import AbstractChannel as ClientChannel

from pipeline.amqp.difference import Difference, Wish, difference, unequal, wish
from pipeline.amqp.faults import Refused
from pipeline.amqp.generation import Generation
from pipeline.amqp.scratch import Scratch
from pipeline.config.model import Binding, Exchange, Queue, Topology
from pipeline.errors import BrokerError, ConnectionLost

__all__ = ["Difference", "Topology", "compare", "declare"]

_FORBIDDEN, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 406
_MOST_CHANNELS: Final = 8  # three times as fast as one; sixteen are not faster
_OBJECTS_FOR_A_CHANNEL: Final = 10
_ROUNDS = 32  # more attributes than any object has: each round adopts one of the broker's values

Object = Exchange | Queue
_Ask = Callable[[Scratch, Object], Awaitable[list[Difference]]]


async def compare(generation: Generation, topology: Topology) -> tuple[Difference, ...]:
    """What exists and is not as the file says, and what is to be checked and does not exist. Makes nothing, with one
    exception: an object that vanishes between being found and being compared is made as the file says."""
    async with _channels(generation, topology) as channels:
        wanted = [each for each in topology.objects if each.declare != "skip"]
        return tuple(await _for_each(wanted, _compared, channels))


async def declare(generation: Generation, topology: Topology) -> tuple[Difference, ...]:
    """All exchanges, then queues, then bindings. What cannot be declared is in the answer and does not keep the rest
    from it. Safe to call again. Raises `ConnectionLost`."""
    async with _channels(generation, topology) as channels:
        differences = await _for_each(topology.exchanges, _declared, channels)
        differences += await _for_each(topology.queues, _declared, channels)
        trouble = {(each.kind, each.name) for each in differences}
        to_bind = [
            each
            for each in topology.objects
            if each.bindings and each.declare == "assert" and (wish(each).kind, each.name) not in trouble
        ]
        differences += await _for_each(to_bind, _bound, channels)
    _remember(generation, topology.queues, differences)
    return tuple(differences)


# Many at a time: a broker that waits for its disk or for its other nodes over one of them goes on with the others


@asynccontextmanager
async def _channels(generation: Generation, topology: Topology) -> AsyncIterator[Sequence[Scratch]]:
    """One, and one more for each ten objects, as far as more are of use. Each is opened when it is first needed."""
    of_use = 1 + len(topology.objects) // _OBJECTS_FOR_A_CHANNEL
    number = min(of_use, _MOST_CHANNELS, generation.most_channels)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Scratch(generation)) for _ in range(number)]


async def _for_each(wanted: Sequence[Object], ask: _Ask, channels: Sequence[Scratch]) -> list[Difference]:
    """What came of asking for each, in their order. A channel that is free takes the next."""
    found: list[list[Difference]] = [[] for _ in wanted]
    left = iter(enumerate(wanted))

    async def some(scratch: Scratch) -> None:
        for number, each in left:
            found[number] = await ask(scratch, each)

    ended = await asyncio.gather(*map(some, channels[: len(wanted)]), return_exceptions=True)
    errors = [each for each in ended if each is not None]
    if any(isinstance(error, ConnectionLost) for error in errors):
        await _acquit(wanted, channels[0])
    if errors:
        raise errors[0]
    return [difference for differences in found for difference in differences]


async def _acquit(asked: Sequence[Object], scratch: Scratch) -> None:
    """The broker has ended the connection over one object, and does not say which: all that were asked for just then
    are under suspicion. The innocent are found by asking for each on a connection of its own."""
    suspects = [each for each in map(wish, asked) if (each.kind, each.name) in scratch.fatal]
    if len(suspects) > 1:
        for each in suspects:
            with contextlib.suppress(ConnectionLost, BrokerError, Refused):
                await _declare_apart(scratch, each)


# Objects


async def _declared(scratch: Scratch, wanted: Exchange | Queue) -> list[Difference]:
    match wanted.declare:
        case "skip":
            return []
        case "check":
            return await _compared(scratch, wanted)
        case "assert":
            return await _asserted(scratch, wish(wanted))


async def _compared(scratch: Scratch, wanted: Exchange | Queue) -> list[Difference]:
    """A passive declare looks at the name only, so an ordinary one follows: no effect where all is equal."""
    ours = wish(wanted)
    try:
        await scratch.ask(f"a look at {ours}", partial(_declare, wanted=ours, passive=True))
    except Refused as refusal:
        if refusal.code != _NOT_FOUND:
            return [_refused(ours, refusal)]
        return [_missing(ours)] if wanted.declare == "check" else []
    except ValueError as error:
        return [_unspeakable(ours, error)]
    differences = await _asserted(scratch, ours)
    # Who may not configure can see whether it is there, and no more.
    return [each for each in differences if not (each.forbidden and wanted.declare == "check")]


async def _asserted(scratch: Scratch, wanted: Wish) -> list[Difference]:
    """A refusal names one difference; adopting the broker's value and asking again names the next."""
    if (why := scratch.fatal.get((wanted.kind, wanted.name))) is not None:
        return await _asserted_apart(scratch, wanted, why)
    differences: list[Difference] = []
    asked = wanted
    for _ in range(_ROUNDS):
        try:
            await scratch.ask(f"the declaration of {wanted}", partial(_declare, wanted=asked))
            break
        except ConnectionLost:
            if (refusal := await scratch.refusal()) is not None:
                scratch.fatal[wanted.kind, wanted.name] = _over(wanted, refusal)
            raise
        except ValueError as error:
            return [_unspeakable(wanted, error)]
        except Refused as refusal:
            named = unequal(refusal.text, asked) if refusal.code == _PRECONDITION_FAILED else None
            if named is None or asked.adopting(*named) == asked:
                return differences or [_refused(wanted, refusal)]
            attribute, found = named
            differences.append(difference(wanted, attribute, found))
            asked = asked.adopting(attribute, found)
    return differences


async def _asserted_apart(scratch: Scratch, wanted: Wish, why: str) -> list[Difference]:
    """For what the broker has ended a connection over: asked for on one of its own, since it would cost all that lives
    on this one. If somebody else has made it, it is taken as it is."""
    try:
        await scratch.ask(f"a look at {wanted}", partial(_declare, wanted=wanted, passive=True))
        return []
    except Refused as refusal:
        if refusal.code != _NOT_FOUND:
            return [_refused(wanted, refusal)]
    try:
        await _declare_apart(scratch, wanted)
    except (ConnectionLost, BrokerError):
        return [Difference(kind=wanted.kind, name=wanted.name, sentence=why)]
    except Refused as refusal:
        return [_refused(wanted, refusal)]
    return []


async def _declare_apart(scratch: Scratch, wanted: Wish) -> None:
    """Raises `Refused`, and `ConnectionLost` or `BrokerError` where it costs this connection, too. What does not may be
    asked for anywhere from now on."""
    async with scratch.apart() as other:
        try:
            await other.ask(f"the declaration of {wanted}", partial(_declare, wanted=wanted))
        except Refused:
            scratch.fatal.pop((wanted.kind, wanted.name), None)
            raise
    scratch.fatal.pop((wanted.kind, wanted.name), None)


async def _declare(channel: ClientChannel, wanted: Wish, *, passive: bool = False) -> None:
    flags: dict[str, Any] = {
        ("exchange_type" if name == "type" else name): value for name, value in wanted.flags.items()
    }
    ask: Any = channel.exchange_declare if wanted.kind == "exchange" else channel.queue_declare
    await ask(wanted.name, **flags, arguments=dict(wanted.arguments), passive=passive)


# Bindings


async def _bound(scratch: Scratch, wanted: Exchange | Queue) -> list[Difference]:
    differences = []
    for binding in wanted.bindings:
        try:
            await scratch.ask(f"a binding of {wish(wanted)}", partial(_bind, wanted=wanted, binding=binding))
        except Refused as refusal:
            differences.append(_unbound(wish(wanted), binding, refusal))
        except ValueError as error:
            differences.append(_unspeakable(wish(wanted), error))
    return differences


async def _bind(channel: ClientChannel, wanted: Exchange | Queue, binding: Binding) -> None:
    bind: Any = channel.exchange_bind if isinstance(wanted, Exchange) else channel.queue_bind
    await bind(wanted.name, binding.exchange, binding.routing_key, arguments=dict(binding.arguments))


# Sentences


def _refused(wanted: Wish, refusal: Refused) -> Difference:
    match refusal.code:
        case 403:
            why = f"may not be declared, a right is missing: {refusal.text}; grant it, or write `declare: skip`"
        case 405:
            why = "cannot be used: it is exclusive to another connection, or not exclusive as the file says"
        case _:
            why = f"was refused by the broker: {refusal.text}"
    forbidden = refusal.code == _FORBIDDEN
    return Difference(kind=wanted.kind, name=wanted.name, sentence=f"{wanted} {why}", forbidden=forbidden)


def _over(wanted: Wish, refusal: str) -> str:
    transient = wanted.kind == "queue" and not (wanted.flags.get("durable") or wanted.flags.get("exclusive"))
    way_out = "; write `durable: true`, or `exclusive: true`" if transient else ""
    return f"{wanted} cannot be declared, the broker ends the connection over it: {refusal.rstrip('.')}{way_out}"


def _unbound(wanted: Wish, binding: Binding, refusal: Refused) -> Difference:
    sentence = f'{wanted} cannot be bound to exchange "{binding.exchange}": {refusal.text}'
    return Difference(
        kind="exchange",
        name=binding.exchange,
        sentence=sentence,
        missing=refusal.code == _NOT_FOUND,
        forbidden=refusal.code == _FORBIDDEN,
    )


def _missing(wanted: Wish) -> Difference:
    sentence = f"{wanted} is not on the broker, and `declare: check` does not make it"
    return Difference(kind=wanted.kind, name=wanted.name, sentence=sentence, missing=True)


def _unspeakable(wanted: Wish, error: ValueError) -> Difference:
    sentence = f"{wanted} cannot be asked for: {error} (names are ASCII letters, digits, spaces and -_.:@#,/+)"
    return Difference(kind=wanted.kind, name=wanted.name, sentence=sentence)


def _remember(generation: Generation, queues: Iterable[Queue], differences: Sequence[Difference]) -> None:
    """For the consumers of this generation: which queues are not theirs to consume from."""
    for queue in queues:
        generation.conflicts.pop(queue.name, None)
    for each in differences:
        if each.kind == "queue":
            generation.conflicts.setdefault(each.name, each.sentence)
