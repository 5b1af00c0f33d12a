"""Each way a file can be wrong, with the full text of the answer. The cases stand in `words/*.txt`."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.config.loading import answers

FOLDER = Path(__file__).parent / "words"
ENVIRONMENT = {"AMQP_URI": "amqp://h", "HOME": "/"}


class Case(NamedTuple):
    title: str
    file: str
    answer: str


def cases(text: str) -> list[Case]:
    found = []
    for part in text.split("=== ")[1:]:
        title, rest = part.split("\n--- file\n", 1)
        file, answer = rest.split("--- answer\n", 1)
        found.append(Case(title, file, answer.strip("\n")))
    return found


ALL = [
    pytest.param(case, id=f"{file.stem}: {case.title}")
    for file in sorted(FOLDER.glob("*.txt"))
    for case in cases(file.read_bytes().decode())
]


@pytest.mark.parametrize("case", ALL)
def test_a_wrong_file_is_answered_with_place_sentence_and_way_out(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a folder in which one data file lies, for the names that are near to it
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "orders.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    # When the file is loaded, then this is said of it and nothing else
    assert answers(case.file, ENVIRONMENT) == case.answer


TEN_MISTAKES = """\
broker: amqp://localhost
queues:
  billing: {durable: no}
  billing: {}
  audit: {message_ttl: 5}
consumer_groups: {}
producers:
  ticks: {source: {type: interval, every: 0s}, publish: {queue: biling}}
consumers:
  charge:
    queue: ${QUEUE}
    handler: shop.billing.charge
    prefetchCount: 5
    ack: auto
  print:
    queue: billing
runtime: {until: stoped}
"""


def test_ten_mistakes_of_different_families_are_told_in_one_run_in_the_order_of_the_lines() -> None:
    found = [line.split(": ")[1] for line in answers(TEN_MISTAKES).splitlines() if line.startswith("pipeline.yaml")]
    assert found == [
        "error[not-a-boolean]",
        "error[duplicate-key]",
        "error[bad-duration]",
        "error[unknown-key]",
        "error[bad-schedule]",
        "error[unknown-queue]",
        "error[unset-variable]",
        "error[bad-handler-path]",
        "error[unknown-key]",
        "error[ambiguous-ack]",
        "error[missing-key]",
        "error[unknown-value]",
    ]


ONE_MISTAKE = {
    "a misspelt section does not make its names unknown": """
        queue: {billing: {}}
        consumers:
          charge: {queue: billing, handler: "shop:charge"}
        """,
    "a section of the wrong shape does not make its names unknown": """
        queues: [billing]
        consumers:
          charge: {queue: billing, handler: "shop:charge"}
        """,
    "a misspelt key is not missing as well": """
        queues: {billing: {}}
        consumers:
          charge: {queue: billing, handlr: "shop:charge"}
        """,
    "a key in the wrong place is not missing as well": """
        queues: {billing: {handler: "shop:charge"}}
        consumers:
          charge: {queue: billing}
        """,
    "a queue with a broken setting keeps its name": """
        queues: {billing: {durable: yes}}
        consumers:
          charge: {queue: billing, handler: "shop:charge"}
        """,
    "a variable that is not set is not a bad URL as well": """
        broker: ${NOWHERE_TO_BE_FOUND}
        """,
    "a misspelt type does not leave its default behind": """
        exchanges: {all: {tipe: fanout}}
        queues: {billing: {bindings: [{exchange: all}]}}
        """,
    "a misspelt count does not make a source endless": """
        queues: {hello: {}}
        producers: {ticks: {source: {type: interval, cuont: 5}, publish: {queue: hello}}}
        runtime: {until: idle}
        """,
    "a misspelt target of publish is not missing as well": """
        queues: {hello: {}}
        producers: {ticks: {source: {type: stdin}, publish: {quue: hello}}}
        """,
    "a mistake inside an anchor is told once however often the alias is used": """
        x-fast: &fast {prefetchCount: 100}
        queues: {hello: {}}
        consumers:
          a: {<<: *fast, queue: hello, handler: "shop:a"}
          b: {<<: *fast, queue: hello, handler: "shop:b"}
        """,
    "a broken alias is not also a wrong type": """
        defaults:
          consumers: {prefetch: *none}
        """,
}


@pytest.mark.parametrize("file", ONE_MISTAKE.values(), ids=ONE_MISTAKE.keys())
def test_one_mistake_is_one_diagnostic(file: str) -> None:
    answer = answers(file)
    assert answer.count("error[") == 1, answer
    assert "warning[" not in answer
