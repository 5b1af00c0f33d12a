"""A running embedded broker for the tests of this folder that are about it alone."""

from collections.abc import Iterator

import pytest

from pipeline.embedded import EmbeddedBroker


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(rabbitmq_version="3.10") as broker:
        yield broker
