"""A problem as text, the nearest names, and the catalogue of words with its pages and tests."""

import re
from pathlib import Path

import pytest

from pipeline.problems import WORDS, Place, Problem, closest, did_you_mean, likeness, render

ROOT = Path(__file__).parent.parent
PLACE = Place(path="configs/orders.yaml", line=31, column=12, width=6)


def test_a_problem_with_its_line_and_a_way_out() -> None:
    problem = Problem(
        severity="error",
        word="unknown-queue",
        place=PLACE,
        sentence='consumer "charge" reads queue "biling", which is not declared',
        hint='did you mean "billing"?',
        excerpt="    queue: biling",
    )
    assert render(problem) == (
        "configs/orders.yaml:31:12: error[unknown-queue]: "
        'consumer "charge" reads queue "biling", which is not declared\n'
        "   31 |     queue: biling\n"
        '      |            ^^^^^^ did you mean "billing"?'
    )


def test_a_problem_without_a_line() -> None:
    problem = Problem(severity="warning", word="empty-file", place=PLACE, sentence="nothing", hint="write something")
    assert render(problem) == "configs/orders.yaml:31:12: warning[empty-file]: nothing\n        write something"


def test_a_caret_that_masking_has_moved_and_frames_below_it() -> None:
    problem = Problem(
        severity="error",
        word="failed-import",
        place=PLACE,
        sentence="it failed",
        excerpt="url: amqp://a:***@h  x",
        caret=(5, 14),
        frames=("shop.py:3", "lib.py:4"),
    )
    assert render(problem).splitlines()[1:] == [
        "   31 | url: amqp://a:***@h  x",
        "      |      ^^^^^^^^^^^^^^",
        "        at shop.py:3",
        "        at lib.py:4",
    ]


@pytest.mark.parametrize(
    ("excerpt", "caret", "line"),
    [
        ("ab: x", (4, 1), "    ^"),
        ("日本: x", (4, 1), "      ^"),
        ("x: 日本", (3, 2), "   ^^^^"),
        ("e\u0301: x", (4, 1), "   ^"),
    ],
)
def test_the_caret_stands_under_the_word_in_any_script(excerpt: str, caret: tuple[int, int], line: str) -> None:
    problem = Problem(severity="error", word="x", place=PLACE, sentence="s", excerpt=excerpt, caret=caret)
    assert render(problem).splitlines()[2] == f"      | {line}"


@pytest.mark.parametrize(
    ("wanted", "candidates", "found"),
    [
        ("biling", ["billing", "audit"], ["billing"]),
        ("prefetchCount", ["prefetch", "publish"], ["prefetch"]),
        ("consumer", ["consumers", "queues"], ["consumers"]),
        ("dead-letter", ["dead_letter"], ["dead_letter"]),
        ("maxInFlight", ["max_in_flight"], ["max_in_flight"]),
        ("xyz", ["billing"], []),
        ("", ["billing"], []),
        ("aaaa", ["aaab", "aaac", "aaad", "aaae"], ["aaab", "aaac", "aaad"]),
    ],
)
def test_the_nearest_names_the_best_first_three_at_most(wanted: str, candidates: list[str], found: list[str]) -> None:
    assert closest(wanted, candidates) == found


def test_did_you_mean_is_a_question_or_nothing() -> None:
    assert did_you_mean("biling", ["billing"]) == 'did you mean "billing"?'
    assert did_you_mean("order", ["orders", "border"]) == 'did you mean "border" or "orders"?'
    assert did_you_mean("aaaa", ["aaab", "aaac", "aaad"]) == 'did you mean "aaab", "aaac" or "aaad"?'
    assert did_you_mean("xyz", ["billing"]) is None


def test_names_that_differ_in_case_and_hyphens_are_the_same() -> None:
    assert likeness("deadLetter", "dead_letter") == 1


@pytest.mark.parametrize("word", WORDS)
def test_every_word_has_a_page_with_a_wrong_file_and_the_right_one(word: str) -> None:
    page = ROOT / "docs" / "problems" / f"{word}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {word}\n")
    assert "## Why it matters" in text
    assert "## The way out" in text
    assert len(re.findall(r"^```", text, re.MULTILINE)) >= 4


def test_there_are_no_pages_of_words_that_do_not_exist() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "problems").glob("*.md")} - {"README"}
    assert pages <= set(WORDS)


def test_the_list_of_pages_names_every_word() -> None:
    listed = re.findall(r"^\| \[([a-z-]+)\]", (ROOT / "docs" / "problems" / "README.md").read_text(), re.MULTILINE)
    assert listed == sorted(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_has_a_test(word: str) -> None:
    lists = {Path(__file__).name, "test_pages.py"}  # they go through all words, which proves nothing
    files = [
        file for suffix in ("py", "txt") for file in (ROOT / "tests").rglob(f"*.{suffix}") if file.name not in lists
    ]
    assert any(re.search(rf'["\[]{word}["\]]', file.read_text(encoding="utf-8")) for file in files)


def test_every_word_that_the_code_uses_is_in_the_catalogue() -> None:
    used = set()
    for file in (ROOT / "pipeline").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        used |= set(re.findall(r'(?:\bword=|\.error\(|\.warning\(|ImportProblem\()\s*"([a-z]+(?:-[a-z]+)+)"', text))
    assert used
    assert used - set(WORDS) == set()


def a_long_line() -> Problem:
    excerpt = "  billing: {" + "durable: true, " * 10 + "durabel: true}"
    start = excerpt.index("durabel")
    place = Place(path="a.yaml", line=2, column=start + 1, width=7)
    hint = 'did you mean "durable"?'
    return Problem(
        severity="error", word="unknown-key", place=place, sentence="no such key", hint=hint, excerpt=excerpt
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_on_a_terminal_the_line_is_cut_so_that_the_caret_stands_under_the_word(width: int) -> None:
    _, line, caret, hint = render(a_long_line(), width=width).splitlines()
    assert max(len(line), len(caret), len(hint)) <= width
    assert line[caret.index("^") : caret.rindex("^") + 1] == "durabel"
    assert hint == '      | did you mean "durable"?'


def test_on_a_wide_terminal_and_in_a_file_nothing_is_cut() -> None:
    assert render(a_long_line(), width=1000) == render(a_long_line())
    assert render(a_long_line()).splitlines()[1] == f"    2 | {a_long_line().excerpt}"


def test_wide_characters_count_double_where_a_line_is_cut() -> None:
    excerpt = "日本語" * 20 + ": {durabel: true}"
    start = excerpt.index("durabel")
    place = Place(path="a.yaml", line=2, column=start + 1, width=7)
    problem = Problem(severity="error", word="unknown-key", place=place, sentence="no such key", excerpt=excerpt)
    _, line, caret = render(problem, width=60).splitlines()
    columns = "".join(character if character.isascii() or character == "…" else "##" for character in line)
    assert len(columns) <= 60
    assert columns[caret.index("^") : caret.rindex("^") + 1] == "durabel"
