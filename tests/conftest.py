"""Fixtures that more than one folder of tests uses. What they hand out is described where it is made:
`tests.rabbitmq`, `tests.brokers`, `tests.proxy`, `tests.command`."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline.amqp.self_check import PLAIN_BY_HAND
from pipeline.embedded import EmbeddedBroker
from pipeline.runtime.loop import why_not_uvloop
from tests.brokers import NEEDS_CONTROL, BrokerUnderTest, EmbeddedUnderTest, ForeignUnderTest, RabbitMQUnderTest
from tests.command import Commands
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import HOW_TO_GET_IT, Installation, find_installation, version_to_behave_like
from tests.waiting import on_ci

# No test asserts on speed, and by itself hypothesis does: 200 ms for an example, which a busy machine needs at times.
settings.register_profile("piperun", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("piperun")

# A RabbitMQ that runs already and is given to the tests, with the virtual host of this URL; see `make test-4.3`.
FOREIGN_URL = os.environ.get("PIPERUN_TEST_AMQP_URL")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line, instead of one with each test that was skipped."""
    if not FOREIGN_URL and find_installation() is None:
        terminalreporter.write_line(HOW_TO_GET_IT)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asyncio's own loop, and for what is marked so the other one, too: whose errors and texts are not the same."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("both_loops") is not None and why_not_uvloop() is None:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What runs on both lines runs on the plain one with RabbitMQ and asyncio's own loop alone: each line meets each
    broker's faults and each loop somewhere, and the whole run stays short."""
    left_out = [item for item in items if _is_plain_and_varied(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _is_plain_and_varied(item: pytest.Item) -> bool:
    if "both_lines" not in getattr(item, "fixturenames", ()):
        return False
    variant = set(item.name.rpartition("[")[2].removesuffix("]").split("-"))
    return "plain" in variant and bool(variant & {"embedded", "uvloop"})


@pytest.fixture(autouse=True)
def nothing_left_on_the_loop(request: pytest.FixtureRequest) -> None:
    """For every test that is a coroutine function: see `left_tasks_end`."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("left_tasks_end")


@pytest.fixture
async def left_tasks_end() -> AsyncIterator[None]:
    """End what a test that failed or was skipped in the middle has left running, connections of the client above all:
    ended with the loop, they start tasks that never run, and the warnings about those hit a later test."""
    yield
    for _ in range(10):  # the end of one task may start another
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)


@pytest.fixture(scope="session")
def rabbitmq_installation() -> Installation:
    """Where RabbitMQ lies. Without one, tests that need it are skipped, and fail on CI."""
    if FOREIGN_URL:
        pytest.skip(NEEDS_CONTROL)
    installation = find_installation()
    if installation is None:
        if on_ci():
            pytest.fail("RabbitMQ is not installed", pytrace=False)
        pytest.skip("RabbitMQ is not installed")
    return installation


@pytest.fixture(scope="session")
def rabbitmq(rabbitmq_installation: Installation) -> Iterator[PrivateRabbitMQ]:
    """The one node of this session. Not for faults that end it: those start a node of their own."""
    with PrivateRabbitMQ.start(rabbitmq_installation) as node:
        yield node


@pytest.fixture
def rabbitmq_vhost_url(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    """The URL of a new virtual host on the session's node."""
    vhost = rabbitmq.add_vhost()
    yield rabbitmq.url(vhost)
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(params=["embedded", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    """Runs the test twice: on an embedded broker of its own, and on a virtual host of its own in RabbitMQ, which the
    embedded one behaves like."""
    if request.param == "embedded":
        with EmbeddedBroker(rabbitmq_version=version_to_behave_like()) as embedded:
            yield EmbeddedUnderTest(embedded)
        return
    if FOREIGN_URL:
        with ForeignUnderTest(FOREIGN_URL) as foreign:
            yield foreign
        return
    node: PrivateRabbitMQ = request.getfixturevalue("rabbitmq")
    under_test = RabbitMQUnderTest(node, node.add_vhost())
    yield under_test
    under_test.close()


@pytest.fixture(params=["fast", "plain"])
def both_lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the test twice: on the fast line, and on the plain one, on which everything goes through the client."""
    if request.param == "plain":
        monkeypatch.setenv(PLAIN_BY_HAND, "1")


@pytest.fixture
def proxy(broker: BrokerUnderTest) -> Iterator[Proxy]:
    """A line to `broker` that can be cut and frozen: connect to `proxy.url(broker.url)`."""
    with Proxy.before(broker.url) as line:
        yield line


@pytest.fixture
def run_piperun(tmp_path: Path) -> Iterator[Commands]:
    """Starts `piperun` as a process; ended with the test, and its output shown if the test fails."""
    commands = Commands(tmp_path)
    yield commands
    print(commands.close())
