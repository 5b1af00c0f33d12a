"""What can be a lifespan, and that each is opened once, closed once, and told how it ended."""

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pipeline.handlers import lifespan

told: list[str] = []


@contextlib.asynccontextmanager
async def usual() -> AsyncIterator[str]:
    told.append("open")
    try:
        yield "state"
    finally:
        told.append("close")


@contextlib.contextmanager
def plain() -> Iterator[str]:
    told.append(f"open in {threading.current_thread().name}")
    try:
        yield "state"
    finally:
        told.append(f"close in {threading.current_thread().name}")


async def undecorated() -> AsyncIterator[str]:
    told.append("open")
    try:
        yield "state"
    finally:
        told.append("close")


def plain_undecorated() -> Iterator[str]:
    told.append(f"open in {threading.current_thread().name}")
    try:
        yield "state"
    finally:
        told.append(f"close in {threading.current_thread().name}")


class Async:
    def __init__(self, name: str = "state") -> None:
        self.name = name

    async def __aenter__(self) -> str:
        told.append("open")
        return self.name

    async def __aexit__(self, *error: object) -> None:
        told.append("close")


class Plain:
    def __enter__(self) -> str:
        told.append(f"open in {threading.current_thread().name}")
        return "state"

    def __exit__(self, *error: object) -> None:
        told.append(f"close in {threading.current_thread().name}")


LOOP = ["open", "close"]
THREAD = ["open in lifespan-1", "close in lifespan-1"]
GOOD: list[tuple[Any, list[str]]] = [
    (usual, LOOP),
    (undecorated, LOOP),
    (Async, LOOP),
    (Async(), LOOP),
    (lambda: usual(), LOOP),
    (plain, THREAD),
    (plain_undecorated, THREAD),
    (Plain, THREAD),
    (Plain(), THREAD),
]


@pytest.mark.parametrize(("function", "expected"), GOOD)
async def test_a_lifespan_is_opened_and_closed(function: object, expected: list[str]) -> None:
    told.clear()
    assert lifespan.check(function, name="shop:lifespan") is None
    async with lifespan.open(function) as state:
        assert (state, told) == ("state", expected[:1])
    assert told == expected


@pytest.mark.parametrize(("function", "expected"), GOOD)
async def test_a_lifespan_is_closed_after_a_failure_that_it_does_not_hide(
    function: object, expected: list[str]
) -> None:
    told.clear()
    with pytest.raises(ValueError, match="in the pipeline"):
        async with lifespan.open(function):
            raise ValueError("in the pipeline")
    assert told == expected


async def test_a_plain_lifespan_may_swallow_a_failure() -> None:
    async with lifespan.open(contextlib.suppress(ValueError)):
        raise ValueError("swallowed")


async def test_a_lifespan_made_by_hand_may_be_one_that_can_also_be_called() -> None:
    told.clear()
    made = usual()
    assert lifespan.check(made, name="shop:made") is None
    async with lifespan.open(made) as state:
        assert state == "state"
    assert told == LOOP


async def returns_once() -> str:
    return "state"


def needs_argument(app: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (4, 'lifespan "shop:it" is of type int, which cannot be opened and closed'),
        (None, 'lifespan "shop:it" is None, which cannot be opened and closed'),
        (returns_once, 'lifespan "shop:it" returns once and has nothing that closes what it opened'),
        (needs_argument, "lifespan \"shop:it\" is called without arguments: missing a required argument: 'app'"),
    ],
)
def test_what_cannot_be_a_lifespan_is_told_before_anything_is_called(function: object, sentence: str) -> None:
    problem = lifespan.check(function, name="shop:it")
    assert problem is not None
    assert (problem.word, problem.sentence) == ("handler-signature", sentence)
    assert problem.hint


def test_a_callable_that_tells_nothing_is_left_to_be_called() -> None:
    assert lifespan.check(min, name="shop:it") is None


@pytest.mark.parametrize(("function", "what"), [(lambda: 4, "is of type int"), (lambda: None, "is None")])
def test_a_call_that_gives_nothing_to_open_is_told(function: object, what: str) -> None:
    with pytest.raises(TypeError, match=f"{what} when it is called, which cannot be opened and closed"):
        lifespan.open(function)
