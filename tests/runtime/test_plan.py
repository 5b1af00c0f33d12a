"""What a file comes to before anything connects: who consumes what, what is declared where and in which order."""

from typing import Any

import pytest

from pipeline.config.model import Binding, Exchange, Pipeline
from pipeline.errors import UsageError
from pipeline.runtime.plan import check_names, plan
from tests.models import a_consumer, a_pipeline, a_producer, a_publish, a_queue, a_retry


def an_exchange(name: str, **changes: Any) -> Exchange:
    values: dict[str, Any] = {"key": name, "name": name, "type": "topic", "durable": True, "auto_delete": False}
    values |= {"internal": False, "arguments": {}, "bindings": (), "declare": "assert"}
    return Exchange(**{**values, **changes})


def declared(pipeline: Pipeline, **options: Any) -> dict[str, list[str]]:
    """The queues of each connection, in order."""
    planned = plan(pipeline, **options)
    return {link: [queue.name for queue in topology.queues] for link, topology in planned.topologies.items()}


@pytest.mark.parametrize(
    ("dead_letter", "target"), [(None, "billing.dlq"), ("failed", "failed"), (False, None)], ids=str
)
def test_a_consumer_knows_its_queue_and_where_failures_go(dead_letter: Any, target: str | None) -> None:
    queue = a_queue("billing", dead_letter=dead_letter)
    pipeline = a_pipeline(queues=(a_queue("other"), queue), consumers=(a_consumer(),), publish=a_publish(priority=3))
    (planned,) = plan(pipeline).consumers
    assert (planned.consumer, planned.queue, planned.dead_letter) == (a_consumer(), queue, target)
    assert planned.plain_publish == a_publish(priority=3)


@pytest.mark.parametrize(
    ("acks", "links"),
    [
        ([], ["publish"]),
        (["on_success"], ["publish", "consume"]),
        (["manual", "on_success"], ["publish", "consume"]),
        (["none"], ["publish", "consume-none"]),
        (["none", "on_success"], ["publish", "consume", "consume-none"]),
    ],
)
def test_there_is_a_connection_for_each_way_of_working(acks: list[str], links: list[str]) -> None:
    consumers = tuple(a_consumer(f"c{number}", ack=ack) for number, ack in enumerate(acks))
    planned = plan(a_pipeline(queues=(a_queue("billing"),), consumers=consumers))
    assert list(planned.topologies) == links
    assert [each.link for each in planned.consumers] == ["consume-none" if ack == "none" else "consume" for ack in acks]


def test_a_dead_letter_queue_comes_before_the_queue_that_points_to_it() -> None:
    queues = (a_queue("billing", dead_letter="failed"), a_queue("orders"), a_queue("failed"), a_queue("invoices"))
    consumers = (a_consumer("a", queue="orders"), a_consumer("b"))
    both = ["orders.dlq", "failed", "billing", "orders", "invoices"]
    assert declared(a_pipeline(queues=queues, consumers=consumers)) == {"publish": both, "consume": both}


def test_a_wait_queue_comes_after_the_queue_that_it_leads_back_to() -> None:
    consumers = (a_consumer(retry=a_retry(5.0, 60.0)),)
    pipeline = a_pipeline(queues=(a_queue("billing"), a_queue("orders")), consumers=consumers)
    both = ["billing.dlq", "billing", "orders", "billing.retry.5000ms", "billing.retry.60000ms"]
    assert declared(pipeline) == declared(pipeline, only=["nightly"]) | {"consume": both}
    assert declared(pipeline)["publish"] == both
    assert plan(pipeline).consumers[0].wait_queues == ("billing.retry.5000ms", "billing.retry.60000ms")


def test_an_exclusive_queue_is_declared_only_where_it_is_consumed() -> None:
    queues = (a_queue("shared"), a_queue("mine", exclusive=True), a_queue("quick", exclusive=True))
    consumers = (a_consumer("a", queue="mine"), a_consumer("b", queue="quick", ack="none"))
    assert declared(a_pipeline(queues=queues, consumers=consumers)) == {
        "publish": ["mine.dlq", "shared"],
        "consume": ["mine.dlq", "shared", "mine"],
        "consume-none": ["quick"],
    }


def test_every_connection_knows_the_exchanges() -> None:
    exchanges = (an_exchange("orders"), an_exchange("audit"))
    pipeline = a_pipeline(exchanges=exchanges, queues=(a_queue("billing"),), consumers=(a_consumer(ack="none"),))
    assert all(topology.exchanges == exchanges for topology in plan(pipeline).topologies.values())


def test_a_queue_that_is_declared_again_brings_its_bindings_and_what_they_bind_to() -> None:
    to_orders = Binding(exchange="orders", routing_key="#", arguments={})
    orders, audit = an_exchange("orders", bindings=(to_orders,)), an_exchange("audit")
    queue = a_queue("billing", bindings=(to_orders,))
    pipeline = a_pipeline(exchanges=(audit, orders), queues=(queue,), consumers=(a_consumer(),))
    topology = plan(pipeline).topology_of(queue)
    assert topology.queues == (queue,)
    assert topology.exchanges == (an_exchange("orders"),)  # its own bindings may lead to what is not there


def test_only_keeps_who_was_named_and_declares_everything_all_the_same() -> None:
    pipeline = a_pipeline(
        queues=(a_queue("billing"), a_queue("orders")),
        producers=(a_producer("nightly"), a_producer("hourly")),
        consumers=(a_consumer("charge"), a_consumer("audit", queue="orders", ack="none")),
    )
    planned = plan(pipeline, only=["charge", "hourly"])
    assert [each.consumer.name for each in planned.consumers] == ["charge"]
    assert [each.name for each in planned.producers] == ["hourly"]
    everything = ["billing.dlq", "billing", "orders"]
    assert declared(pipeline, only=["charge", "hourly"]) == {"publish": everything, "consume": everything}
    assert declared(pipeline, only=["hourly"]) == {"publish": everything}


@pytest.mark.parametrize("only", [[], ["nightly"], ["charge", "audit"]])
def test_names_of_producers_and_consumers_of_all_files_are_known(only: list[str]) -> None:
    check_names(
        [a_pipeline(producers=(a_producer(),)), a_pipeline(consumers=(a_consumer(), a_consumer("audit")))], only
    )


@pytest.mark.parametrize(
    ("consumers", "said"),
    [
        (["charge"], '--only: no producer or consumer is called "chrage"; did you mean "charge"?'),
        (["print", "log"], '--only: no producer or consumer is called "chrage"; there are print, log'),
        ([], '--only: no producer or consumer is called "chrage"; there are none'),
    ],
)
def test_a_name_that_nobody_has_is_told_with_those_that_are(consumers: list[str], said: str) -> None:
    pipeline = a_pipeline(consumers=tuple(a_consumer(name) for name in consumers))
    with pytest.raises(UsageError) as raised:
        check_names([pipeline], ["chrage"])
    assert str(raised.value) == said
