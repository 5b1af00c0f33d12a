"""The shared table: rows of integers that outlive the process that wrote them."""

import tempfile
from collections.abc import Sequence

from pipeline.runtime.plan import Plan, plan
from pipeline.runtime.table import Phase, Table
from tests.models import a_consumer, a_pipeline, a_producer, a_queue


def plans() -> Sequence[Plan]:
    """Two files: one with two consumers and a producer, one with two producers only."""
    both = a_pipeline(
        queues=(a_queue("billing"),), producers=(a_producer(),), consumers=(a_consumer("a"), a_consumer("b"))
    )
    return [plan(both), plan(a_pipeline(producers=(a_producer("x"), a_producer("y"))))]


def test_a_new_table_is_empty() -> None:
    table = Table(plans(), rows=2)
    assert [row.phase for row in table.rows] == [Phase.STARTING] * 2
    assert set(table.consumer_totals().values()) == set(table.producer_totals().values()) == {0}
    assert [[len(each) for each in row.consumers] for row in table.rows] == [[2, 0]] * 2
    assert [[len(each) for each in row.producers] for row in table.rows] == [[1, 2]] * 2


def test_every_cell_is_its_own() -> None:
    table = Table(plans(), rows=3)
    for row in table.rows:
        for ledgers in row.consumers:
            for ledger in ledgers:
                ledger.delivered(1)
                ledger.delivered(1)
                ledger.done()
        for sources in row.producers:
            for source in sources:
                source.read()
                source.finish()
        row.phase = Phase.READY
        row.sources_left = 1
    for row in table.rows:
        assert (row.phase, row.sources_left, row.in_hand, row.pending, row.delivered) == (Phase.READY, 1, 2, 3, 4)
        assert all(each.numbers()["delivered"] == 2 for ledgers in row.consumers for each in ledgers)
        assert all(each.finished for sources in row.producers for each in sources)
    assert table.consumer_totals() == {
        **dict.fromkeys(table.consumer_totals(), 0),
        "delivered": 12,
        "done": 6,
        "in_hand": 6,
    }
    assert table.producer_totals() == {"read": 9, "confirmed": 0, "failed": 0, "pending": 9}


def test_a_row_is_cleared_for_the_next_worker_and_its_numbers_stay() -> None:
    (row,) = Table(plans(), rows=1).rows
    row.phase, row.sources_left = Phase.STOPPING, 3
    row.consumers[0][0].delivered(1)
    row.clear_phase()
    assert (row.phase, row.sources_left, row.delivered) == (Phase.STARTING, 0, 1)


def test_a_table_without_any_object_has_its_phases_all_the_same() -> None:
    table = Table([plan(a_pipeline())], rows=1)
    table.rows[0].phase = Phase.READY
    assert table.rows[0].phase is Phase.READY
    assert table.consumer_totals()["delivered"] == table.producer_totals()["read"] == 0


def test_whoever_opens_it_by_its_descriptor_sees_what_was_counted() -> None:
    with tempfile.TemporaryFile() as memory:
        memory.truncate(Table.size(plans(), rows=2))
        table = Table(plans(), rows=2, fileno=memory.fileno())
        same = Table(plans(), rows=2, fileno=memory.fileno())  # as a worker opens it
        same.rows[1].phase = Phase.READY
        same.rows[1].consumers[0][1].delivered(1)
        assert table.rows[1].phase is Phase.READY
        assert (table.rows[0].in_hand, table.rows[1].in_hand) == (0, 1)
        table.rows[1].consumers[0][1].redelivery_expected()
        assert same.rows[1].in_hand == 0
