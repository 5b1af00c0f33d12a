"""How a run stands as Prometheus text (format 0.0.4), written when asked. Pure. Nothing is counted for it: every number
is in the ledgers already. Written by hand: the format is a dozen lines, and the client library would bring a registry
where nothing is to be registered. The tests read it with that library's parser."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from pipeline.ledger import CONSUMER_TERMS, DUPLICATES
from pipeline.observe.health import Process, Status, why_not_ready

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Metric(NamedTuple):
    kind: Literal["counter", "gauge"]
    help: str
    values: Callable[[Status], Mapping[Labels, int]]


def text(status: Status) -> str:
    return "".join(line + "\n" for name, metric in METRICS.items() for line in _lines(name, metric, status))


def _lines(name: str, metric: Metric, status: Status) -> Iterator[str]:
    values = metric.values(status)
    if values:
        yield f"# HELP {name} {metric.help}"
        yield f"# TYPE {name} {metric.kind}"
    for labels, value in values.items():
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        yield f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# Where the values come from


def _of_consumers(term: str) -> Callable[[Status], Mapping[Labels, int]]:
    return lambda status: {
        (("pipeline", each.pipeline), ("consumer", each.name)): each.terms[term] for each in status.consumers
    }


def _of_producers(term: str) -> Callable[[Status], Mapping[Labels, int]]:
    return lambda status: {
        (("pipeline", each.pipeline), ("producer", each.name)): each.terms[term] for each in status.producers
    }


def _alone(value: Callable[[Status], int | None]) -> Callable[[Status], Mapping[Labels, int]]:
    def values(status: Status) -> Mapping[Labels, int]:
        found = value(status)
        return {} if found is None else {(): found}

    return values


def _running(status: Status) -> list[Process]:
    return [each for each in status.processes if each.phase != "dead"]


def _connections(number: Literal["up", "blocked", "reconnects"]) -> Callable[[Status], Mapping[Labels, int]]:
    def values(status: Status) -> Mapping[Labels, int]:
        sums: dict[Labels, int] = {}
        for process in status.processes:
            for each in process.connections:
                labels = (("pipeline", each.pipeline), ("connection", each.name))
                # What a dead process has left behind is up no more; what it has counted stays.
                counts = process.phase != "dead" or number == "reconnects"
                sums[labels] = sums.get(labels, 0) + (int(getattr(each, number)) if counts else 0)
        return sums

    return values


def _registered(state: Literal["registered", "paused"]) -> Callable[[Status], Mapping[Labels, int]]:
    def values(status: Status) -> Mapping[Labels, int]:
        sums: dict[Labels, int] = {}
        for process in status.processes:
            for each in process.consumers:
                labels = (("pipeline", each.pipeline), ("consumer", each.consumer))
                sums[labels] = sums.get(labels, 0) + (process.phase != "dead" and each.state == state)
        return sums

    return values


# Every metric, in the order in which they are written

_MEANINGS = {
    "delivered": "Messages that the broker has delivered.",
    "done": "Messages that were handled and acknowledged.",
    "retried": "Messages that failed and wait for another attempt.",
    "dead_lettered": "Messages that went to the dead-letter queue.",
    "dropped": "Messages that failed and are LOST.",
    "returned": "Messages that were given back to the broker.",
    "redelivery_expected": "Messages whose channel or process ended first: the broker delivers them again.",
}
assert tuple(_MEANINGS) == CONSUMER_TERMS

METRICS: Mapping[str, Metric] = {
    "piperun_ready": Metric("gauge", "1 where /readyz says ready.", _alone(lambda s: int(not why_not_ready(s)))),
    **{
        f"piperun_consumer_{term}_total": Metric("counter", meaning, _of_consumers(term))
        for term, meaning in _MEANINGS.items()
    },
    "piperun_consumer_in_hand": Metric(
        "gauge", "Messages delivered of which nothing has become yet.", _of_consumers("in_hand")
    ),
    f"piperun_consumer_{DUPLICATES}_total": Metric(
        "counter",
        "Messages that were recognised and not handled again; done counts them, too.",
        _of_consumers(DUPLICATES),
    ),
    "piperun_consumer_registered": Metric(
        "gauge", "In how many processes the consumer is registered at the broker.", _registered("registered")
    ),
    "piperun_consumer_paused": Metric(
        "gauge", "In how many processes it takes no more for the moment, with `ack: none`.", _registered("paused")
    ),
    # No counter: when a worker dies, what it had read and not sent is taken back and read again.
    "piperun_producer_read": Metric("gauge", "Items read from the source.", _of_producers("read")),
    "piperun_producer_confirmed_total": Metric(
        "counter", "Messages that the broker has confirmed.", _of_producers("confirmed")
    ),
    "piperun_producer_failed_total": Metric("counter", "Items that could not be sent.", _of_producers("failed")),
    "piperun_producer_pending": Metric("gauge", "Items read and not confirmed yet.", _of_producers("pending")),
    "piperun_connection_up": Metric("gauge", "In how many processes the connection is up.", _connections("up")),
    "piperun_connection_blocked": Metric(
        "gauge", "In how many processes an alarm of the broker blocks the connection.", _connections("blocked")
    ),
    "piperun_connection_reconnects_total": Metric(
        "counter", "How often the connection was lost and made again.", _connections("reconnects")
    ),
    "piperun_processes_wanted": Metric(
        "gauge", "How many processes run all consumers: the workers, or 1.", _alone(lambda s: len(s.processes))
    ),
    "piperun_processes_running": Metric("gauge", "How many of them live.", _alone(lambda s: len(_running(s)))),
    "piperun_worker_restarts_total": Metric(
        "counter", "How often a dead worker was started again.", _alone(lambda s: s.restarts)
    ),
}
