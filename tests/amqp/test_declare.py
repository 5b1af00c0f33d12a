"""Declaring: in order and safe to repeat; each of assert, check and skip does what its name says; what differs is told
with both values, all of it at once."""

from typing import Any

import aio_pika
import pytest

from pipeline.amqp.declare import compare, declare
from pipeline.amqp.generation import Generation
from pipeline.embedded import EmbeddedBroker
from tests.amqp.parts import binding, exchange, generation_of, queue, sentences, topology
from tests.brokers import BrokerUnderTest
from tests.rabbitmq import PrivateRabbitMQ


async def deliver(broker: BrokerUnderTest, exchange_name: str, key: str, body: bytes, **properties: Any) -> None:
    async with broker.channel() as channel:
        target = await channel.get_exchange(exchange_name)
        await target.publish(aio_pika.Message(body, **properties), key, timeout=10)


# assert


async def test_everything_is_declared_in_order_and_again(broker: BrokerUnderTest) -> None:
    # Given objects that are listed before what they are bound to
    wanted = topology(
        queue("q", bindings=(binding("inner", "order.*"),)),
        exchange("inner", bindings=(binding("outer", "order.#"),)),
        exchange("outer"),
        exchange("everywhere", type="fanout"),
    )
    async with generation_of(broker.url) as generation:
        # When they are declared, twice
        assert await declare(generation, wanted) == ()
        assert await declare(generation, wanted) == ()

    # Then a message finds its way through both exchanges
    await deliver(broker, "outer", "order.paid", b"1")
    assert broker.queue_depths() == {"q": 1}


async def test_bindings_with_arguments_are_each_made(broker: BrokerUnderTest) -> None:
    headers = exchange("h", type="headers")
    wanted = topology(
        headers,
        queue("q", bindings=tuple(binding("h", arguments={"x-match": "all", name: 1}) for name in "ab")),
    )
    async with generation_of(broker.url) as generation:
        assert await declare(generation, wanted) == ()

    await deliver(broker, "h", "", b"1", headers={"a": 1})
    await deliver(broker, "h", "", b"2", headers={"b": 1})
    assert broker.queue_depths() == {"q": 2}


async def test_all_differences_of_all_objects_are_told_with_both_values(broker: BrokerUnderTest) -> None:
    # Given objects that somebody made otherwise, in several ways each
    async with generation_of(broker.url) as generation:
        theirs = topology(
            exchange("orders", type="fanout", durable=False),
            queue("hello", auto_delete=True, arguments={"x-message-ttl": 5000, "x-max-length": 7}),
        )
        assert await declare(generation, theirs) == ()

        # When the file's are declared, with one that is right
        ours = topology(
            exchange("orders", type="topic"),
            queue("hello", durable=False, arguments={"x-message-ttl": 6000}),
            queue("fine"),
        )
        differences = await declare(generation, ours)

    # Then each attribute is there with the broker's value and the file's
    assert sorted(sentences(differences)) == [
        'exchange "orders" is on the broker with durable false, the file says true',
        'exchange "orders" is on the broker with type fanout, the file says topic',
        'queue "hello" is on the broker with auto_delete true, the file says false',
        'queue "hello" is on the broker with durable true, the file says false',
        'queue "hello" is on the broker with x-max-length 7, the file has none',
        'queue "hello" is on the broker with x-message-ttl 5000, the file says 6000',
    ]
    # And what was right is there
    assert "fine" in broker.queue_depths()


async def test_another_queue_type_is_one_difference(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        await declare(generation, topology(queue("q")))
        quorum = queue("q", type="quorum", arguments={"x-queue-type": "quorum", "x-delivery-limit": 50})

        differences = await declare(generation, topology(quorum))

    assert sentences(differences) == ['queue "q" is on the broker with x-queue-type classic, the file says quorum']


async def test_what_differs_stays_as_it_is(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        theirs = topology(queue("q", arguments={"x-max-length": 7}))
        await declare(generation, theirs)
        await broker.publish("q", b"kept")

        await declare(generation, topology(queue("q", arguments={}, auto_delete=True)))

        assert await declare(generation, theirs) == ()
        assert broker.queue_depths() == {"q": 1}


async def test_an_argument_that_the_broker_does_not_take_is_told_in_its_words(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        differences = await declare(generation, topology(queue("q", arguments={"x-message-ttl": -1})))

    (told,) = sentences(differences)
    assert told.startswith('queue "q" was refused by the broker: PRECONDITION_FAILED - invalid arg')


async def test_a_binding_to_a_missing_exchange_is_told_and_the_rest_is_made(broker: BrokerUnderTest) -> None:
    wanted = topology(queue("q", bindings=(binding("nowhere", "k"), binding("amq.topic", "k"))))
    async with generation_of(broker.url) as generation:
        (told,) = await declare(generation, wanted)

    assert told.missing
    assert told.sentence.startswith('queue "q" cannot be bound to exchange "nowhere": NOT_FOUND - no exchange')
    await deliver(broker, "amq.topic", "k", b"1")
    assert broker.queue_depths() == {"q": 1}


async def test_a_queue_of_another_connection_is_told(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as theirs, generation_of(broker.url) as ours:
        wanted = topology(queue("q", exclusive=True))
        await declare(theirs, wanted)

        differences = await declare(ours, wanted)

    assert sentences(differences) == [
        'queue "q" cannot be used: it is exclusive to another connection, or not exclusive as the file says'
    ]


async def test_a_name_that_the_client_cannot_send_is_told(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        (told,) = await declare(generation, topology(queue("заказы")))

    assert told.sentence.startswith('queue "заказы" cannot be asked for: Invalid value for queue (names are ASCII')


async def test_an_argument_that_amqp_cannot_carry_is_told(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        (told,) = await declare(generation, topology(queue("q", arguments={"x-max-length": 2**70})))

    assert told.sentence.startswith('queue "q" cannot be asked for: ')
    assert str(2**70) in told.sentence


async def test_a_missing_right_is_told_with_the_way_out(rabbitmq: PrivateRabbitMQ) -> None:
    vhost = rabbitmq.add_vhost()
    rabbitmq.add_user("reader", "pw")
    rabbitmq.set_permissions("reader", vhost, configure="^$")
    async with generation_of(rabbitmq.url(vhost, "reader", "pw")) as generation:
        (told,) = await declare(generation, topology(queue("q")))

    assert told.forbidden
    assert told.sentence.replace("configure access", "access") == (  # RabbitMQ 4.3 says which right it is
        'queue "q" may not be declared, a right is missing: '
        f"ACCESS_REFUSED - access to queue 'q' in vhost '{vhost}' refused for user 'reader'; "
        "grant it, or write `declare: skip`"
    )
    rabbitmq.delete_vhost(vhost)


# check and skip


async def test_check_makes_nothing_and_tells_what_is_missing(broker: BrokerUnderTest) -> None:
    wanted = topology(exchange("e", declare="check"), queue("q", declare="check", bindings=(binding("e"),)))
    async with generation_of(broker.url) as generation:
        differences = await declare(generation, wanted)

    assert sentences(differences) == [
        'exchange "e" is not on the broker, and `declare: check` does not make it',
        'queue "q" is not on the broker, and `declare: check` does not make it',
    ]
    assert all(each.missing for each in differences)
    assert broker.queue_depths() == {}


async def test_check_tells_what_differs(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        await declare(generation, topology(queue("q", arguments={})))

        wanted = queue("q", declare="check", durable=False, arguments={"x-max-length": 3})
        differences = await declare(generation, topology(wanted))

    assert sorted(sentences(differences)) == [
        'queue "q" is on the broker with durable true, the file says false',
        'queue "q" is on the broker without x-max-length, the file says 3',
    ]


async def test_check_without_the_right_to_configure_sees_only_whether_it_is_there(rabbitmq: PrivateRabbitMQ) -> None:
    vhost = rabbitmq.add_vhost()
    rabbitmq.add_user("worker", "pw")
    rabbitmq.set_permissions("worker", vhost, configure="^$")
    async with generation_of(rabbitmq.url(vhost)) as owner:
        await declare(owner, topology(queue("q", arguments={"x-max-length": 7})))
    async with generation_of(rabbitmq.url(vhost, "worker", "pw")) as generation:
        wanted = topology(queue("q", declare="check"), queue("other", declare="check"))

        differences = await declare(generation, wanted)

    assert sentences(differences) == ['queue "other" is not on the broker, and `declare: check` does not make it']
    rabbitmq.delete_vhost(vhost)


async def test_skip_leaves_the_object_and_its_bindings_alone(broker: BrokerUnderTest) -> None:
    wanted = topology(queue("q", declare="skip", bindings=(binding("nowhere"),)), exchange("e", declare="skip"))
    async with generation_of(broker.url) as generation:
        assert await declare(generation, wanted) == ()
        assert await compare(generation, wanted) == ()

    assert broker.queue_depths() == {}


# compare


async def test_comparing_makes_nothing(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        await declare(generation, topology(queue("other", arguments={"x-max-length": 7})))
        wanted = topology(exchange("e"), queue("q", bindings=(binding("e"),)), queue("other"))

        differences = await compare(generation, wanted)

    # A queue that is only not there yet is no difference: declaring makes it
    assert sentences(differences) == ['queue "other" is on the broker with x-max-length 7, the file has none']
    assert broker.queue_depths() == {"other": 0}


# Many at a time


async def test_many_are_declared_on_several_channels_and_told_in_their_order(broker: BrokerUnderTest) -> None:
    # Given objects enough for several channels, some of which somebody has made otherwise
    numbers = range(45)
    wrong = (3, 4, 17, 30, 44)
    queues = [queue(f"q{number}", bindings=(binding(f"e{number}", "#"),)) for number in numbers]
    exchanges = [exchange(f"e{number}", type="topic") for number in numbers]
    async with generation_of(broker.url) as generation:
        theirs = topology(*(queue(f"q{number}", auto_delete=True) for number in wrong), exchange("e20", type="fanout"))
        assert await declare(generation, theirs) == ()
        told = ["e20", *(f"q{number}" for number in wrong)]

        # When they are compared, declared, and declared again
        wanted = topology(*exchanges, *queues)
        for finding in (compare, declare, declare):
            # Then each difference is told, in the order of the file
            assert [each.name for each in await finding(generation, wanted)] == told

    # And the rest is made and bound
    assert set(broker.queue_depths()) == {each.name for each in queues}
    await deliver(broker, "e43", "any", b"1")
    assert broker.queue_depths()["q43"] == 1


async def test_a_broker_that_allows_few_channels_is_not_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.embedded.connections.connection.CHANNEL_MAX", 2)
    with EmbeddedBroker() as broker:
        async with generation_of(broker.url) as generation:
            assert await declare(generation, topology(*(queue(f"q{number}") for number in range(40)))) == ()
        assert len(broker.queue_depths()) == 40


# What consumers of the generation are told


async def test_a_generation_knows_the_queues_in_conflict_until_they_are_right(broker: BrokerUnderTest) -> None:
    async with generation_of(broker.url) as generation:
        await declare(generation, topology(queue("q", arguments={"x-max-length": 7})))
        ours = topology(queue("q"), queue("fine"))
        await declare(generation, ours)
        assert set(conflicts(generation)) == {"q"}

        async with broker.channel() as channel:
            await channel.queue_delete("q")
        await declare(generation, ours)
        assert conflicts(generation) == {}


def conflicts(generation: Generation) -> dict[str, str]:
    return dict(generation.conflicts)


@pytest.mark.parametrize("wanted", [topology(), topology(queue("q", declare="skip"))])
async def test_nothing_to_declare_needs_no_channel(broker: BrokerUnderTest, wanted: Any) -> None:
    async with generation_of(broker.url) as generation:
        assert await declare(generation, wanted) == ()
