"""Which wait queues are made for a `retry`, and how: the whole set of arguments, since RabbitMQ refuses to declare a
queue again with others."""

from typing import Any

import pytest

from pipeline.config.model import Declare
from pipeline.failure.queues import wait_queues, wait_queues_of
from tests.models import a_consumer, a_pipeline, a_queue, a_retry

CLASSIC = {"x-queue-type": "classic", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "billing"}
QUORUM = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "billing",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-delivery-limit": 50,
}


def made(*consumers: Any, **changes: Any) -> list[Any]:
    queues = (a_queue("billing", **changes), a_queue("orders"))
    return list(wait_queues(a_pipeline(queues=queues, consumers=consumers)))


@pytest.mark.parametrize(("kind", "arguments"), [("classic", CLASSIC), ("quorum", QUORUM)])
@pytest.mark.parametrize("declare", ["assert", "check", "skip"])
def test_one_for_each_delay_of_the_same_type_and_back_by_name(
    kind: Any, arguments: dict[str, Any], declare: Declare
) -> None:
    queue = a_queue("billing", type=kind, declare="skip", durable=True)
    consumer = a_consumer(retry=a_retry(5.0, 60.0, 600.0))
    pipeline = a_pipeline(queues=(queue,), consumers=(consumer,), declare=declare)
    assert wait_queues(pipeline) == tuple(
        a_queue(
            f"billing.retry.{milliseconds}ms",
            type=kind,
            arguments={**arguments, "x-message-ttl": milliseconds},
            dead_letter=False,
            declare=declare,
        )
        for milliseconds in (5_000, 60_000, 600_000)
    )


@pytest.mark.parametrize(
    ("delays", "names"),
    [
        ([0.001], ["billing.retry.1ms"]),
        ([0.1, 0.2, 0.1, 0.2], ["billing.retry.100ms", "billing.retry.200ms"]),
        ([0.29], ["billing.retry.290ms"]),  # which is 0.28999999999999998 as a float
        ([4_294_967.295], ["billing.retry.4294967295ms"]),
    ],
)
def test_each_delay_has_one_queue_named_by_its_milliseconds(delays: list[float], names: list[str]) -> None:
    consumer = a_consumer(retry=a_retry(*delays))
    assert [queue.name for queue in made(consumer)] == list(wait_queues_of(consumer)) == names
    assert [queue.arguments["x-message-ttl"] for queue in made(consumer)] == [
        int(name.split(".")[-1].removesuffix("ms")) for name in names
    ]


def test_consumers_of_one_queue_share_what_they_have_in_common() -> None:
    a, b = a_consumer("a", retry=a_retry(5.0, 60.0)), a_consumer("b", retry=a_retry(60.0, 90.0))
    other = a_consumer("c", queue="orders", retry=a_retry(5.0))
    assert [queue.name for queue in made(a, b, other)] == [
        "billing.retry.5000ms",
        "billing.retry.60000ms",
        "billing.retry.90000ms",
        "orders.retry.5000ms",
    ]


@pytest.mark.parametrize("retry", [None, a_retry(5.0, strategy="native"), a_retry(5.0, strategy="inline")])
def test_without_retry_and_with_other_strategies_there_are_none(retry: Any) -> None:
    assert made(a_consumer(retry=retry)) == []
    assert wait_queues_of(a_consumer(retry=retry)) == ()


def test_what_is_not_durable_waits_in_what_is() -> None:
    (queue,) = made(a_consumer(retry=a_retry(5.0)), durable=False, exclusive=True, auto_delete=True)
    assert (queue.durable, queue.exclusive, queue.auto_delete) == (True, False, False)
