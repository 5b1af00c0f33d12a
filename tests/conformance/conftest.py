"""The brokers that scenarios are played on, each started once, and asked for the scenarios that were chosen."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.embedded_stage import EmbeddedStage
from tests.conformance.rounds import Rounds
from tests.conformance.scenario import Scenario, Version
from tests.conformance.stage import RabbitMQStage
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import on_ci


@pytest.fixture(autouse=True)
def quiet_client(caplog: pytest.LogCaptureFixture) -> None:
    """aiormq logs each close that the scenarios provoke."""
    caplog.set_level(logging.CRITICAL, "aiormq")


@pytest.fixture(scope="session")
def chosen(request: pytest.FixtureRequest) -> list[Scenario]:
    """Those of the tests that are to run, each once."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec"))
    found = (item.callspec.params.get("scenario") for item in items)
    return list({each.id: each for each in found if isinstance(each, Scenario)}.values())


@pytest.fixture(scope="session")
def on_embedded(chosen: list[Scenario]) -> Iterator[Callable[[Version], Rounds]]:
    """One embedded broker for each version that is asked for."""
    rounds: dict[Version, Rounds] = {}
    with ExitStack() as brokers:

        def on(version: Version) -> Rounds:
            if version not in rounds:
                rounds[version] = Rounds(brokers.enter_context(EmbeddedStage.start(version)), chosen)
            return rounds[version]

        yield on


@pytest.fixture(scope="session")
def rabbitmq_stage(rabbitmq: PrivateRabbitMQ) -> RabbitMQStage:
    """Skips with a RabbitMQ that no transcripts are kept of, and fails on CI."""
    try:
        return RabbitMQStage(rabbitmq)
    except ValueError as error:
        if on_ci():
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def on_rabbitmq(rabbitmq_stage: RabbitMQStage, chosen: list[Scenario]) -> Rounds:
    return Rounds(rabbitmq_stage, chosen)
