"""Records what RabbitMQ answers: `python -m tests.conformance.record [AREA...]`, the installed RabbitMQ unless
PIPERUN_TEST_RABBITMQ_ROOT names another, into the golden transcripts of its version. Each scenario is played twice,
and must come out the same."""

import asyncio
import logging
import sys
from pathlib import Path

from tests.conformance import golden
from tests.conformance.scenario import Area, Scenario, ScenarioError, area_names, load_area
from tests.conformance.stage import RabbitMQStage, Stage
from tests.conformance.transcript import Transcript, diff
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import HOW_TO_GET_IT, find_installation


def main(names: list[str]) -> int:
    """Exit status 1 where a scenario is not steady, or waits for what RabbitMQ does not send."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what the scenarios provoke is no news
    known = area_names()
    if unknown := set(names) - set(known):
        print(f"no such area: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    installation = find_installation()
    if installation is None:
        print(HOW_TO_GET_IT)
        return 1
    try:
        areas = [load_area(name) for name in names or known]
        with PrivateRabbitMQ.start(installation) as node:
            stage = RabbitMQStage(node)
            return record(stage, areas, set(known), golden.path_of(stage.version))
    except ScenarioError as error:
        print(error)
        return 2


def record(stage: Stage, areas: list[Area], known: set[str], path: Path) -> int:
    """`known` are the areas that there are: what was recorded of others leaves the file, and what was recorded of those
    that are not among `areas` stays as it is."""
    scenarios = [each for area in areas for each in area.scenarios if stage.version in each.versions]
    steady: dict[str, Transcript] = {}
    for scenario, played in asyncio.run(_play_twice(stage, scenarios)).items():
        if isinstance(played, str):
            print(f"{scenario}: {played}\n")
        else:
            steady[scenario] = played
    untouched = known - {area.name for area in areas}
    golden.update(path, steady, untouched)
    print(f"RabbitMQ {stage.version}: recorded {len(steady)} of {len(scenarios)} scenarios")
    return int(len(steady) < len(scenarios))


async def _play_twice(stage: Stage, scenarios: list[Scenario]) -> dict[str, Transcript | str]:
    """By the scenario's id: what was said both times, or in words why there is no such thing."""
    first, second = await stage.play_all(scenarios), await stage.play_all(scenarios)
    return {scenario: _steady(first[scenario], second[scenario]) for scenario in first}


def _steady(first: Transcript | ScenarioError, second: Transcript | ScenarioError) -> Transcript | str:
    if isinstance(first, ScenarioError) or isinstance(second, ScenarioError):
        return str(first if isinstance(first, ScenarioError) else second)
    for said in (each for transcript in (first, second) for lane in transcript.values() for each in lane):
        if gave_up := said.get("player.gave-up"):
            return f"waits in vain: {gave_up}"
    return f"not steady; wait for more between its steps:\n{diff(first, second)}" if first != second else first


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
