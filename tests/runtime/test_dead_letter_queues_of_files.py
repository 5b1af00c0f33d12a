"""Which dead-letter queues a file has, and which one somebody means by a name."""

import pytest

from pipeline.errors import UsageError
from pipeline.runtime.dead_letters.queues import choose, dead_letter_queues, one_of, without_streams
from tests.config.loading import pipeline_of

FILE = """
exchanges: {graveyard: {type: fanout}}
queues:
  billing: {dead_letter: failed}
  failed: {name: shop.failed}
  invoices: {type: quorum, dead_letter: failed}
  mail: {name: shop.mail}
  lossy: {dead_letter: false}
  idle: {}
  foreign: {arguments: {x-dead-letter-exchange: graveyard}}
  raw: {arguments: {x-dead-letter-exchange: "", x-dead-letter-routing-key: bin}}
  buried: {bindings: [{exchange: graveyard}]}
  quick: {}
consumers:
  charge: {queue: billing, handler: "pipeline.handlers:log"}
  send: {queue: mail, handler: "pipeline.handlers:log"}
  guess: {queue: lossy, handler: "pipeline.handlers:log"}
  look: {queue: quick, handler: "pipeline.handlers:log", ack: none}
"""


def test_those_that_piperun_and_those_that_rabbitmq_fills() -> None:
    found = {each.name: each.sources for each in dead_letter_queues(pipeline_of(FILE))}
    assert found == {
        "shop.failed": ("billing", "invoices"),
        "shop.mail.dlq": ("shop.mail",),
        "buried": ("foreign",),
        "bin": ("raw",),
    }


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, ["shop.failed", "shop.mail.dlq", "buried", "bin"]),
        ("shop.failed", ["shop.failed"]),
        ("failed", ["shop.failed"]),
        ("billing", ["shop.failed"]),
        ("mail", ["shop.mail.dlq"]),
        ("shop.mail", ["shop.mail.dlq"]),
        ("shop.mail.dlq", ["shop.mail.dlq"]),
        ("foreign", ["buried"]),
        ("bin", ["bin"]),
    ],
)
def test_a_queue_is_meant_by_its_name_or_by_that_of_its_work_queue(asked: str | None, meant: list[str]) -> None:
    assert [each.name for each in choose(pipeline_of(FILE), asked)] == meant


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("biling", 'pipeline.yaml has no queue "biling"; did you mean "billing"?'),
        ("idle", 'queue "idle" has no dead-letter queue: no consumer of the file can fail on it'),
        ("quick", 'queue "quick" has no dead-letter queue: no consumer of the file can fail on it'),
        ("lossy", 'queue "lossy" has no dead-letter queue: `dead_letter: false`'),
    ],
)
def test_a_name_that_means_none_is_answered_with_a_way_out(asked: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        choose(pipeline_of(FILE), asked)
    assert str(error.value) == sentence


def test_a_file_without_any() -> None:
    with pytest.raises(UsageError, match="has no dead-letter queue: none of its consumers can fail"):
        choose(pipeline_of("queues: {hello: {}}"), None)


def test_what_changes_a_queue_wants_to_know_which() -> None:
    found = dead_letter_queues(pipeline_of(FILE))
    with pytest.raises(UsageError, match=r"name one: shop\.failed, shop\.mail\.dlq, buried, bin"):
        one_of(found)
    assert one_of(found[:1]).name == "shop.failed"


@pytest.mark.parametrize(
    ("queue", "counts"),
    [
        ("{}", False),
        ("{type: quorum}", False),  # a large limit is written where the file says nothing
        ("{type: quorum, delivery_limit: 20}", True),
        ("{type: quorum, delivery_limit: 1000000}", False),
    ],
)
def test_a_quorum_queue_counts_looks_unless_its_limit_is_large(queue: str, counts: bool) -> None:
    file = f"queues: {{billing: {{dead_letter: failed}}, failed: {queue}}}"
    (found,) = dead_letter_queues(pipeline_of(file))
    assert found.counts_looks is counts


def test_a_stream_can_be_counted_and_no_more() -> None:
    file = """
    broker: amqp://localhost
    queues: {a: {dead_letter: log}, b: {dead_letter: failed}, log: {type: stream}, failed: {}}
    """
    found = dead_letter_queues(pipeline_of(file))
    assert [each.name for each in without_streams(found)] == ["failed"]
    with pytest.raises(UsageError, match='"log" is a stream'):
        one_of(found[:1])
