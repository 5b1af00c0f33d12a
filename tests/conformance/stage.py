"""Where scenarios are played: a broker that can make a virtual host of its own for each of them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable

from tests.conformance.player import play
from tests.conformance.scenario import VERSIONS, Scenario, ScenarioError, Version
from tests.conformance.transcript import Transcript, normalise
from tests.rabbitmq import PrivateRabbitMQ

AT_ONCE = 4  # a crowd moves what is not steady, and most of a scenario is waiting


class Stage(ABC):
    """`version` is the RabbitMQ that it is, or behaves like; `patience` the seconds to wait for whatever must come."""

    version: Version
    patience: float

    @abstractmethod
    def _open(self) -> tuple[str, str]:
        """A new virtual host: its name and URL."""

    @abstractmethod
    def _close(self, vhost: str) -> None:
        """It is not needed any more."""

    async def play(self, scenario: Scenario) -> Transcript:
        vhost, url = self._open()
        try:
            return normalise(await play(scenario, url, self.patience), vhost)
        finally:
            self._close(vhost)

    async def play_all(self, scenarios: Iterable[Scenario]) -> dict[str, Transcript | ScenarioError]:
        """By the scenario's id, several at once: what each has answered, or why it cannot be played."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(scenario: Scenario) -> tuple[str, Transcript | ScenarioError]:
            async with places:
                try:
                    return scenario.id, await self.play(scenario)
                except ScenarioError as error:
                    return scenario.id, error

        return dict(await asyncio.gather(*map(one, scenarios)))


class RabbitMQStage(Stage):
    patience = 10

    def __init__(self, node: PrivateRabbitMQ) -> None:
        self.version = version_of(node)
        self._node = node

    def _open(self) -> tuple[str, str]:
        vhost = self._node.add_vhost()
        return vhost, self._node.url(vhost)

    def _close(self, vhost: str) -> None:
        self._node.delete_vhost(vhost)


def version_of(node: PrivateRabbitMQ) -> Version:
    """Raises ValueError for a RabbitMQ that no transcripts are kept of."""
    version = ".".join(str(part) for part in node.version[:2])
    for known in VERSIONS:
        if version == known:
            return known
    raise ValueError(f"transcripts are kept of RabbitMQ {' and '.join(VERSIONS)}, this one is {version}")
