"""An alarm of the broker, frame by frame: who is told of it, with which frame a publisher is stopped, and what goes on.
On RabbitMQ and on the embedded broker alike."""

from collections.abc import Iterator
from contextlib import contextmanager

from pamqp import body, frame, header
from pamqp.commands import Basic, Connection, Queue

from tests.brokers import BrokerUnderTest
from tests.embedded.conversation import publishing
from tests.embedded.wire import Wire, opened
from tests.waiting import wait_until

PUBLISH: frame.FrameTypes = Basic.Publish(0, "", "q")


def head(size: int) -> frame.FrameTypes:
    return header.ContentHeader(0, size, Basic.Properties())


def is_served(wire: Wire) -> None:
    """What it asks for is answered, and nothing else was to be heard before."""
    wire.say(1, Basic.Qos(0, 1))
    wire.expect(1, Basic.QosOk)


def is_stopped(wire: Wire) -> None:
    assert wire.expect(0, Connection.Blocked).reason == "low on memory"


@contextmanager
def alarm(broker: BrokerUnderTest) -> Iterator[None]:
    """Raised, and noticed: RabbitMQ tells its connections one by one."""
    broker.block()
    try:
        with opened(broker.url, 1) as probe:

            def noticed() -> bool:
                probe.say(1, *publishing("nowhere"), Basic.Qos(0, 1))
                heard = probe.hear()
                return heard is not None and isinstance(heard[1], Connection.Blocked)

            wait_until(noticed, 20, told="the alarm")
        yield
    finally:
        broker.unblock()


def test_a_publisher_is_stopped_with_the_first_frame_of_content(broker: BrokerUnderTest) -> None:
    with opened(broker.url, 1) as publisher, opened(broker.url, 1) as other:
        publisher.say(1, Queue.Declare(0, "q", durable=True))
        publisher.expect(1, Queue.DeclareOk)
        with alarm(broker):
            # When it publishes, the method is not what stops it
            publisher.say(1, Basic.Qos(0, 1), PUBLISH)
            publisher.expect(1, Basic.QosOk)
            publisher.say(1, head(4))
            is_stopped(publisher)
            # Then the rest waits, and whoever does not publish is served
            publisher.say(1, body.ContentBody(b"body"), Basic.Qos(0, 2))
            is_served(other)
            assert broker.queue_depths() == {"q": 0}
        # And it goes on where it was stopped, having been told so
        publisher.expect(0, Connection.Unblocked)
        publisher.expect(1, Basic.QosOk)
        wait_until(lambda: broker.queue_depths() == {"q": 1})


def test_a_publisher_in_the_middle_of_a_message_is_stopped_with_the_next_piece(broker: BrokerUnderTest) -> None:
    with opened(broker.url, 1) as publisher:
        publisher.say(1, Queue.Declare(0, "q", durable=True), PUBLISH, head(9), body.ContentBody(b"one"))
        publisher.expect(1, Queue.DeclareOk)
        with alarm(broker):
            publisher.say(1, body.ContentBody(b"two"))
            is_stopped(publisher)
            publisher.say(1, body.ContentBody(b"six"))
        publisher.expect(0, Connection.Unblocked)
        publisher.say(1, Basic.Get(0, "q", True))
        publisher.expect(1, Basic.GetOk)
        publisher.expect(1, header.ContentHeader)
        assert publisher.expect(1, body.ContentBody).value == b"onetwosix"


def test_an_alarm_that_is_over_has_stopped_nobody_who_did_not_publish(broker: BrokerUnderTest) -> None:
    with opened(broker.url, 1) as one:
        with alarm(broker):
            is_served(one)
        is_served(one)
        one.say(1, *publishing("nowhere"))
        is_served(one)
