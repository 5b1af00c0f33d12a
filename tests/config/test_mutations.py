"""Whatever is done to a valid file: no traceback, no long wait, and every problem lies inside the file."""

import os
import re
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.problems import WORDS, render
from tests.config.examples import ENVIRONMENT, FULL
from tests.config.loading import loaded

LONGEST = 2.0 * (3 if os.environ.get("CI") else 1)  # seconds: a promise to the user, not a measurement
SIGNS = "{}[]:,#&*!|>'\"%@`-? \t\n\r\\$~=<.0a\u2028\x85é\x00\x07\ud800"
WORDS_OF_THE_FILE = sorted(
    {match[0] for match in re.finditer(r"[\w.:-]+", FULL)} | {"null", "true", "0", "-1", "9" * 30}
)
LINES = FULL.split("\n")


@st.composite
def characters(draw: st.DrawFn) -> str:
    """One character deleted, inserted or exchanged."""
    place = draw(st.integers(0, len(FULL) - 1))
    sign = draw(st.sampled_from(SIGNS))
    return FULL[:place] + draw(st.sampled_from(["", sign, sign + FULL[place]])) + FULL[place + 1 :]


@st.composite
def renamed(draw: st.DrawFn) -> str:
    """A key or a value exchanged for another word of the file."""
    words = list(re.finditer(r"[\w.]+", FULL))
    word = words[draw(st.integers(0, len(words) - 1))]
    return FULL[: word.start()] + draw(st.sampled_from(WORDS_OF_THE_FILE)) + FULL[word.end() :]


@st.composite
def moved(draw: st.DrawFn) -> str:
    """A line deleted, doubled, moved or indented otherwise."""
    lines = list(LINES)
    line = lines.pop(draw(st.integers(0, len(lines) - 1)))
    for copy in range(draw(st.integers(0, 2))):
        indented = " " * draw(st.integers(0, 6)) + line.lstrip() if copy else line
        lines.insert(draw(st.integers(0, len(lines))), indented)
    return "\n".join(lines)


@st.composite
def flow(draw: st.DrawFn) -> str:
    """Something between braces exchanged for a value of another shape."""
    groups = list(re.finditer(r"\{[^{}]*\}|\[[^][]*\]", FULL))
    group = groups[draw(st.integers(0, len(groups) - 1))]
    value = draw(
        st.sampled_from(["null", "5", "text", "[]", "{}", "[[1]]", "{a: {b: c}}", "*fast", "true", "2.5", '""'])
    )
    return FULL[: group.start()] + value + FULL[group.end() :]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(characters(), renamed(), moved(), flow()))
def test_a_changed_file_is_valid_or_answered(text: str) -> None:
    # When a file is loaded after one change
    started = time.monotonic()
    result = loaded(text, ENVIRONMENT)
    took = time.monotonic() - started
    # Then it is a pipeline or has an error, at once, and every problem points into the file
    assert result.has_errors or len(result.pipelines) == 1
    assert took < LONGEST
    lines = len(re.split(r"\r\n|\n|\r", text))
    for problem in result.problems:
        assert problem.word in WORDS
        assert 1 <= problem.place.line <= lines
        assert "hunter-two" not in render(problem)
        assert "\n" not in problem.sentence
