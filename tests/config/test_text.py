"""YAML as piperun reads it: YAML 1.2 scalars, places, and what PyYAML would have done in silence."""

from pathlib import Path

import pytest

from pipeline.config.document import Document
from pipeline.config.nodes import MapNode, at, key_place, plain, value_place
from pipeline.config.report import MOST_PROBLEMS, Report
from pipeline.config.text import read
from tests.config.loading import answers


def tree(text: str) -> MapNode:
    document = Document(path="f.yaml", file=Path("f.yaml"), text=text)
    root = read(document, Report(document))
    assert root is not None
    return root


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("5", 5),
        ("-5", -5),
        ("2.50", 2.5),
        ("on", "on"),
        ("no", "no"),
        ("y", "y"),
        ("True", "True"),
        ("1:30", "1:30"),
        ("12:30:00", "12:30:00"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        ("+5", "+5"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("2024-01-02", "2024-01-02"),
        ("=", "="),
        ('"5"', "5"),
        ("'true'", "true"),
        ("9" * 5000, "9" * 5000),
        ("a: b".replace(": ", ":"), "a:b"),
    ],
)
def test_scalars(written: str, value: object) -> None:
    found = plain(tree(f"a: {written}\n"))
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


def test_keys_are_always_texts() -> None:
    assert plain(tree("{on: 1, 5: 2, true: 3, null: 4}")) == {"on": 1, "5": 2, "true": 3, "null": 4}


def test_a_key_of_ones_own_wins_over_a_merge_and_is_no_repetition() -> None:
    assert plain(tree("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


def test_of_several_merges_the_first_wins() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n"
    assert plain(tree(text)) == {"a": {"x": 1}, "b": {"x": 2, "y": 2}, "c": {"x": 1, "y": 2}}


def test_an_anchor_may_be_set_again() -> None:
    assert plain(tree("a: &x 1\nb: *x\nc: &x 2\nd: *x\n")) == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(
    "text",
    [
        "first: 1\nsecond:\n  inner: &here value\n",
        "first: 1\r\nsecond:\r\n  inner: &here value\r\n",
        "first: 1\rsecond:\r  inner: &here value\r",
        "first: '\u2028 \x85'\nsecond:\n  inner: &here value\n",
    ],
)
def test_places_are_those_of_an_editor(text: str) -> None:
    root = tree(text)
    key, value = key_place(root, ("second", "inner")), value_place(root, ("second", "inner"))
    assert (key.line, key.column, key.width) == (3, 3, 5)
    assert (value.line, value.column, value.width) == (3, 16, 5)


def test_a_block_and_an_empty_value_stand_where_their_name_does() -> None:
    root = tree("a:\n  b: 1\nc:\n")
    assert value_place(root, ("a",)).line == 1
    assert (value_place(root, ("c",)).line, value_place(root, ("c",)).column) == (3, 1)


def test_values_through_an_alias_carry_the_place_of_the_anchor() -> None:
    root = tree("a: &a {x: 1}\nb: *a\n")
    node = at(root, ("b", "x"))
    assert node is not None
    assert node.place.line == 1


def test_characters_that_only_pyyaml_takes_for_line_ends_stay_in_a_text() -> None:
    assert plain(tree('a: "x\u2028y\x85z"\n')) == {"a": "x\u2028y\x85z"}


def test_fifty_levels_are_read_and_checked() -> None:
    deep = "[" * 45 + "]" * 45
    body = (
        f"producers: {{p: {{source: {{type: interval, body: {deep}}}, publish: {{queue: q}}}}}}\nqueues: {{q: {{}}}}\n"
    )
    assert answers(body) == ""


HOSTILE = {
    "brackets": "[" * 200_000,
    "braces": "{a: " * 200_000,
    "dashes": "- " * 200_000,
    "question marks": "? " * 100_000,
    "anchors": "&a " * 100_000,
    "quotes": '"' * 200_001,
    "a bomb of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 20)),
    "two megabytes": "a: b\n" * 400_000,
    "a long text that is near nothing": "broker: " + "x" * 500_000 + "\n",
    "queues that lead to one another": "queues:\n"
    + "".join(f"  q{n}: {{dead_letter: q{(n + 1) % 4000}}}\n" for n in range(4000)),
    "names that are all misspelt": "queues:\n"
    + "".join(f"  queue_number_{n}: {{}}\n" for n in range(2000))
    + "consumers:\n"
    + "".join(f"  c{n}: {{queue: queue_numbr_{n}, handler: 'a:b'}}\n" for n in range(2000)),
    "no text": "\x00\x01\x02",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_is_an_answer_and_not_a_hang(text: str) -> None:
    assert "error[" in answers(text)


def test_of_a_file_that_is_wrong_all_over_the_first_problems_are_told() -> None:
    found = answers("queues:\n" + "".join(f"  q{n}: {{durable: yes}}\n" for n in range(MOST_PROBLEMS + 5)))
    assert found.count("error[not-a-boolean]") == MOST_PROBLEMS


def test_warnings_do_not_hide_an_error() -> None:
    queues = "".join(f"  q{n}: {{durable: false}}\n" for n in range(MOST_PROBLEMS + 5))
    consumers = "consumers: {c: {queue: none, handler: 'a:b'}}\n"
    assert "error[unknown-queue]" in answers(f"broker: amqp://localhost\nqueues:\n{queues}{consumers}")
