"""Imports point down, and some things are done in one place only. The rules are in `tests.floors`."""

from pathlib import Path

import pytest

from tests.floors import cycles, offences

ROOT = Path(__file__).parents[1]
FILES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_every_file_keeps_to_its_floor(path: str) -> None:
    wrong = offences(path, (ROOT / path).read_text(encoding="utf-8"))
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_by_a_detour() -> None:
    circles = cycles({path: (ROOT / path).read_text(encoding="utf-8") for path in FILES})
    assert not circles, "\n".join(circles)


@pytest.mark.parametrize(
    ("path", "source", "offence"),
    [
        ("config/text.py", "import pipeline.amqp.link", "imports pipeline.amqp.link: not below floor 1"),
        (
            "config/text.py",
            "from pipeline.failure import verdict",
            "imports pipeline.failure.verdict: not below floor 1",
        ),
        ("failure/verdict.py", "from pipeline.config.load import load", "imports pipeline.config.load.load"),
        ("handlers/call.py", "from ..observe import logs", "imports pipeline.observe.logs: not below floor 3"),
        ("runtime/run.py", "from pipeline import Message", "imports pipeline.Message: not below floor 4"),
        ("runtime/run.py", "def f():\n    from pipeline.cli import app", "imports pipeline.cli.app: not below floor 4"),
        ("message.py", "from pipeline.config.model import Queue", "imports pipeline.config.model.Queue"),
        (
            "embedded/queues/queue.py",
            "from pipeline.errors import X",
            "embedded/ uses nothing of piperun but the clock",
        ),
        ("embedded/queues/queue.py", "import asyncio", "imports asyncio: only embedded/ground/event_log.py"),
        ("embedded/queues/queue.py", "import pipeline.embedded.vhosts.vhost", "vhosts.vhost: not below queues/"),
        ("drawer.py", "", "stands on no floor: give 'drawer' one"),
        ("sources/file.py", "import yaml", "imports yaml: yaml is only in config/text.py"),
        ("embedded/queues/queue.py", "from pamqp import commands", "pamqp is only in amqp/, embedded/wire/frames.py"),
        ("runtime/run.py", "import time\ntime.monotonic()", "uses time.monotonic: only in clock.py"),
        ("runtime/run.py", "from time import sleep", "imports time.sleep: only in clock.py"),
        ("runtime/run.py", "from datetime import datetime\ndatetime.now()", "uses datetime.datetime.now"),
        ("amqp/link.py", "import asyncio\nasyncio.sleep(1)", "uses asyncio.sleep: only in clock.py"),
        ("runtime/run.py", "import asyncio\nasyncio.timeout(1)", "uses asyncio.timeout: only in clock.py, amqp/"),
        ("amqp/link.py", "import aio_pika\naio_pika.connect_robust", "uses connect_robust: the robust classes"),
        ("amqp/link.py", "from aio_pika.robust_queue import Q", "imports aio_pika.robust_queue.Q: the robust classes"),
        ("runtime/process.py", "delivery.nack()", "calls delivery.nack(): only runtime/settle.py acknowledges"),
    ],
)
def test_an_offence_is_named_with_its_place(path: str, source: str, offence: str) -> None:
    (said,) = offences(f"pipeline/{path}", source)
    assert said.startswith(f"pipeline/{path}:{max(1, source.count(chr(10)) + 1)} ")
    assert offence in said


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("failure/verdict.py", "from pipeline.config.model import Retry"),
        ("cli/test.py", "from pipeline.testing import case"),
        ("cli/run.py", "from pipeline.runtime.run import run\nimport typer"),
        ("message.py", "from pipeline.secret import Secret"),
        ("embedded/queues/queue.py", "from pipeline.clock import Clock\nfrom pipeline.embedded.wire import frames"),
        ("embedded/connections/server.py", "import asyncio"),
        ("clock.py", "import asyncio, time\ntime.monotonic()\nasyncio.sleep(1)"),
        ("amqp/link.py", "import asyncio\nimport aio_pika\nasyncio.timeout(1)"),
        ("runtime/settle.py", "delivery.ack()"),
        ("observe/logs.py", "import time\ntime.gmtime(0)"),
    ],
)
def test_what_is_allowed_is_no_offence(path: str, source: str) -> None:
    assert offences(f"pipeline/{path}", source) == []


def test_a_circle_is_named_once_and_in_full() -> None:
    circle = cycles(
        {
            "pipeline/a.py": "from pipeline.b import x",
            "pipeline/b/__init__.py": "from pipeline.c import y",
            "pipeline/c.py": "import pipeline.a",
            "pipeline/d.py": "import pipeline.a",
        }
    )
    assert circle == ["pipeline.a -> pipeline.b -> pipeline.c -> pipeline.a"]
