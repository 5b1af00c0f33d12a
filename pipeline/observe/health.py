"""How a run stands, as plain values, and whether that is ready: the reasons why not, in words. Pure. Where the values
come from, and who asks, is not known here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pipeline.values import Frozen

Phase = Literal["starting", "ready", "stopping", "dead"]
# `waiting`: for its connection, or for the broker's answer. `paused`: with `ack: none`, by ourselves.
Registration = Literal["waiting", "registered", "paused", "interrupted", "conflict"]

_MOST_REASONS = 100


class Connection(Frozen, frozen=True, kw_only=True):
    """One connection of one process."""

    pipeline: str
    name: str  # publish, consume, ...
    up: bool
    blocked: bool
    reconnects: int
    reason: str  # why it is down


class Registered(Frozen, frozen=True, kw_only=True):
    """One consumer in one process, as the broker has it."""

    pipeline: str
    consumer: str
    queue: str
    state: Registration
    reason: str  # why it is not registered


class Process(Frozen, frozen=True, kw_only=True):
    name: str  # `worker 2`; empty where there is one process only
    phase: Phase
    reason: str  # why it died
    connections: tuple[Connection, ...]
    consumers: tuple[Registered, ...]


class Numbers(Frozen, frozen=True, kw_only=True):
    """What one consumer or producer has counted, added up over the processes: the terms of its ledger."""

    pipeline: str
    name: str
    terms: Mapping[str, int]


class Status(Frozen, frozen=True, kw_only=True):
    """A whole run at one moment."""

    stopping: bool
    processes: tuple[Process, ...]
    restarts: int | None  # of workers; None where there are none
    consumers: tuple[Numbers, ...]
    producers: tuple[Numbers, ...]


def why_not_ready(status: Status) -> Sequence[str]:
    """A sentence for each reason; none: ready."""
    if status.stopping:
        return ["the run is stopping"]
    found = [reason for process in status.processes for reason in _of_process(process)]
    more = len(found) - _MOST_REASONS
    return [*found[:_MOST_REASONS], *([f"and {more} more"] if more > 0 else [])]


def _of_process(process: Process) -> Iterator[str]:
    who = process.name or "the run"
    before = f"{process.name}: " if process.name else ""
    if process.phase == "dead":
        yield f"{who} has died ({process.reason}) and is started again"
        return
    if process.phase != "ready":
        yield f"{who} is {process.phase}"
    # While it starts, or stops, only what went wrong is of interest.
    silent = process.phase != "ready"
    for connection in process.connections:
        if (why := _of_connection(connection)) and (connection.reason or not silent):
            yield before + why
    for consumer in process.consumers:
        if (why := _of_consumer(consumer)) and (consumer.reason or not silent):
            yield before + why


def _of_connection(connection: Connection) -> str | None:
    which = f"{connection.pipeline}: the {connection.name} connection"
    if not connection.up:
        return f"{which} is down: {connection.reason or 'not connected yet'}"
    if connection.blocked:
        return f"{which} is blocked by the broker (memory or disk alarm)"
    return None


def _of_consumer(consumer: Registered) -> str | None:
    who = f'{consumer.pipeline}: consumer "{consumer.consumer}"'
    match consumer.state:
        case "registered" | "paused":
            return None
        case "conflict":
            return f"{who} is in conflict: {consumer.reason}"
        case "interrupted":
            return f'{who} does not consume from queue "{consumer.queue}": {consumer.reason}'
        case "waiting":
            return f'{who} is not registered at queue "{consumer.queue}" yet'
