"""Where a message that is sent by hand goes: the names of the file, and what is said of any other."""

import pytest

from pipeline.config.model import Exchange, Pipeline
from pipeline.errors import UsageError
from pipeline.runtime.target import Target, target
from tests.models import a_consumer, a_pipeline, a_queue


def an_exchange(key: str, kind: str, **changes: object) -> Exchange:
    values = {"name": key, "durable": True, "auto_delete": False, "internal": False, "arguments": {}, "bindings": ()}
    return Exchange(**{"key": key, "type": kind, "declare": "assert", **values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def shop() -> Pipeline:
    return a_pipeline(
        exchanges=(
            an_exchange("orders", "topic"),
            an_exchange("news", "fanout", name="shop.news"),
            an_exchange("inner", "topic", internal=True),
        ),
        queues=(a_queue("billing"), a_queue("shop.invoices", key="invoices")),
        consumers=(a_consumer(queue="billing"),),
    )


@pytest.mark.parametrize(
    ("words", "to", "said"),
    [
        ({"queue": "billing"}, ("", "billing"), 'queue "billing"'),
        ({"queue": "invoices"}, ("", "shop.invoices"), 'queue "shop.invoices"'),
        ({"queue": "shop.invoices"}, ("", "shop.invoices"), 'queue "shop.invoices"'),
        ({"queue": "billing.dlq"}, ("", "billing.dlq"), 'queue "billing.dlq"'),
        (
            {"exchange": "orders", "routing_key": "order.paid"},
            ("orders", "order.paid"),
            'exchange "orders" with routing key "order.paid"',
        ),
        ({"exchange": "orders", "routing_key": ""}, ("orders", ""), 'exchange "orders" with routing key ""'),
        ({"exchange": "news"}, ("shop.news", ""), 'exchange "shop.news" with routing key ""'),
        ({"exchange": "shop.news"}, ("shop.news", ""), 'exchange "shop.news" with routing key ""'),
        ({"exchange": "amq.fanout"}, ("amq.fanout", ""), 'exchange "amq.fanout" with routing key ""'),
    ],
)
def test_names_are_those_of_the_file(shop: Pipeline, words: dict[str, str], to: tuple[str, str], said: str) -> None:
    found = target(shop, **{"queue": None, "exchange": None, "routing_key": None, **words})
    assert found == Target(exchange=to[0], routing_key=to[1])
    assert str(found) == said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "send needs a place to send to: the name of a queue, or --exchange NAME --routing-key KEY"),
        ({"queue": "biling"}, 'the file has no queue "biling"; did you mean "billing" or "billing.dlq"?'),
        ({"queue": "zzz"}, 'the file has no queue "zzz"; it has billing.dlq, billing, invoices'),
        ({"exchange": "order"}, 'the file has no exchange "order"; did you mean "orders"?'),
        ({"exchange": "zzz"}, 'the file has no exchange "zzz"; it has orders, news, inner'),
        ({"exchange": ""}, "the default exchange is reached by the name of a queue: piperun send FILE QUEUE"),
        ({"exchange": "inner"}, 'exchange "inner" is internal: only exchanges may send to it'),
        (
            {"exchange": "orders"},
            'exchange "orders" is a topic exchange and goes by the routing key: add --routing-key KEY',
        ),
        (
            {"exchange": "amq.direct"},
            'exchange "amq.direct" is a direct exchange and goes by the routing key: add --routing-key KEY',
        ),
        (
            {"queue": "billing", "routing_key": "x"},
            "--routing-key belongs to --exchange: to a queue a message goes by the queue's name",
        ),
        (
            {"queue": "billing", "exchange": "orders"},
            "a message goes to a queue or to an exchange: leave the queue out, or --exchange",
        ),
    ],
)
def test_any_other_place_is_told_with_a_way_out(shop: Pipeline, words: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError) as told:
        target(shop, **{"queue": None, "exchange": None, "routing_key": None, **words})
    assert str(told.value) == sentence
