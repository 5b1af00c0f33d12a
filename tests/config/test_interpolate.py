"""`${...}`: four forms, inside one value, never structure."""

from pathlib import Path

import pytest

from pipeline.config.load import Text, load
from pipeline.config.model import IntervalSource
from tests.config.loading import answers, pipeline_of

ENVIRONMENT = {"NAME": "shop", "EMPTY": "", "NUMBER": "7", "YES": "true", "NO": "false", "TRICK": "{a: 1}\nname: b"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("${NAME}", "shop"),
        ("pre-${NAME}-${NAME}", "pre-shop-shop"),
        ('"${NAME}"', "shop"),
        ("'${NAME}'", "shop"),
        ("${MISSING:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${NAME:-other}", "shop"),
        ("${NAME:?why}", "shop"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("$${NAME}", "${NAME}"),
        ("a$b ${NAME} $", "a$b shop $"),
        ("${NUMBER}", "7"),
        ("${YES}", "true"),
        ("${TRICK}", "{a: 1}\nname: b"),
    ],
)
def test_a_text_with_variables(written: str, name: str) -> None:
    assert pipeline_of(f"name: {written}\n", ENVIRONMENT).name == name


@pytest.mark.parametrize("quoted", [True, False])
def test_a_value_that_is_one_variable_becomes_what_its_place_wants(quoted: bool) -> None:
    file = """
        version: ${V:-1}
        queues:
          a: {durable: "${YES}", max_length: "${NUMBER}"}
          b: {dead_letter: "${NO}"}
        runtime:
          workers: ${NUMBER}
        """
    pipeline = pipeline_of(file if quoted else file.replace('"', "'"), ENVIRONMENT)
    first, second = pipeline.queues
    assert (first.durable, first.arguments["x-max-length"], second.dead_letter) == (True, 7, False)
    assert pipeline.runtime.workers == 7


def test_where_anything_may_stand_a_variable_is_text() -> None:
    pipeline = pipeline_of(
        """
        queues: {a: {}}
        producers:
          p: {source: {type: interval, body: "${NUMBER}", headers: {h: "${YES}"}}, publish: {queue: a}}
        """,
        ENVIRONMENT,
    )
    source = pipeline.producers[0].source
    assert isinstance(source, IntervalSource)
    assert (source.body, source.headers) == ("7", {"h": "true"})


def test_a_text_where_a_number_must_stand_is_told_with_the_line_of_the_variable() -> None:
    answer = answers("defaults: {consumers: {prefetch: '${NAME}'}}\n", ENVIRONMENT)
    assert answer.startswith(
        "pipeline.yaml:1:34: error[wrong-type]: `prefetch` is a whole number from 1 to 65535, this is the text"
    )


@pytest.mark.parametrize(("written", "workers"), [("${NUMBER}", 7), ("${N:-auto}", "auto")])
def test_where_a_number_or_a_word_may_stand_a_variable_is_either(written: str, workers: int | str) -> None:
    assert pipeline_of(f"runtime: {{workers: '{written}'}}\n", ENVIRONMENT).runtime.workers == workers


def test_a_value_from_a_file_is_a_secret_everywhere(tmp_path: Path) -> None:
    # Given a secret beside the configuration that is wrong at its place
    (tmp_path / "secret").write_text("hunter-two\n")
    (tmp_path / "pipeline.yaml").write_text("defaults: {consumers: {ack: '${file:secret}'}}\n")
    # When the file is loaded
    (problem,) = load([Text(path=str(tmp_path / "pipeline.yaml"))], environment={}).problems
    # Then the sentence does not repeat it
    assert problem.sentence == '`ack` is on_success, manual or none, not "***"'


@pytest.mark.parametrize(
    ("content", "word"), [(b"\xff\xfe", "not-text"), (b"x" * 70_000, "too-large"), (None, "unreadable-file")]
)
def test_a_file_that_cannot_be_a_value(content: bytes | None, word: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    assert f"error[{word}]" in answers(f"name: ${{file:{tmp_path}/secret}}\n")


def test_sections_of_the_users_own_are_left_alone_until_they_are_used() -> None:
    unused = "x-a: &a {queue: '${MISSING}', handler: 'shop:charge'}\n"
    assert answers(unused) == ""
    assert "unset-variable" in answers(unused + "consumers: {c: *a}\n")


def test_a_variable_that_is_no_text_is_told(tmp_path: Path) -> None:
    assert "error[not-text]" in answers("name: ${NAME}\n", {"NAME": "\udcff"})


def test_each_of_several_variables_in_one_value_is_told_at_its_own_place() -> None:
    answer = answers("name: ${A_MISSING}-${B_MISSING}\n")
    assert "pipeline.yaml:1:7: " in answer
    assert "pipeline.yaml:1:20: " in answer
