"""Findings, from what a file wants and what was seen: as a table, without a broker."""

from typing import Any

import pytest

from pipeline.amqp.difference import Difference
from pipeline.amqp.inspect import Depth, Server, Unseen
from pipeline.config.model import Exchange, Pipeline, Queue, Retry, RetryStrategy
from pipeline.runtime.checkup import findings, not_visible
from pipeline.runtime.drift import Finding, Seen
from pipeline.runtime.plan import plan
from pipeline.runtime.rights import objects
from pipeline.values import replace
from tests.amqp.parts import address_of, exchange
from tests.models import a_broker, a_consumer, a_pipeline, a_producer, a_queue

NOT_FOUND = Unseen(code=404, text="NOT_FOUND - no queue")
LOCKED = Unseen(code=405, text="RESOURCE_LOCKED")
RABBITMQ = Server(product="RabbitMQ", version="4.3.6", cluster="rabbit@one")
DLQ = "piperun dlq ls shop.yaml tells why they failed"
START = "start the pipeline; if it runs, its log says why this consumer does not"


def empty(ready: int = 0, consumers: int = 0) -> Depth:
    return Depth(ready=ready, consumers=consumers)


def found(pipeline: Pipeline, **seen: Any) -> list[Finding]:
    """All there and empty, but for what is said."""
    wanted = objects(plan(pipeline))
    usual = Seen(
        server=RABBITMQ,
        exchanges={each.name: None for each in wanted if isinstance(each, Exchange)},
        queues={each.name: empty() for each in wanted if isinstance(each, Queue)} | seen.pop("queues", {}),
        differences=None,
        publishing="taken",
    )
    return list(findings(plan(pipeline), replace(usual, **seen)))


def said(pipeline: Pipeline, **seen: Any) -> list[tuple[str, str]]:
    return [(each.level, each.sentence) for each in found(pipeline, **seen)]


SHOP = a_pipeline(queues=(a_queue("billing"),), consumers=(a_consumer(),))
TAKES = ("ok", "the broker takes messages: no alarm")


def test_all_is_well() -> None:
    assert said(SHOP, queues={"billing": empty(3, 2)}) == [
        TAKES,
        ("ok", 'queue "billing.dlq": no message waits, 0 consumers'),
        ("ok", 'queue "billing": 3 messages wait, 2 consumers'),
    ]


@pytest.mark.parametrize(
    ("queue", "depth", "level", "sentence", "hint"),
    [
        (
            "billing",
            empty(42),
            "error",
            'queue "billing": 42 messages wait, and nobody consumes it, which consumer "charge" should',
            START,
        ),
        (
            "billing",
            empty(),
            "warning",
            'queue "billing": nobody consumes it, which consumer "charge" should',
            "start the pipeline",
        ),
        ("billing.dlq", empty(1), "warning", 'dead-letter queue "billing.dlq" holds 1 message', DLQ),
        ("billing.dlq", NOT_FOUND, "warning", 'queue "billing.dlq" is not there', "a start of the pipeline makes it"),
        (
            "billing",
            LOCKED,
            "error",
            'queue "billing" is exclusive to another connection, and the file says otherwise',
            "rabbitmqctl list_queues name owner_pid tells whose it is; end that, or use another name",
        ),
        (
            "billing",
            Unseen(code=403, text="ACCESS_REFUSED - access refused"),
            "error",
            'queue "billing": ACCESS_REFUSED - access refused',
            "`piperun doctor FILE --rights` prints what the file needs",
        ),
        ("billing", Unseen(code=0, text="not ASCII"), "error", 'queue "billing" cannot be asked for: not ASCII', None),
    ],
)
def test_a_queue_is_told_by_what_it_is_for(
    queue: str, depth: Depth | Unseen, level: str, sentence: str, hint: str | None
) -> None:
    seen = {"billing": empty(0, 1), queue: depth}
    (finding,) = [each for each in found(SHOP, queues=seen) if each.level != "ok"]
    assert (finding.level, finding.sentence, finding.hint) == (level, sentence, hint)


def test_what_is_not_there_is_told_by_who_makes_it() -> None:
    pipeline = a_pipeline(
        exchanges=tuple(exchange(name, declare=name) for name in ("assert", "check", "skip")),
        queues=tuple(a_queue(f"q-{name}", declare=name) for name in ("assert", "check", "skip")),
    )
    seen = found(
        pipeline,
        exchanges={each.name: NOT_FOUND for each in pipeline.exchanges},
        queues={each.name: NOT_FOUND for each in pipeline.queues},
    )
    by_sentence = {each.sentence: (each.level, each.differs) for each in seen if each.kind == "missing"}
    for what in ('exchange "{}"', 'queue "q-{}"'):
        ours, check, skip = (what.format(name) for name in ("assert", "check", "skip"))
        assert by_sentence[f"{ours} is not there"] == ("warning", False)
        assert by_sentence[f"{check} is not there, and `declare: check` does not make it"] == ("error", True)
        assert by_sentence[f"{skip} is not there, and `declare: skip` leaves it to somebody else"] == ("error", False)
    assert all(each.hint for each in seen if each.level != "ok")


@pytest.mark.parametrize(
    ("depth", "told"),
    [
        (LOCKED, ("ok", 'queue "mine" is there, seen by the connection alone that it is exclusive to')),
        (NOT_FOUND, ("warning", 'queue "mine" is not there: the connection that it is exclusive to is not')),
    ],
)
def test_an_exclusive_queue_is_there_as_long_as_its_connection(depth: Unseen, told: tuple[str, str]) -> None:
    pipeline = a_pipeline(
        queues=(a_queue("mine", exclusive=True, dead_letter=False),), consumers=(a_consumer(queue="mine"),)
    )
    assert told in said(pipeline, queues={"mine": depth})


def test_a_dead_letter_queue_that_the_file_consumes_is_a_queue_like_others() -> None:
    pipeline = a_pipeline(
        queues=(a_queue("billing", dead_letter="failed"), a_queue("failed", dead_letter=False)),
        consumers=(a_consumer(), a_consumer("repair", queue="failed")),
    )
    seen = said(pipeline, queues={"billing": empty(0, 1), "failed": empty(5, 1)})
    assert ("ok", 'queue "failed": 5 messages wait, 1 consumer') in seen
    assert not [each for each in seen if each[0] != "ok"]


def a_retry(strategy: RetryStrategy) -> Retry:
    return Retry(delays=(5.0,), only=(), excluded=(), strategy=strategy)


def test_a_queue_of_messages_that_come_back_after_a_delay_is_told_as_one() -> None:
    pipeline = a_pipeline(
        queues=(a_queue("billing", dead_letter=False), a_queue("other.retry.5000ms")),
        consumers=(a_consumer(retry=a_retry("broker")),),
    )
    seen = said(pipeline, queues={"billing": empty(0, 1), "billing.retry.5000ms": empty(7)})
    assert ("ok", 'queue "billing.retry.5000ms": 7 messages wait on the way back to "billing"') in seen
    assert ("ok", 'queue "other.retry.5000ms": no message waits, 0 consumers') in seen


@pytest.mark.parametrize(
    ("strategy", "version", "wrong"),
    [("native", "3.10.8", True), ("native", "4.2.0", True), ("native", "4.3.0", False), ("broker", "3.10.8", False)],
)
def test_a_retry_that_the_broker_does_not_know_is_told(strategy: RetryStrategy, version: str, wrong: bool) -> None:
    pipeline = a_pipeline(queues=(a_queue("billing"),), consumers=(a_consumer(retry=a_retry(strategy)),))
    seen = found(pipeline, server=replace(RABBITMQ, version=version))
    told = [each.sentence for each in seen if each.kind == "native-retry"]
    sentence = (
        f'consumer "charge" has `strategy: native`, and RabbitMQ {version} does not know it: messages that fail come '
        "again at once"
    )
    assert told == ([sentence] if wrong else [])


def test_differences_are_errors_and_a_missing_right_is_no_difference() -> None:
    differs = Difference(kind="queue", name="billing", sentence="billing is otherwise")
    forbidden = Difference(kind="queue", name="billing", sentence="billing may not be declared", forbidden=True)
    seen = found(SHOP, differences=(differs, forbidden), queues={"billing": empty(0, 1)})
    told = [(each.kind, each.sentence, each.differs) for each in seen if each.level == "error"]
    assert told == [("differs", "billing is otherwise", True), ("right", "billing may not be declared", False)]


@pytest.mark.parametrize(
    ("publishing", "level", "beginning"),
    [
        ("blocked", "error", "the broker takes no messages (memory or disk alarm)"),
        ("forbidden", "error", "no right to write to the default exchange (amq.default), through which"),
        ("unanswered", "warning", "the broker did not confirm or return a message in time"),
    ],
)
def test_a_broker_that_takes_no_messages_is_told(publishing: str, level: str, beginning: str) -> None:
    told = found(SHOP, publishing=publishing, queues={"billing": empty(0, 1)})[0]
    assert (told.level, told.sentence[: len(beginning)]) == (level, beginning)
    assert told.hint


def test_a_right_that_the_file_does_not_need_is_not_missed() -> None:
    reader = a_pipeline(queues=(a_queue("billing"),), consumers=(a_consumer(ack="none"),))
    (told,) = [each for each in found(reader, publishing="forbidden") if each.kind == "right"]
    assert told.level == "ok"


def test_weak_ways_that_the_file_chose_are_named_and_not_wrong() -> None:
    pipeline = a_pipeline(
        broker=a_broker(addresses=(address_of("amqp://one"), address_of("amqp://two"))),
        queues=(a_queue("a"), a_queue("b", dead_letter=False), a_queue("c", type="quorum")),
        consumers=(a_consumer("x", queue="a", ack="none"), a_consumer("y", queue="b")),
        producers=(a_producer(),),
    )
    seen = said(pipeline, queues={"a": empty(0, 1), "b": empty(0, 1)})
    assert {level for level, _ in seen} == {"ok"}
    assert [sentence for _, sentence in seen[4:]] == [
        'consumer "x" has `ack: none`: what it has in hand is lost when its process or line dies',
        'messages that fail in consumer "y" are dropped (`dead_letter: false`)',
        'queue "a" is classic: one copy, on one node of the cluster',
        'queue "b" is classic: one copy, on one node of the cluster',
    ]


TRANSIENT = a_queue("q", durable=False)
LOCATED = a_queue("q", arguments={"x-queue-master-locator": "min-masters"})
LEADER = a_queue("q", arguments={"x-queue-leader-locator": "balanced"})


@pytest.mark.parametrize(
    ("queue", "version", "sentence"),
    [
        (TRANSIENT, "4.3.6", 'queue "q": RabbitMQ 4.3.6 refuses queues that are neither durable nor exclusive'),
        (TRANSIENT, "3.13.7", None),
        (replace(TRANSIENT, declare="skip"), "4.3.6", None),
        (LOCATED, "4.4.0", 'queue "q": RabbitMQ 4.4.0 refuses `x-queue-master-locator`'),
        (LOCATED, "3.10.8", None),
        (LEADER, "3.10.8", 'queue "q": RabbitMQ 3.10.8 refuses `x-queue-leader-locator` in a classic queue'),
        (LEADER, "3.13.7", None),
        (LEADER, "4.3.6", None),
    ],
)
def test_what_the_version_of_the_broker_refuses_is_told(queue: Queue, version: str, sentence: str | None) -> None:
    seen = found(a_pipeline(queues=(queue,)), server=replace(RABBITMQ, version=version))
    assert [each.sentence for each in seen if each.level == "error"] == ([sentence] if sentence else [])


@pytest.mark.parametrize(
    ("server", "said_of_it"),
    [
        (replace(RABBITMQ, version="3.10.8"), ["it is RabbitMQ 3.10.8, and `validate` checks this file for 4.3"]),
        (
            replace(RABBITMQ, version="4.1.2"),
            ["it is RabbitMQ 4.1.2, between 3.10 and 4.3, which piperun is tested with"],
        ),
        (RABBITMQ, []),
        (replace(RABBITMQ, version="5.0.0-beta.1"), []),
        (Server(product="", version="", cluster=""), []),
        (Server(product="Another", version="1.0", cluster=""), []),
    ],
)
def test_a_version_that_the_file_is_not_checked_for_is_said(server: Server, said_of_it: list[str]) -> None:
    told = [each for each in found(SHOP, server=server) if each.kind == "version"]
    assert [each.sentence for each in told] == said_of_it
    assert [each.hint for each in told if each.hint] == (['broker: {version: "3.10"}'] if "3.10.8" in str(told) else [])


def test_what_amqp_does_not_tell_is_said() -> None:
    seen = Seen(server=RABBITMQ, exchanges={}, queues={}, differences=None, publishing="taken")
    assert "--compare" in not_visible(seen)[0]
    assert not_visible(replace(seen, differences=())) == not_visible(seen)[1:]


def test_what_is_worse_comes_first() -> None:
    levels = [each.level for each in found(SHOP, queues={"billing": empty(1), "billing.dlq": NOT_FOUND})]
    assert levels == ["error", "warning", "ok"]
