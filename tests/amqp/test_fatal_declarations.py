"""Objects over which the broker ends a whole connection instead of a channel. RabbitMQ 3.10 does so over a type of
exchange that it does not know; later ones over a queue that is neither durable nor exclusive, where they are configured
not to permit it, as the embedded broker is in their place."""

import asyncio
from typing import cast

import pytest

from pipeline.amqp.declare import Topology, declare
from pipeline.amqp.generation import Generation
from pipeline.config.model import ExchangeType
from pipeline.errors import TopologyDiffers
from tests.amqp.parts import Recorder, binding, broker_of, exchange, linked, queue, topology
from tests.amqp.test_link import Watcher, link_to
from tests.brokers import BrokerUnderTest, RabbitMQUnderTest
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("both_lines")

OVER_IT = "cannot be declared, the broker ends the connection over it: "
WAYS = {"INTERNAL_ERROR", "COMMAND_INVALID"}
COSTLY = (exchange("odd", type=cast(ExchangeType, "x-odd")), queue("passing", durable=False))


@pytest.fixture
def costly(broker: BrokerUnderTest) -> None:
    if isinstance(broker, RabbitMQUnderTest) and broker.node.version >= (4,):
        pytest.skip("RabbitMQ 4.3 as it is installed ends no connection over a declaration")


GOOD = (exchange("orders"), queue("billing", bindings=(binding("orders", "#"),)))


@pytest.mark.usefixtures("costly")
async def test_at_the_first_start_it_is_named(broker: BrokerUnderTest) -> None:
    link = link_to(broker_of(broker.url), Recorder(), declare=lambda generation: _first(generation, topology(*COSTLY)))
    with pytest.raises(TopologyDiffers) as differs:
        await link.open(wait=False)
    (sentence,) = [each for each in differs.value.differences if OVER_IT in each]
    assert any(way in sentence for way in WAYS)
    assert ("durable: true" in sentence) is ('queue "passing"' in sentence)
    await link.close(timeout=5)


@pytest.mark.usefixtures("costly")
async def test_among_many_that_are_asked_for_at_once_it_alone_is_named(broker: BrokerUnderTest) -> None:
    exchanges = [exchange(f"e{number}") for number in range(40)]
    queues = [queue(f"q{number}") for number in range(40)]
    wanted = topology(*exchanges[:20], COSTLY[0], *exchanges[20:], *queues[:20], COSTLY[1], *queues[20:])
    link = link_to(broker_of(broker.url), Recorder(), declare=lambda generation: _first(generation, wanted))
    with pytest.raises(TopologyDiffers) as differs:
        await link.open(wait=False)
    (sentence,) = differs.value.differences
    assert OVER_IT in sentence
    await link.close(timeout=5)


async def _first(generation: Generation, wanted: Topology) -> None:
    if differences := await declare(generation, wanted):
        raise TopologyDiffers([each.sentence for each in differences])


@pytest.mark.usefixtures("costly")
async def test_after_an_upgrade_it_costs_one_connection_and_then_only_itself(broker: BrokerUnderTest) -> None:
    # Given a link that is up, and a broker that from now on does not take all of its objects
    watcher, later = Watcher(), False
    differences: dict[int, list[str]] = {}

    async def declared(generation: Generation) -> None:
        wanted = topology(*COSTLY, *GOOD) if later else topology(*GOOD)
        found = await declare(generation, wanted)
        differences[generation.number] = [each.sentence for each in found]

    link = link_to(broker_of(broker.url), Recorder(), declare=declared, parts=(watcher,))
    await link.open(wait=False)
    keeping = asyncio.create_task(link.keep())
    await eventually(lambda: watcher.has_lived(1))

    # When the line is lost
    later = True
    broker.drop_connections()

    # Then a connection is lost over the object, and the next one stays, with all others declared
    await eventually(lambda: len(differences) == 2 and watcher.living == 1, 20)
    generation = link.generation
    assert generation is not None
    assert sum(OVER_IT in each for each in differences[generation.number]) == 1
    assert "billing" in broker.queue_depths()

    # And nobody notices when its consumer has it declared again
    assert any(OVER_IT in each.sentence for each in await declare(generation, topology(*COSTLY)))
    assert (link.generation, watcher.living) == (generation, 1)
    await link.close(timeout=5)
    await keeping


async def test_what_the_broker_takes_later_is_declared_then(broker: BrokerUnderTest) -> None:
    async with linked(broker_of(broker.url)) as link:
        assert link.generation is not None
        link.generation.fatal["queue", "billing"] = "it was too much while most of the nodes were away"
        assert await declare(link.generation, topology(*GOOD)) == ()
        assert link.generation.fatal == {}
        assert "billing" in broker.queue_depths()


async def test_what_somebody_else_has_made_is_taken_as_it_is(broker: BrokerUnderTest) -> None:
    await broker.declare("passing")
    async with linked(broker_of(broker.url)) as link:
        assert link.generation is not None
        link.generation.fatal["queue", "passing"] = "the broker ends the connection over it"
        assert await declare(link.generation, topology(queue("passing", durable=False))) == ()
        assert link.generation.conflicts == {}
