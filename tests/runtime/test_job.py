"""What a worker is told survives its way through a pipe, and nothing of it stands in an argument or a variable."""

from typing import Any

import pytest

from pipeline.config.load import Overrides
from pipeline.runtime.job import Job
from pipeline.values import replace
from tests.models import a_log

JOB = Job(
    worker=2,
    row=1,
    rows=4,
    files=(("configs/a.yaml", 'queues:\n  "grüße": {}\n'), ("b.yaml", "")),
    overrides=Overrides(),
    broker_urls=("amqp://piperun:pa%20ss@127.0.0.1:5672/", None),
    app_dir="/srv/shop",
    only=("charge", "nightly"),
    run_id="c0ffee00",
    sources=False,
    shutdown_timeout=25.0,
    checkpoints="/anywhere/piperun-y",
    loop="asyncio",
    log=a_log(),
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"overrides": Overrides(broker_url="amqp://app:secret@rabbit/", until="stopped")},
        {"files": (), "broker_urls": (), "only": ()},
        {"checkpoints": "/anywhere/piperun-x", "sources": True, "shutdown_timeout": 0.5},
        {"log": a_log(format="json", level="debug", bodies=200), "loop": "uvloop"},
        {"overrides": Overrides(workers="auto", loop="uvloop")},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_a_job_is_one_line_that_reads_back_the_same(changes: dict[str, Any]) -> None:
    job = replace(JOB, **changes)
    line = job.as_line()
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert Job.from_line(line) == job
