"""What RabbitMQ's refusals say, read without a broker."""

import pytest

from pipeline.amqp.difference import difference, unequal, wish
from pipeline.config.model import Value
from tests.amqp.parts import exchange, queue

PRECONDITION = "PRECONDITION_FAILED - inequivalent arg '{}' for {} 'x' in vhost '/': received {} but current is {}"


@pytest.mark.parametrize(
    ("attribute", "received", "current", "found", "sentence"),
    [
        ("durable", "'true'", "'false'", False, 'queue "x" is on the broker with durable false, the file says true'),
        (
            "x-message-ttl",
            "'6000'",
            "'5000'",
            5000,
            'queue "x" is on the broker with x-message-ttl 5000, the file says 6000',
        ),
        (
            "x-max-length",
            "none",
            "the value '5' of type 'byte'",
            5,
            'queue "x" is on the broker with x-max-length 5, the file has none',
        ),
        (
            "x-message-ttl",
            "the value '6000' of type 'short'",
            "none",
            None,
            'queue "x" is on the broker without x-message-ttl, the file says 6000',
        ),
        (
            "x-single-active-consumer",
            "none",
            "the value 'true' of type 'bool'",
            True,
            'queue "x" is on the broker with x-single-active-consumer true, the file has none',
        ),
        (
            "x-queue-type",
            "'classic'",
            "'quorum'",
            "quorum",
            'queue "x" is on the broker with x-queue-type quorum, the file says classic',
        ),
        (
            "x-overflow",
            "none",
            "the value '12' of type 'longstr'",
            "12",
            'queue "x" is on the broker with x-overflow 12, the file has none',
        ),
    ],
)
def test_a_refused_queue_names_the_attribute_and_both_values(
    attribute: str, received: str, current: str, found: Value, sentence: str
) -> None:
    wanted = wish(queue("x", arguments={"x-queue-type": "classic", "x-message-ttl": 6000}))

    named = unequal(PRECONDITION.format(attribute, "queue", received, current), wanted)

    assert named == (attribute, found)
    assert difference(wanted, attribute, found).sentence == sentence


def test_a_refused_exchange_names_its_type() -> None:
    wanted = wish(exchange("x", type="topic"))

    named = unequal(PRECONDITION.format("type", "exchange", "'topic'", "'fanout'"), wanted)

    assert named == ("type", "fanout")
    told = difference(wanted, *named)
    assert told.sentence == 'exchange "x" is on the broker with type fanout, the file says topic'
    assert (told.kind, told.name, told.attribute, told.wanted, told.found) == (
        "exchange",
        "x",
        "type",
        "topic",
        "fanout",
    )


@pytest.mark.parametrize(
    "refusal",
    [
        "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'x' in vhost '/': {value_negative,-1}",
        "PRECONDITION_FAILED - inequivalent arg 'x-t' for queue 'x' in vhost '/': received none but current is [{}]",
    ],
)
def test_a_refusal_about_something_else_is_no_difference(refusal: str) -> None:
    assert unequal(refusal, wish(queue("x"))) is None


def test_adopting_the_brokers_values_leaves_the_rest_as_wished() -> None:
    wanted = wish(queue("x", arguments={"x-message-ttl": 6000, "x-max-length": 5}))

    adopted = (
        wanted.adopting("durable", False)
        .adopting("x-message-ttl", 5000)
        .adopting("x-max-length", None)
        .adopting("x-a", 1)
    )

    assert adopted.flags == {"durable": False, "exclusive": False, "auto_delete": False}
    assert adopted.arguments == {"x-message-ttl": 5000, "x-a": 1}
