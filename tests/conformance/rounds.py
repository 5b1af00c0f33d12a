"""Plays the scenarios of an area together, when the first of them is asked for: most of a scenario's time is waiting,
for a TTL, for an answer, for RabbitMQ's disk. Each has a virtual host of its own and a result of its own."""

from collections import defaultdict
from collections.abc import Iterable

from tests.conformance.scenario import Scenario, ScenarioError
from tests.conformance.stage import Stage
from tests.conformance.transcript import Transcript


class Rounds:
    """What a stage answers in the scenarios that were `chosen`, and in no others."""

    def __init__(self, stage: Stage, chosen: Iterable[Scenario]) -> None:
        self._stage = stage
        self._answers: dict[str, Transcript | ScenarioError] = {}
        self._areas: defaultdict[str, list[Scenario]] = defaultdict(list)
        for scenario in chosen:
            if stage.version in scenario.versions:
                self._areas[scenario.area].append(scenario)

    async def answer(self, scenario: Scenario) -> Transcript:
        """Raises ScenarioError where it cannot be played."""
        if scenario.id not in self._answers:
            self._answers |= await self._stage.play_all(self._areas[scenario.area])
        answer = self._answers[scenario.id]
        if isinstance(answer, ScenarioError):
            raise answer
        return answer
