"""What a file of scenarios may hold, and what is said about one that cannot be played."""

import pytest

from tests.conformance.scenario import ScenarioError, load
from tests.conformance.tables import Typed


def file(step: str, more: str = "") -> str:
    return f"title: T\nscenarios:\n  s:\n    why: w\n{more}    steps:\n      - {step}\n"


def test_a_step_says_how_often_and_where() -> None:
    (scenario,) = load("area", file("3x c2 ch4 basic.publish: {routing_key: q, mandatory: true}")).scenarios
    (step,) = scenario.steps

    assert (scenario.id, scenario.why, scenario.versions) == ("area/s", "w", ("3.10", "4.3"))
    assert (step.times, step.connection, step.channel, step.verb) == (3, "c2", 4, "basic.publish")
    assert step.fields == {"routing_key": "q", "mandatory": True}
    assert step.text == "3x c2 ch4 basic.publish: {routing_key: q, mandatory: true}"


def test_a_step_without_fields_is_a_word() -> None:
    (step,) = load("area", file("ch2 tx.select")).scenarios[0].steps

    assert (step.times, step.connection, step.channel, step.fields) == (1, "c1", 2, {})


def test_methods_of_the_connection_are_on_channel_0() -> None:
    (step,) = load("area", file("connection.close")).scenarios[0].steps

    assert step.channel == 0


def test_a_scenario_may_be_for_one_version() -> None:
    assert load("area", file("cut", '    only: "4.3"\n')).scenarios[0].versions == ("4.3",)


def test_types_are_tags() -> None:
    values = (
        "{a: !byte -5, b: !timestamp 1700000000, c: !binary 00ff, d: !decimal [2, 314], e: !float 0.5, f: [!long 1]}"
    )

    (step,) = load("area", file(f"queue.declare: {{arguments: {values}}}")).scenarios[0].steps

    assert step.fields["arguments"] == {
        "a": Typed(kind="byte", value=-5),
        "b": Typed(kind="timestamp", value=1700000000),
        "c": Typed(kind="binary", value="00ff"),
        "d": Typed(kind="decimal", value=[2, 314]),
        "e": Typed(kind="float", value=0.5),
        "f": [Typed(kind="long", value=1)],
    }


def test_only_true_and_false_are_truth() -> None:
    (step,) = load("area", file("ready: {on: 1, no: 2, 2026-11-23: 3}")).scenarios[0].steps

    assert step.fields == {"on": 1, "no": 2, "2026-11-23": 3}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("queue.declair: {queue: q}", "area/s, step 1: there is no 'queue.declair'; did you mean queue.declare?"),
        ("queue.declare: {name: q}", "area/s, step 1: queue.declare has no field 'name'; there are arguments, "),
        ("basic.publish: {properties: {messageid: m}}", "there is no property 'messageid'; did you mean message_id?"),
        ("two ch2 basic.get: {queue: q}", "'two ch2 basic.get' is not of the form `3x c1 ch1 basic.publish`"),
        ("{basic.get: {queue: q}, cut: {}}", "area/s, step 1: one method with its fields in braces"),
        ("queue.declare: {queue: q, queue: r}", "stands twice"),
        ("frame: {type: 5, payload: 00}", "a payload in hex, quoted where it looks like a number"),
        ("queue.declare: {queue: q", "area: "),
    ],
)
def test_what_is_wrong_is_named(step: str, told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load("area", file(step))

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("    only: 4.3\n", 'area/s: only is "3.10" or "4.3", in quotes, not 4.3'),
        ("    because: x\n", "area/s: a scenario has why, steps and only, not because"),
    ],
)
def test_a_scenario_has_why_steps_and_only(more: str, told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load("area", file("cut", more))

    assert str(caught.value) == told


def test_a_scenario_has_a_reason() -> None:
    with pytest.raises(ScenarioError, match="area/s: why and steps are needed"):
        load("area", "title: T\nscenarios:\n  s:\n    steps: [cut]\n")
