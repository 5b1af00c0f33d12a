"""Every scenario, on the embedded broker as each version and on the RabbitMQ of the session, against what RabbitMQ has
answered. What differs is in differences.yaml, differs in the recorded way, and nothing else differs."""

from collections.abc import Callable

import pytest

from tests.conformance import golden
from tests.conformance.differences import OWN, PAGE, listed, own_key, page, read_table
from tests.conformance.rounds import Rounds
from tests.conformance.scenario import VERSIONS, Scenario, Version, load_all
from tests.conformance.stage import RabbitMQStage
from tests.conformance.transcript import Transcript, diff

AREAS = load_all()
SCENARIOS = [each for area in AREAS for each in area.scenarios]
GOLDEN = {version: golden.read(golden.path_of(version)) for version in VERSIONS}
TABLE = read_table()
LISTED = listed(TABLE.differences)
OWN_TRANSCRIPTS = golden.read(OWN)


@pytest.mark.parametrize(
    ("scenario", "version"),
    [
        pytest.param(each, version, id=f"{version}-{each.id}")
        for version in VERSIONS
        for each in SCENARIOS
        if version in each.versions
    ],
)
async def test_the_embedded_broker_answers_like_rabbitmq(
    scenario: Scenario, version: Version, on_embedded: Callable[[Version], Rounds]
) -> None:
    expected = _expected(scenario, version)

    seen = await on_embedded(version).answer(scenario)

    if (version, scenario.id) in LISTED:
        assert seen != expected, "no difference any more: take it out of differences.yaml"
        expected = OWN_TRANSCRIPTS.get(own_key(version, scenario.id), {})
    _compare(scenario, expected, seen)


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.id) for each in SCENARIOS])
async def test_the_golden_transcripts_are_what_rabbitmq_answers(
    scenario: Scenario, rabbitmq_stage: RabbitMQStage, on_rabbitmq: Rounds
) -> None:
    if rabbitmq_stage.version not in scenario.versions:
        pytest.skip(f"played for {scenario.versions[0]} only")
    expected = _expected(scenario, rabbitmq_stage.version)

    seen = await on_rabbitmq.answer(scenario)

    _compare(scenario, expected, seen)


@pytest.mark.parametrize("version", VERSIONS)
def test_there_is_one_golden_transcript_for_each_scenario(version: Version) -> None:
    assert set(GOLDEN[version]) == {each.id for each in SCENARIOS if version in each.versions}


def test_what_is_listed_as_different_is_played_and_recorded() -> None:
    played = {(version, each.id) for each in SCENARIOS for version in each.versions}
    assert played >= LISTED
    assert set(OWN_TRANSCRIPTS) == {own_key(version, scenario) for version, scenario in LISTED}


def test_the_page_about_differences_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(AREAS, TABLE), "run python -m tests.conformance.differences"


def _expected(scenario: Scenario, version: Version) -> Transcript:
    if scenario.id not in GOLDEN[version]:
        pytest.fail(f"not recorded for {version}: python -m tests.conformance.record {scenario.area}", pytrace=False)
    return GOLDEN[version][scenario.id]


def _compare(scenario: Scenario, expected: Transcript, seen: Transcript) -> None:
    if seen != expected:
        steps = "\n".join(f"  {step.text}" for step in scenario.steps)
        pytest.fail(f"{scenario.why}\n{steps}\n{diff(expected, seen)}", pytrace=False)
