"""The names that a line has seen declared, also when frames arrive in pieces."""

import pytest
from pamqp import commands, frame, header

from tests.declared import HEADER, Declared


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_names_are_read_from_frames_in_pieces_of_any_size(size: int) -> None:
    sent = HEADER
    sent += frame.marshal(commands.Channel.Open(), 1)
    sent += frame.marshal(commands.Queue.Declare(queue="orders", durable=True), 1)
    sent += frame.marshal(commands.Queue.Declare(queue=""), 1)
    sent += frame.marshal(commands.Basic.Publish(routing_key="orders"), 1)
    sent += frame.marshal(header.ContentHeader(0, 3, commands.Basic.Properties()), 1)
    sent += frame.marshal(commands.Exchange.Declare(exchange="shop"), 2)
    sent += frame.marshal(commands.Exchange.Declare(exchange="amq.topic", passive=True), 2)
    declared = Declared()
    for start in range(0, len(sent), size):
        declared.feed(1, sent[start : start + size])
    assert declared.queues == {"orders"}
    assert declared.exchanges == {"shop"}


def test_connections_do_not_mix() -> None:
    one = HEADER + frame.marshal(commands.Queue.Declare(queue="one"), 1)
    two = HEADER + frame.marshal(commands.Queue.Declare(queue="two"), 1)
    declared = Declared()
    declared.feed(1, one[:20])
    declared.feed(2, two)
    declared.feed(1, one[20:])
    assert declared.queues == {"one", "two"}
