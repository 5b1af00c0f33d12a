"""From the model to all that will exist, in order: what is declared, who consumes what, where failures go. Pure: the
whole plan can be printed before anything connects. Connections are not known here."""

from collections.abc import Collection, Mapping
from typing import Literal

from pipeline.config.model import Consumer, Pipeline, Producer, Publish, Queue, Topology
from pipeline.errors import UsageError
from pipeline.failure.queues import dead_letter_of, dead_letter_queues, wait_queues, wait_queues_of
from pipeline.problems import did_you_mean
from pipeline.values import Frozen, replace

# An alarm of the broker blocks connections that publish, and only those; `ack: none` reads without a prefetch limit, so
# it gets a connection that nobody else has to wait on.
LinkName = Literal["publish", "consume", "consume-none"]


class ConsumerPlan(Frozen, frozen=True, kw_only=True):
    consumer: Consumer
    queue: Queue
    dead_letter: str | None  # where failures are copied to; None: they are dropped
    wait_queues: tuple[str, ...]  # where messages wait to be handled again
    plain_publish: Publish  # for what a handler sends where the file says nothing

    @property
    def link(self) -> LinkName:
        return "consume-none" if self.consumer.ack == "none" else "consume"


class Plan(Frozen, frozen=True, kw_only=True):
    """One file. `topologies` says what each connection declares whenever it comes up: the consuming one repeats what
    the publishing one declares, since either may be the first to be back after a restart of the broker."""

    pipeline: Pipeline
    topologies: Mapping[LinkName, Topology]
    consumers: tuple[ConsumerPlan, ...]
    producers: tuple[Producer, ...]

    def topology_of(self, queue: Queue) -> Topology:
        """What one consumer needs again when its queue is gone: the queue, its bindings, what they bind to."""
        sources = {binding.exchange for binding in queue.bindings}
        exchanges = tuple(exchange for exchange in self.pipeline.exchanges if exchange.name in sources)
        return Topology(exchanges=tuple(replace(each, bindings=()) for each in exchanges), queues=(queue,))


def plan(pipeline: Pipeline, *, only: Collection[str] = ()) -> Plan:
    """All that the file asks for. `only` keeps the producers and consumers of these names; everything is declared
    all the same."""
    consumers = tuple(
        _consumer_plan(pipeline, consumer) for consumer in pipeline.consumers if not only or consumer.name in only
    )
    return Plan(
        pipeline=pipeline,
        topologies=_topologies(pipeline, consumers),
        consumers=consumers,
        producers=tuple(each for each in pipeline.producers if not only or each.name in only),
    )


def check_names(pipelines: Collection[Pipeline], only: Collection[str]) -> None:
    """Raises `UsageError` when `--only` names something that no file has."""
    producers = [each.name for pipeline in pipelines for each in pipeline.producers]
    consumers = [each.name for pipeline in pipelines for each in pipeline.consumers]
    known = producers + consumers
    for name in only:
        if name not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(known) or 'none'}"
            raise UsageError(f'--only: no producer or consumer is called "{name}"; {hint}')


def _consumer_plan(pipeline: Pipeline, consumer: Consumer) -> ConsumerPlan:
    queue = next(queue for queue in pipeline.queues if queue.name == consumer.queue)
    return ConsumerPlan(
        consumer=consumer,
        queue=queue,
        dead_letter=dead_letter_of(queue),
        wait_queues=wait_queues_of(consumer),
        plain_publish=pipeline.publish,
    )


def _topologies(pipeline: Pipeline, consumers: Collection[ConsumerPlan]) -> dict[LinkName, Topology]:
    queues = _in_order(pipeline)
    shared = tuple(queue for queue in queues if not queue.exclusive)
    links: list[LinkName] = ["publish", *sorted({each.link for each in consumers})]
    # An exclusive queue belongs to the connection that declared it: only its consumer's may (queue.declare, exclusive).
    home = {each.queue.name: each.link for each in consumers}
    exclusive = {
        link: tuple(q for q in queues if q.exclusive and home.get(q.name, links[-1]) == link) for link in links
    }
    return {
        link: Topology(
            exchanges=pipeline.exchanges, queues=exclusive[link] if link == "consume-none" else shared + exclusive[link]
        )
        for link in links
    }


def _in_order(pipeline: Pipeline) -> tuple[Queue, ...]:
    """A dead-letter queue comes before the queue that points to it, so that no moment exists in which the broker would
    dead-letter into nothing. Wait queues come last, behind the queues that they lead back to."""
    targets = {dead_letter_of(queue) for queue in pipeline.queues} - {None}
    first = [queue for queue in pipeline.queues if queue.name in targets]
    then = [queue for queue in pipeline.queues if queue.name not in targets]
    return (*dead_letter_queues(pipeline), *first, *then, *wait_queues(pipeline))
