"""The embedded broker as a stage. Apart from the other one, so that recording RabbitMQ does not import it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.embedded import EmbeddedBroker
from tests.conformance.scenario import Version
from tests.conformance.stage import Stage


class EmbeddedStage(Stage):
    patience = 2  # nothing takes time there but a TTL; where it differs one waits in vain

    def __init__(self, broker: EmbeddedBroker, version: Version) -> None:
        self.version = version
        self._broker = broker

    @classmethod
    @contextmanager
    def start(cls, version: Version) -> Iterator["EmbeddedStage"]:
        """One broker. Its user is that of the private RabbitMQ, whose name stands in refusals."""
        with EmbeddedBroker(rabbitmq_version=version, username="guest") as broker:
            yield cls(broker, version)

    def _open(self) -> tuple[str, str]:
        vhost = f"test-{secrets.token_hex(4)}"
        self._broker.add_vhost(vhost)
        return vhost, self._broker.url_of(vhost)

    def _close(self, vhost: str) -> None:
        """Stays until the broker ends."""
