"""The pages of the words tell the truth: the wrong file is answered as they say, the right one in silence."""

import re
from pathlib import Path

import pytest

from pipeline.problems import WORDS
from tests.config.loading import answers

FOLDER = Path(__file__).parent.parent.parent / "docs" / "problems"

# Problems of Python code, and of several files: their pages show a situation instead of one file.
SITUATIONS = {
    "bad-source",
    "failed-import",
    "files-differ",
    "handler-signature",
    "manual-needs-async",
    "module-clash",
    "not-an-exception",
    "several-runtimes",
    "shadowed-module",
    "unknown-module",
    "unknown-name",
    "versions-differ",
}


def blocks(word: str, language: str) -> list[str]:
    page = (FOLDER / f"{word}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("word", sorted(set(WORDS) - SITUATIONS))
def test_the_wrong_file_of_a_page_is_answered_as_the_page_says(word: str) -> None:
    file, answer = blocks(word, "text")
    assert answers(file) == answer.rstrip("\n")
    assert f"[{word}]" in answer


@pytest.mark.parametrize("word", WORDS)
def test_the_right_file_of_a_page_is_legal(word: str) -> None:
    (file,) = blocks(word, "yaml")
    assert answers(file) == ""
