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

AT_ONCE = 4  # a crowd moves what is not steady


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
    for scenario, played in zip(scenarios, asyncio.run(_play_twice(stage, scenarios)), strict=True):
        if isinstance(played, str):
            print(f"{scenario.id}: {played}\n")
        else:
            steady[scenario.id] = played
    untouched = known - {area.name for area in areas}
    golden.update(path, steady, untouched)
    print(f"RabbitMQ {stage.version}: recorded {len(steady)} of {len(scenarios)} scenarios")
    return int(len(steady) < len(scenarios))


async def _play_twice(stage: Stage, scenarios: list[Scenario]) -> list[Transcript | str]:
    """What was said both times, or in words why there is no such thing."""
    places = asyncio.Semaphore(AT_ONCE)

    async def twice(scenario: Scenario) -> Transcript | str:
        async with places:
            try:
                first, second = await stage.play(scenario), await stage.play(scenario)
            except ScenarioError as error:
                return str(error)
            return _trouble(first, second) or first

    return await asyncio.gather(*(twice(scenario) for scenario in scenarios))


def _trouble(first: Transcript, second: Transcript) -> str:
    for said in (each for transcript in (first, second) for lane in transcript.values() for each in lane):
        if gave_up := said.get("player.gave-up"):
            return f"waits in vain: {gave_up}"
    return f"not steady; wait for more between its steps:\n{diff(first, second)}" if first != second else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
