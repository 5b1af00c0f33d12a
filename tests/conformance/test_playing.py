"""How scenarios are played: what is waited for, what is recorded, what happens where it does not come. The broker is
the embedded one; what it says is not the point here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import golden
from tests.conformance.embedded_stage import EmbeddedStage
from tests.conformance.record import record
from tests.conformance.rounds import Rounds
from tests.conformance.scenario import Area, Scenario, ScenarioError, load
from tests.conformance.stage import Stage
from tests.conformance.transcript import Transcript


@pytest.fixture(scope="module")
def stage() -> Iterator[EmbeddedStage]:
    with EmbeddedStage.start("4.3") as stage:
        yield stage


def scenario(*steps: str) -> Scenario:
    text = "title: T\nscenarios:\n  s:\n    why: w\n    steps:\n" + "".join(f"      - {step}\n" for step in steps)
    return load("area", text).scenarios[0]


def said(transcript: Transcript, lane: str) -> list[str]:
    return [next(iter(each)) for each in transcript.get(lane, [])]


async def test_answers_are_recorded_and_what_the_player_asks_for_itself_is_not(stage: EmbeddedStage) -> None:
    played = scenario(
        "queue.declare: {queue: q, durable: true}", "basic.publish: {routing_key: q}", "ready: {q: 1}", "tx.select"
    )

    transcript = await stage.play(played)

    assert transcript.keys() == {"c1/1"}
    assert said(transcript, "c1/1") == ["queue.declare-ok", "tx.select-ok"]


async def test_a_flow_that_the_scenario_sends_is_recorded(stage: EmbeddedStage) -> None:
    transcript = await stage.play(scenario("channel.open", "channel.flow: {active: true}"))

    assert said(transcript, "c1/1") == ["channel.open-ok", "channel.flow-ok"]


async def test_repetitions_are_numbered(stage: EmbeddedStage) -> None:
    played = scenario(
        "queue.declare: {queue: q, durable: true}",
        "confirm.select",
        "2x basic.publish: {routing_key: q, body: m%n}",
        "2x basic.get: {queue: q}",
    )

    transcript = await stage.play(played)

    assert [each.get("body") for each in transcript["c1/1"]][2:] == ["m1", "m2"]
    assert transcript["c1/1 publishing"] == [{"basic.ack": {"delivery_tags": [1, 2]}}]


async def test_a_name_that_the_server_made_can_be_used(stage: EmbeddedStage) -> None:
    played = scenario('queue.declare: {queue: "", exclusive: true, as: mine}', "queue.purge: {queue: $mine}")

    transcript = await stage.play(played)

    assert said(transcript, "c1/1") == ["queue.declare-ok", "queue.purge-ok"]
    assert transcript["c1/1"][0]["queue.declare-ok"] == {"consumer_count": 0, "message_count": 0, "queue": "amq.gen#1"}


async def test_waits_count_on_from_the_waits_before(stage: EmbeddedStage) -> None:
    played = scenario(
        "queue.declare: {queue: q, durable: true}",
        "confirm.select",
        "3x basic.publish: {routing_key: q}",
        "c2 basic.consume: {queue: q, consumer_tag: t}",
        "c2 wait: {deliver: 2}",
        "c2 wait: {deliver: 1}",
    )

    transcript = await stage.play(played)

    assert said(transcript, "c2/1 consumer t") == ["basic.consume-ok", *["basic.deliver"] * 3]


async def test_a_wait_in_vain_ends_the_scenario(stage: EmbeddedStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "patience", 0.5)

    transcript = await stage.play(scenario("channel.open", "wait: {deliver: 1}", "confirm.select"))

    assert said(transcript, "c1/1") == ["channel.open-ok", "player.gave-up"]
    assert transcript["c1/1"][1] == {"player.gave-up": {"step": "wait: {deliver: 1}", "waited_for": "1 deliver"}}


async def test_a_queue_that_does_not_fill_is_named(stage: EmbeddedStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "patience", 0.5)

    transcript = await stage.play(scenario("queue.declare: {queue: q, durable: true}", "ready: {q: 1}"))

    gave_up = {"step": "ready: {q: 1}", "waited_for": "'q' with 1 messages, it has 0"}
    assert transcript["c1/1"][1] == {"player.gave-up": gave_up}


async def test_nothing_is_waited_for_on_a_connection_that_is_gone(stage: EmbeddedStage) -> None:
    transcript = await stage.play(scenario("channel.open", "cut", "wait: {deliver: 1}"))

    gave_up = {"step": "wait: {deliver: 1}", "waited_for": "1 deliver, but the connection is closed"}
    assert transcript["c1/1"][1] == {"player.gave-up": gave_up}


async def test_a_step_that_cannot_be_sent_is_named(stage: EmbeddedStage) -> None:
    with pytest.raises(ScenarioError, match=r"area/s: queue.purge: {queue: \$mine}: KeyError"):
        await stage.play(scenario("queue.purge: {queue: $mine}"))


# Recording


class Said(Stage):
    """A broker that says what it was told to say, one transcript for each time that it is asked."""

    version = "4.3"
    patience = 1

    def __init__(self, *transcripts: Transcript) -> None:
        self._transcripts = [*transcripts]

    def _open(self) -> tuple[str, str]:
        raise AssertionError("nothing is played")

    def _close(self, vhost: str) -> None:
        raise AssertionError("nothing is played")

    async def play(self, scenario: Scenario) -> Transcript:
        return self._transcripts.pop(0)


ONCE: Transcript = {"c1/1": [{"tx.select-ok": {}}]}
AREA = Area(name="area", title="T", scenarios=(scenario("tx.select"),))


def test_what_is_said_twice_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"

    assert record(Said(ONCE, ONCE), [AREA], {"area"}, path) == 0
    assert golden.read(path) == {"area/s": ONCE}


def test_what_is_not_steady_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.json"

    assert record(Said(ONCE, {}), [AREA], {"area"}, path) == 1
    assert golden.read(path) == {}
    assert capsys.readouterr().out.startswith("area/s: not steady; wait for more between its steps:\n--- expected\n")


def test_what_waits_in_vain_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gave_up: Transcript = {"c1/1": [{"player.gave-up": {"waited_for": "1 deliver"}}]}

    assert record(Said(gave_up, gave_up), [AREA], {"area"}, tmp_path / "golden.json") == 1
    assert capsys.readouterr().out.startswith("area/s: waits in vain: {'waited_for': '1 deliver'}\n")


def test_what_cannot_be_played_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Said):
        async def play(self, scenario: Scenario) -> Transcript:
            raise ScenarioError("no such queue")

    assert record(Broken(), [AREA], {"area"}, tmp_path / "golden.json") == 1
    assert "area/s: no such queue\n" in capsys.readouterr().out


# Playing an area together


class Counting(Said):
    """Says nothing, and knows what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.played: list[str] = []

    async def play(self, scenario: Scenario) -> Transcript:
        self.played.append(scenario.id)
        if scenario.name == "broken":
            raise ScenarioError("no such queue")
        return {scenario.id: []}


def of(area: str, name: str, only: str = "") -> Scenario:
    chosen = f'only: "{only}", ' if only else ""
    (made,) = load(area, f"{{title: T, scenarios: {{{name}: {{{chosen}why: w, steps: [tx.select]}}}}}}").scenarios
    return made


async def test_what_was_chosen_of_an_area_is_played_with_the_first_that_is_asked_for() -> None:
    stage, one, two = Counting(), of("area", "one"), of("area", "two")
    rounds = Rounds(stage, [one, two, of("area", "old", only="3.10"), of("other", "three")])

    assert await rounds.answer(two) == {"area/two": []}
    assert await rounds.answer(one) == {"area/one": []}
    assert stage.played == ["area/one", "area/two"]


async def test_who_cannot_be_played_holds_up_nobody_else() -> None:
    broken, fine = of("area", "broken"), of("area", "fine")
    rounds = Rounds(Counting(), [broken, fine])

    assert await rounds.answer(fine) == {"area/fine": []}
    with pytest.raises(ScenarioError, match="no such queue"):
        await rounds.answer(broken)
