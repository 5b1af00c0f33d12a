"""`validate` refuses the arguments of a queue exactly where the embedded broker does, which answers as RabbitMQ does.
Each knows them by tables of its own, since a file is checked without a broker."""

import json

import pytest
from pamqp.commands import Queue

from pipeline.embedded.ground.versions import VERSIONS
from tests.config.loading import loaded
from tests.embedded.conversation import Talk, methods, new_node

VALUES: dict[str, list[str | int]] = {
    "x-consumer-timeout": [60_000],
    "x-dead-letter-exchange": [""],
    "x-dead-letter-routing-key": ["dead"],
    "x-dead-letter-strategy": ["at-most-once", "sometimes"],
    "x-delayed-retry-max": [5],
    "x-delayed-retry-min": [5],
    "x-delayed-retry-type": ["failed"],
    "x-delivery-limit": [5],
    "x-expires": [1, 0, -1, "5"],
    "x-initial-cluster-size": [3],
    "x-max-age": ["1D"],
    "x-max-in-memory-bytes": [0, -1],
    "x-max-in-memory-length": [0, -1],
    "x-max-length": [0, -1],
    "x-max-length-bytes": [0, -1],
    "x-max-priority": [0, 255, 256, -1],
    "x-message-ttl": [0, -1, True],
    "x-overflow": ["drop-head", "reject-publish", "reject-publish-dlx", "reject"],
    "x-queue-leader-locator": ["balanced", "nowhere"],
    "x-queue-master-locator": ["min-masters"],
    "x-queue-mode": ["lazy"],
    "x-queue-version": [1, 2, 3],
    "x-quorum-initial-group-size": [1, 0],
    "x-single-active-consumer": [True, "yes"],
    "x-stream-filter-size-bytes": [16],
    "x-stream-max-segment-size-bytes": [1000],
    "x-unheard-of": [1],
}
CASES = [(argument, value) for argument, values in VALUES.items() for value in values]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize(("argument", "value"), CASES)
def test_both_refuse_the_same_arguments(version: str, kind: str, argument: str, value: str | int) -> None:
    arguments = json.dumps({argument: value})
    file = f"""
        broker: {{version: "{version}"}}
        queues: {{q: {{type: {kind}, dead_letter: false, arguments: {arguments}}}}}
        """
    refused_by_validate = loaded(file).has_errors

    talk = Talk(new_node(rabbitmq_version=version)).open()
    declare = Queue.Declare(0, "q", durable=True, arguments={"x-queue-type": kind, argument: value})
    assert (methods(talk.say(1, declare)) != ["Queue.DeclareOk"]) is refused_by_validate
