"""Pauses between tries."""

from pipeline.amqp.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_begin_again() -> None:
    backoff = Backoff(initial=1, maximum=10, spread=lambda shortest, longest: longest)

    assert [backoff.pause() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.pause() == 1


def test_pauses_differ_between_half_and_whole() -> None:
    pauses = {Backoff(initial=8, maximum=60).pause() for _ in range(50)}

    assert len(pauses) > 1
    assert all(4 <= pause <= 8 for pause in pauses)
