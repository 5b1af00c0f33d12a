"""Which dead-letter queues are made beside what a file declares, and how."""

from typing import Any

import pytest

from pipeline.config.model import Declare
from pipeline.failure.queues import dead_letter_of, dead_letter_queues
from tests.models import a_consumer, a_pipeline, a_queue


@pytest.mark.parametrize(
    ("dead_letter", "target"), [(None, "billing.dlq"), ("failed", "failed"), (False, None)], ids=str
)
def test_where_failures_of_a_queue_go(dead_letter: Any, target: str | None) -> None:
    assert dead_letter_of(a_queue("billing", dead_letter=dead_letter)) == target


@pytest.mark.parametrize(
    ("queues", "consumers", "made"),
    [
        # A consumer that can fail needs one,
        ([a_queue("billing")], [a_consumer()], ["billing.dlq"]),
        ([a_queue("billing")], [a_consumer(ack="manual")], ["billing.dlq"]),
        # once, however many they are.
        ([a_queue("billing")], [a_consumer("a"), a_consumer("b")], ["billing.dlq"]),
        # With `ack: none` nothing can be copied,
        ([a_queue("billing")], [a_consumer(ack="none")], []),
        ([a_queue("billing")], [a_consumer("a", ack="none"), a_consumer("b")], ["billing.dlq"]),
        # nobody consumes it,
        ([a_queue("billing")], [], []),
        # or failures are dropped.
        ([a_queue("billing", dead_letter=False)], [a_consumer()], []),
        # What the file declares itself is not made again,
        ([a_queue("billing", dead_letter="failed"), a_queue("failed")], [a_consumer()], []),
        ([a_queue("billing"), a_queue("billing.dlq")], [a_consumer()], []),
        # what it only names is made, also where nobody consumes: the broker itself dead-letters there.
        ([a_queue("billing", dead_letter="failed")], [a_consumer()], ["failed"]),
        ([a_queue("billing", dead_letter="failed")], [], ["failed"]),
        # Two queues may share one.
        ([a_queue("a", dead_letter="failed"), a_queue("b", dead_letter="failed")], [], ["failed"]),
    ],
)
def test_a_dead_letter_queue_is_made_where_a_message_could_go_there(
    queues: list[Any], consumers: list[Any], made: list[str]
) -> None:
    pipeline = a_pipeline(queues=tuple(queues), consumers=tuple(consumers))
    assert [queue.name for queue in dead_letter_queues(pipeline)] == made


@pytest.mark.parametrize("declare", ["assert", "check", "skip"])
def test_it_is_classic_durable_and_without_any_end(declare: Declare) -> None:
    pipeline = a_pipeline(queues=(a_queue("billing", type="quorum"),), consumers=(a_consumer(),), declare=declare)
    (made,) = dead_letter_queues(pipeline)
    assert made == a_queue("billing.dlq", dead_letter=False, declare=declare)
