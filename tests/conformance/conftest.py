"""The brokers that scenarios are played on, each started once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.embedded_stage import EmbeddedStage
from tests.conformance.scenario import Version
from tests.conformance.stage import RabbitMQStage
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import on_ci


@pytest.fixture(autouse=True)
def quiet_client(caplog: pytest.LogCaptureFixture) -> None:
    """aiormq logs each close that the scenarios provoke."""
    caplog.set_level(logging.CRITICAL, "aiormq")


@pytest.fixture(scope="session")
def embedded_stage() -> Iterator[Callable[[Version], EmbeddedStage]]:
    """One embedded broker for each version that is asked for."""
    stages: dict[Version, EmbeddedStage] = {}
    with ExitStack() as brokers:

        def stage(version: Version) -> EmbeddedStage:
            if version not in stages:
                stages[version] = brokers.enter_context(EmbeddedStage.start(version))
            return stages[version]

        yield stage


@pytest.fixture(scope="session")
def rabbitmq_stage(rabbitmq: PrivateRabbitMQ) -> RabbitMQStage:
    """Skips with a RabbitMQ that no transcripts are kept of, and fails on CI."""
    try:
        return RabbitMQStage(rabbitmq)
    except ValueError as error:
        if on_ci():
            raise
        pytest.skip(str(error))
