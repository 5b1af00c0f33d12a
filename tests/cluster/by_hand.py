"""A cluster of three loses its leader, and then its majority, under a running pipeline: what is confirmed is not lost,
publishes wait while nobody can confirm them, and the list of addresses is what leads back. Run by `make test-cluster`;
the name of this file keeps it out of all other runs."""

from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest

from tests.cluster.nodes import Cluster
from tests.command import Command, Commands
from tests.faults.ledger import discrepancies_of
from tests.rabbitmq_installation import Installation
from tests.soak import pipe
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

# The same pipeline as in a soak. A queue of one copy would be gone together with its node.
FILE = pipe.FILE.replace("tasks.dlq: {}", "tasks.dlq: {type: quorum, delivery_limit: 1000000}").replace(
    "results: {}", "results: {type: quorum, delivery_limit: 20}"
)
A_FEW = 60


@pytest.fixture
def cluster(rabbitmq_installation: Installation) -> Iterator[Cluster]:
    with Cluster.start(rabbitmq_installation) as cluster:
        yield cluster


def started(cluster: Cluster, run_piperun: Commands, folder: Path) -> Command:
    """A run in the middle, with all nodes in its list of addresses."""
    pipe.write(folder)
    command = run_piperun(FILE.replace('"${AMQP_URL}"', str(cluster.urls())))
    goes_on(folder)
    return command


def goes_on(folder: Path, seconds: float = 60) -> None:
    """Returns when more is confirmed and handled than now."""
    confirmed, handled = len(pipe.confirmed(folder)), pipe.count_handled(folder)
    wait_until(lambda: len(pipe.confirmed(folder)) > confirmed + A_FEW, seconds, told="more that is confirmed")
    wait_until(lambda: pipe.count_handled(folder) > handled + A_FEW, seconds, told="more that is handled")


async def adds_up(command: Command, cluster: Cluster, folder: Path) -> None:
    pipe.enough(folder)
    assert command.wait(120) == 0
    books, of_outputs = await pipe.books(cluster.urls()[0], folder)
    print(command.lines[-1], f"ledger: {books}", sep="\n")
    assert not [*books.discrepancies(), *of_outputs, *discrepancies_of(command.lines[-1], books.sights)]


async def test_the_leader_is_killed_under_load(cluster: Cluster, run_piperun: Commands, tmp_path: Path) -> None:
    command = started(cluster, run_piperun, tmp_path)
    first = cluster.leader("tasks")
    # When the node that leads the queue is killed
    first.kill()
    # Then another one leads, and the run goes on with the two that are left
    goes_on(tmp_path)
    assert cluster.leader("tasks") is not first
    # And when it is back and the next leader is killed, too
    first.boot()
    second = cluster.leader("tasks")
    second.kill()
    goes_on(tmp_path)
    second.boot()
    await adds_up(command, cluster, tmp_path)


async def test_without_a_majority_publishes_wait_and_then_go_on(
    cluster: Cluster, run_piperun: Commands, tmp_path: Path
) -> None:
    command = started(cluster, run_piperun, tmp_path)
    # When two of three are killed
    lost = cluster.nodes[1:]
    for node in lost:
        node.kill()
    before = len(pipe.confirmed(tmp_path))
    # Then nobody can confirm a message, and nothing is, but for what was on its way to each producer
    async with await aio_pika.connect(cluster.urls()[0]) as connection:
        channel = await connection.channel()
        with pytest.raises((TimeoutError, aio_pika.exceptions.DeliveryError)):
            await channel.default_exchange.publish(aio_pika.Message(b"0"), routing_key="results", timeout=15)
    assert len(pipe.confirmed(tmp_path)) <= before + pipe.PRODUCERS
    # And it goes on when they are back
    for node in lost:
        node.boot()
    goes_on(tmp_path)
    await adds_up(command, cluster, tmp_path)
