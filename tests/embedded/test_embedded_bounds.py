"""One peer alone cannot make the broker grow: whatever it announces, leaves unfinished, asks for without reading the
answer, or sends without waiting."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from pamqp import body, frame, header
from pamqp.commands import Basic, Channel, Confirm, Connection, Queue, Tx

from pipeline.embedded.channels import session as session_module
from pipeline.embedded.channels.publishing import PIECE_WEIGHT
from pipeline.embedded.wire.outbox import ENOUGH, TOO_MUCH
from pipeline.embedded.wire.refusals import Refusal
from tests.embedded.conversation import Talk, closed, methods, only, publishing

MIB = 2**20


def octets(*frames: frame.FrameTypes, channel: int = 1) -> bytes:
    return b"".join(frame.marshal(each, channel) for each in frames)


def growth(act: Callable[[], object]) -> int:
    """Octets that are held afterwards and were not before."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        act()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


# What comes in


def test_a_body_that_is_only_announced_takes_no_room() -> None:
    talk = Talk().open(*range(1, 101))
    announced: list[frame.FrameTypes] = [
        Basic.Publish(0, "", "q"),
        header.ContentHeader(0, 16 * MIB, Basic.Properties()),
    ]

    def announce() -> None:
        for channel in range(1, 101):
            talk.say(channel, *announced, body.ContentBody(b"x"))

    assert growth(announce) < MIB


def test_messages_that_are_never_whole_are_bounded_for_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "UNFINISHED_MAX", MIB)
    talk = Talk().open(*range(1, 21))
    part: list[frame.FrameTypes] = [Basic.Publish(0, "", "q"), header.ContentHeader(0, 200_000, Basic.Properties())]
    for channel in range(1, 11):
        assert talk.say(channel, *part, body.ContentBody(b"x" * 100_000)) == []
    what, code, text = closed(talk.say(11, *part, body.ContentBody(b"x" * 100_000)))
    assert (what, code) == ("connection", 506)
    assert text.startswith(
        "RESOURCE_ERROR - messages that are not whole or not committed yet take more than 1048576 octets"
    )


def test_pieces_of_a_message_weigh_something_however_small_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "UNFINISHED_MAX", MIB)
    talk = Talk().open()
    talk.say(1, Basic.Publish(0, "", "q"), header.ContentHeader(0, 10, Basic.Properties()))
    empty = b"\x03\x00\x01\x00\x00\x00\x00\xce"
    assert closed(talk.raw(empty * (MIB // PIECE_WEIGHT + 1)))[1] == 506


def test_messages_that_become_whole_or_are_given_up_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "UNFINISHED_MAX", MIB)
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    begun: list[frame.FrameTypes] = [Basic.Publish(0, "", "q"), header.ContentHeader(0, 900_000, Basic.Properties())]
    parts: list[frame.FrameTypes] = [body.ContentBody(b"x" * 100_000)] * 9
    for _ in range(3):
        assert talk.say(1, *begun, *parts) == []
        talk.say(2, Channel.Open())
        assert talk.say(2, *begun, *parts[:-1]) == []
        talk.core.close_channels(2, Refusal(406, "given up"))
        talk.say(2, Channel.CloseOk())
    assert talk.node.queue_depths() == {"q": 3}


def test_publishes_that_go_nowhere_leave_nothing_behind() -> None:
    talk = Talk().open()
    talk.say(1, Confirm.Select())
    some = octets(*[each for _ in range(200) for each in publishing("nowhere", b"x" * 1000)])

    def publish() -> None:
        for _ in range(20):
            talk.raw(some)

    publish()
    assert growth(publish) < MIB


def test_what_waits_in_a_transaction_raises_no_alarm_that_would_keep_it_from_being_committed() -> None:
    talk = Talk().open()
    talk.node.memory.limit = MIB
    talk.say(1, Queue.Declare(0, "q", durable=True), Tx.Select())
    for _ in range(30):
        talk.publish(1, "q", b"x" * 50_000)
    talk.node.look()
    assert methods(talk.say(1, Tx.Commit())) == ["Tx.CommitOk"]
    talk.node.look()
    assert methods(talk.publish(1, "q", b"x")) == ["Connection.Blocked"]
    assert not talk.core.wants_octets


# What goes out


def test_who_asks_for_much_at_once_and_does_not_read_is_answered_piece_by_piece() -> None:
    # Given far more messages than may wait for a peer
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    for number in range(250):
        talk.publish(1, "q", bytes([number]) * 100_000)
    # When all of them are asked for in one go, and then something else
    talk.core.receive(octets(*[Basic.Get(0, "q", True)] * 250, Basic.Qos(0, 1)))
    # Then no more is taken out of the queue than may wait, and the peer is not read
    assert TOO_MUCH < talk.core.outbox.size < TOO_MUCH + 200_000
    assert talk.node.queue_depths()["q"] > 150
    assert not talk.core.wants_octets
    # And as it reads, it gets the rest, in order
    got, seen = list[int](), talk.heard()
    while seen:
        got += [each.value[0] for _, each in seen if isinstance(each, body.ContentBody) and each.value]
        last, seen = seen, talk.heard()
    assert got == list(range(250))
    assert methods(last)[-1:] == ["Basic.QosOk"]
    assert talk.core.wants_octets


def test_who_has_too_much_to_read_can_still_be_closed() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True))
    for _ in range(100):
        talk.publish(1, "q", b"x" * 100_000)
    talk.core.receive(octets(*[Basic.Get(0, "q", True)] * 100) + octets(Connection.Close(200, "", 0, 0), channel=0))
    assert not talk.core.wants_octets
    talk.heard()  # what waited, and by that the rest is worked off
    assert methods(talk.heard())[-1:] == ["Connection.CloseOk"]
    assert talk.node.queue_depths() == {"q": 0}


def test_returned_messages_count_as_answers() -> None:
    talk = Talk().open()
    message = octets(*publishing("nowhere", b"x" * 100_000, mandatory=True))
    for _ in range(200):
        if not talk.core.wants_octets:
            break
        talk.core.receive(message)
    assert TOO_MUCH < talk.core.outbox.size < TOO_MUCH + 200_000


def test_deliveries_to_who_does_not_read_stay_in_the_queue() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q", durable=True), Basic.Consume(0, "q", "c", no_ack=True))
    publisher = Talk(talk.node).open()
    for _ in range(100):
        publisher.publish(1, "q", b"x" * 10_000)
    assert ENOUGH < talk.core.outbox.size < ENOUGH + 20_000
    assert talk.node.queue_depths()["q"] > 70


# What is opened


def test_channels_are_counted() -> None:
    talk = Talk().open()
    opened = talk.raw(b"".join(octets(Channel.Open(), channel=number) for number in range(2, 2049)))
    assert len(methods(opened)) == 2047
    what, code, text = closed(opened)
    assert (what, code) == ("connection", 530)
    assert "has reached the negotiated channel_max (2047)" in text
    assert only(opened, Connection.Close).reply_code == 530
