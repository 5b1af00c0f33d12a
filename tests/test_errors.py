"""What holds for the exceptions themselves: their sentences, and which one a group of tasks has failed with."""

import pytest

from pipeline.errors import BrokerError, FileError, Reject, Retry, TopologyDiffers, Unroutable, innermost
from pipeline.problems import Place, Problem, Severity


def a_problem(severity: Severity) -> Problem:
    return Problem(severity=severity, word="empty-file", place=Place(path="a.yaml", line=1, column=1), sentence="empty")


@pytest.mark.parametrize(
    ("problems", "sentence"),
    [
        ([a_problem("error")], "1 error in the configuration"),
        ([a_problem("error"), a_problem("warning"), a_problem("error")], "2 errors in the configuration"),
    ],
)
def test_a_file_error_counts_what_makes_the_file_unusable(problems: list[Problem], sentence: str) -> None:
    error = FileError(problems)
    assert (str(error), error.problems) == (sentence, tuple(problems))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TopologyDiffers(["a differs", "b differs"]), "a differs; b differs"),
        (
            Unroutable(exchange="orders", routing_key="x"),
            'exchange "orders" has no queue for routing key "x" (NO_ROUTE)',
        ),
        (
            Unroutable(exchange="", routing_key="x"),
            'the default exchange has no queue for routing key "x" (NO_ROUTE)',
        ),
        (Reject(), "rejected"),
        (Retry(), "the handler asked for a retry"),
        (Retry(after="5s", reason="busy"), "busy"),
    ],
    ids=repr,
)
def test_an_exception_is_a_sentence(error: Exception, sentence: str) -> None:
    assert str(error) == sentence


def test_one_error_of_a_group_of_tasks_is_that_error() -> None:
    error = BrokerError("refused")
    group = ExceptionGroup("tasks", [ExceptionGroup("inner tasks", [error])])
    several = ExceptionGroup("tasks", [error, ZeroDivisionError()])
    assert innermost(group) is error
    assert innermost(error) is error
    assert innermost(several) is several
