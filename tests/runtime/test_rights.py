"""The rights that a file needs, as RabbitMQ asks for them."""

import re

import pytest

from pipeline.config.model import Pipeline, Retry
from pipeline.runtime.plan import plan
from pipeline.runtime.rights import Rights, rights
from tests.amqp.parts import binding, exchange
from tests.models import a_consumer, a_pipeline, a_producer, a_publish, a_queue


def needed(pipeline: Pipeline) -> Rights:
    return rights(plan(pipeline))


BOUND = a_queue("billing", bindings=(binding("orders", "#"),))
DEAD_LETTERED = a_queue(
    "billing",
    arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "failed"},
    dead_letter="failed",
)


@pytest.mark.parametrize(
    ("parts", "configure", "write", "read"),
    [
        # A producer writes to an exchange, which for a queue is the default one
        ({"queues": (a_queue("billing"),), "producers": (a_producer(),)}, "billing", "amq.default", ""),
        (
            {"exchanges": (exchange("orders"),), "producers": (a_producer(publish=a_publish(exchange="orders")),)},
            "orders",
            "orders",
            "",
        ),
        # To bind takes writing to what is bound, and reading what it is bound to
        ({"exchanges": (exchange("orders"),), "queues": (BOUND,)}, "billing orders", "billing", "orders"),
        # A consumer reads; failed messages are copied by name, to a queue that is made
        (
            {"queues": (a_queue("billing"),), "consumers": (a_consumer(),)},
            "billing billing.dlq",
            "amq.default",
            "billing",
        ),
        ({"queues": (a_queue("billing"),), "consumers": (a_consumer(ack="none"),)}, "billing", "", "billing"),
        (
            {"queues": (a_queue("billing", dead_letter=False),), "consumers": (a_consumer(),)},
            "billing",
            "",
            "billing",
        ),
        # What waits to be handled again is copied to a queue that gives it back by name
        (
            {
                "queues": (a_queue("billing", dead_letter=False),),
                "consumers": (a_consumer(retry=Retry(delays=(5.0,), only=(), excluded=(), strategy="broker")),),
            },
            "billing billing.retry.5000ms",
            "amq.default",
            "billing billing.retry.5000ms",
        ),
        # What a handler returns is published
        (
            {
                "queues": (a_queue("billing", dead_letter=False),),
                "exchanges": (exchange("out", declare="skip"),),
                "consumers": (a_consumer(publish=a_publish(exchange="out")),),
            },
            "billing",
            "out",
            "billing",
        ),
        # Whoever points a queue at an exchange could read it, and writes there
        ({"queues": (DEAD_LETTERED, a_queue("failed"))}, "billing failed", "amq.default", "billing"),
        (
            {"exchanges": (exchange("orders", arguments={"alternate-exchange": "lost"}), exchange("lost"))},
            "lost orders",
            "lost",
            "orders",
        ),
        # What is only checked, or left alone
        ({"queues": (a_queue("theirs", declare="check"),)}, "", "", "theirs"),
        ({"queues": (a_queue("theirs", declare="skip"),)}, "", "", ""),
        (
            {
                "queues": (a_queue("billing", declare="check", dead_letter=False),),
                "consumers": (a_consumer(),),
            },
            "",
            "",
            "billing",
        ),
        ({}, "", "", ""),
    ],
)
def test_each_right_is_needed_of_certain_names(parts: dict[str, object], configure: str, write: str, read: str) -> None:
    found = needed(a_pipeline(**parts))
    assert (" ".join(found.configure), " ".join(found.write), " ".join(found.read)) == (configure, write, read)


def test_an_exclusive_queue_of_another_connection_counts_too() -> None:
    pipeline = a_pipeline(queues=(a_queue("mine", exclusive=True),), consumers=(a_consumer(queue="mine", ack="none"),))
    assert needed(pipeline).configure == ("mine",)


def test_patterns_fit_these_names_and_no_others() -> None:
    found = Rights(configure=(), write=("amq.default", "a.b", "a+(b)"), read=("one",))
    assert found.pattern("configure") == "^$"
    assert found.pattern("read") == "^(one)$"
    assert all(re.fullmatch(found.pattern("write"), name) for name in found.write)
    assert not any(re.fullmatch(found.pattern("write"), name) for name in ("a-b", "amqXdefault", "aa(b)", ""))
