"""Messages over TLS: what is published arrives whole, is delivered and settled, on each line and each event loop."""

import asyncio
from pathlib import Path

import pytest

from pipeline.amqp.consume import Subscription
from pipeline.amqp.publish import Publisher
from pipeline.clock import SystemClock
from pipeline.config.model import Tls
from pipeline.message import Delivery
from tests.amqp.certificates import Authority
from tests.amqp.parts import Recorder, broker_of, linked, outgoing, queue, topology
from tests.amqp.strangers import behind_tls
from tests.brokers import BrokerUnderTest
from tests.waiting import deadline, eventually

pytestmark = [pytest.mark.usefixtures("both_lines"), pytest.mark.both_loops]


async def test_messages_of_all_sizes_go_there_and_back(broker: BrokerUnderTest, tmp_path: Path) -> None:
    # Given a broker behind TLS, with a queue that is consumed
    authority = Authority(tmp_path)
    trusted = Tls(ca_file=authority.ca, cert_file=None, key_file=None, key_password=None)
    bodies = [b"", b"small", bytes(range(256)) * 2_000]  # the last in several frames, and in many records of TLS
    arrived: list[Delivery] = []
    clock, seen = SystemClock(), Recorder()
    publisher = Publisher(clock=clock, emit=seen)
    subscription = Subscription(
        consumer="c",
        tag="c",
        queue="q",
        prefetch=10,
        no_ack=False,
        exclusive=False,
        arguments={},
        receive=arrived.extend,
        redeclare=no_difference,
        clock=clock,
        emit=seen,
    )
    async with behind_tls(broker.url, authority.server("127.0.0.1")) as url:
        settings = broker_of(url, tls=trusted)
        wanted = topology(queue("q"))
        async with linked(settings, publisher, wanted=wanted), linked(settings, subscription, wanted=wanted):
            # When messages of all sizes are published at once
            sending = [
                publisher.send(outgoing("q", body, message_id=str(number)), timeout=deadline(10))
                for number, body in enumerate(bodies)
            ]
            await asyncio.gather(*sending)
            await eventually(lambda: len(arrived) == len(bodies))

            # Then they have arrived, and what is acknowledged is gone
            assert [each.message.body for each in arrived] == bodies
            assert [each.message.message_id for each in arrived] == ["0", "1", "2"]
            for each in arrived:
                await each.ack()
            await eventually(lambda: broker.queue_depths() == {"q": 0})


async def no_difference(_: object) -> tuple[()]:
    return ()
