"""What Prometheus reads, read by its own parser."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline.ledger import CONSUMER_TERMS
from pipeline.observe.health import Numbers, Status
from pipeline.observe.metrics import METRICS, text
from tests.observe.statuses import a_connection, a_process, a_registered, a_status, consumed

PAGE = Path(__file__).parents[2] / "docs/monitoring.md"


def samples(status: Status) -> dict[tuple[str, ...], float]:
    """By name and values of the labels."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text(status)):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


FULL = a_status(
    a_process(name="worker 1"),
    a_process(
        name="worker 2",
        connections=(a_connection(blocked=True, reconnects=2),),
        consumers=(a_registered(state="conflict"),),
    ),
    a_process(name="worker 3", phase="dead", connections=(a_connection(reconnects=3),)),
    restarts=4,
    consumers=(
        consumed(
            delivered=28,
            done=1,
            retried=2,
            dead_lettered=3,
            dropped=4,
            returned=5,
            redelivery_expected=6,
            in_hand=7,
            duplicates=1,
        ),
        consumed("show", delivered=1, in_hand=1),
    ),
    producers=(Numbers(pipeline="shop", name="web", terms={"read": 9, "confirmed": 5, "failed": 3, "pending": 1}),),
)


def test_every_term_of_the_sum_is_there_and_the_sum_comes_out() -> None:
    found = samples(FULL)
    terms = {term: found[f"piperun_consumer_{term}_total", "shop", "charge"] for term in CONSUMER_TERMS}
    in_hand = found["piperun_consumer_in_hand", "shop", "charge"]
    assert list(terms.values()) == [28, 1, 2, 3, 4, 5, 6]
    assert found["piperun_consumer_duplicates_total", "shop", "charge"] == 1
    assert terms["delivered"] == sum(terms.values()) - terms["delivered"] + in_hand
    read = found["piperun_producer_read", "shop", "web"]
    ends = [found[f"piperun_producer_{each}", "shop", "web"] for each in ("confirmed_total", "failed_total", "pending")]
    assert (read, ends) == (9, [5, 3, 1])


def test_connections_and_consumers_are_counted_over_the_processes_that_live() -> None:
    found = samples(FULL)
    assert found["piperun_connection_up", "shop", "publish"] == 2
    assert found["piperun_connection_blocked", "shop", "publish"] == 1
    assert found["piperun_connection_reconnects_total", "shop", "publish"] == 5
    assert found["piperun_consumer_registered", "shop", "charge"] == 1
    assert found["piperun_processes_wanted",] == 3
    assert found["piperun_processes_running",] == 2
    assert found["piperun_worker_restarts_total",] == 4
    assert found["piperun_ready",] == 0
    assert samples(a_status())["piperun_ready",] == 1


def test_without_workers_nobody_is_started_again() -> None:
    assert ("piperun_worker_restarts_total",) not in samples(a_status())


def test_kinds_and_names_are_as_prometheus_has_them() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"piperun_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".") and "\n" not in metric.help and "\\" not in metric.help
    families = {family.name: family for family in text_string_to_metric_families(text(FULL))}
    assert {family.type for family in families.values()} == {"counter", "gauge"}
    assert len(families) == len(METRICS)


@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
)
def test_a_name_is_a_label_whatever_stands_in_it(name: str) -> None:
    found = samples(a_status(consumers=(consumed(name, delivered=1),)))
    assert found["piperun_consumer_delivered_total", "shop", name] == 1


def test_the_page_has_every_metric_and_no_other() -> None:
    named = re.findall(r"^\| `(piperun_[a-z_]+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == list(METRICS)
