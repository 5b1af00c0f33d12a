"""Who listens hears every event in order, and one that fails hurts nobody."""

import logging
import threading
from typing import get_args

import pytest
from msgspec import Struct

from pipeline.events import Blocked, Event, Events, Unblocked
from tests.waiting import deadline


def test_every_listener_hears_every_event_in_order() -> None:
    events = Events()
    first, second = list[Event](), list[Event]()
    events.emit(Blocked(link="publish"))  # nobody listens yet
    events.listen(first.append)
    events.emit(Blocked(link="publish"))
    events.listen(second.append)
    events.emit(Unblocked(link="publish"))
    assert first == [Blocked(link="publish"), Unblocked(link="publish")]
    assert second == [Unblocked(link="publish")]


def test_a_listener_that_fails_is_told_and_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    heard = list[Event]()

    def broken(event: Event) -> None:
        raise RuntimeError("out of order")

    events.listen(broken)
    events.listen(heard.append)
    with caplog.at_level(logging.ERROR, "piperun"):
        events.emit(Blocked(link="publish"))
    assert heard == [Blocked(link="publish")]
    (record,) = caplog.records
    assert record.getMessage() == "a listener failed on Blocked"
    assert record.exc_info and "out of order" in str(record.exc_info[1])


def test_threads_are_heard_one_after_the_other() -> None:
    events = Events()
    inside, most = 0, 0

    def listener(event: Event) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time_to_come.wait(0.01)
        inside -= 1

    def emit() -> None:
        events.emit(Blocked(link="publish"))

    time_to_come = threading.Event()  # for the others, while one is in here
    events.listen(listener)
    threads = [threading.Thread(target=emit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline(10))
    assert most == 1


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_is_a_value(kind: type[object]) -> None:
    assert issubclass(kind, Struct)
    assert kind.__struct_config__.frozen
