"""The page about the embedded broker tells the truth: its Python is run, as one test module of its reader's own, its
command has the options that are shown, and what it lists is what there is."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from pipeline.embedded import EmbeddedBroker
from pipeline.embedded.__main__ import parser
from pipeline.embedded.channels import session
from pipeline.embedded.connections import connection, server
from pipeline.embedded.ground import memory
from pipeline.embedded.ground.journal import KINDS, Event
from pipeline.embedded.wire import frames, outbox
from tests.waiting import deadline

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/embedded.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_that_is_shown_runs(tmp_path: Path) -> None:
    module = tmp_path / "test_shop.py"
    module.write_text("\n".join(PYTHON), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", module.name],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=deadline(60),
    )
    assert f"{sum(block.count('async def test_') for block in PYTHON)} passed" in run.stdout, run.stdout


def test_the_command_that_is_shown_is_understood() -> None:
    [command] = re.findall(r"^python -m pipeline\.embedded (.*)$", PAGE, re.MULTILINE)
    options = parser().parse_args(shlex.split(command))
    assert (options.port, options.rabbitmq_version, options.vhosts) == (5672, "4.3", ["/", "shop"])


def test_the_kinds_and_fields_of_events_are_those_that_there_are() -> None:
    paragraphs = PAGE.split("\n\n")
    [kinds] = [each for each in paragraphs if each.startswith("The kinds are:")]
    assert re.findall(r"`([^`]+)`", kinds.replace("\n", " ")) == list(KINDS)
    [fields] = [each for each in paragraphs if "An event has a `kind`" in each]
    said = re.findall(r"`(\w+)`", fields.partition("An event has")[2])
    assert said == [name for name in inspect.signature(Event).parameters if name in said]
    assert set(said) == set(inspect.signature(Event).parameters)


def test_the_controls_that_are_shown_exist_and_all_of_them_are_shown() -> None:
    public = {name for name, _ in inspect.getmembers(EmbeddedBroker, inspect.isfunction) if not name.startswith("_")}
    tables = set(re.findall(r"`(\w+)\(", "".join(re.findall(r"^\| `.*", PAGE, re.MULTILINE))))
    assert tables - public == set()
    assert {name for name in public if f"{name}(" not in PAGE} == {"add_vhost", "start", "stop", "time", "url_of"}


def test_the_bounds_that_are_told_are_the_real_ones() -> None:
    table = PAGE.partition("## Bounds")[2]
    for bound in (
        f"{server.CONNECTIONS_MAX:,} | hung up on",
        f"{connection.HANDSHAKE_SECONDS} s and {connection.CLOSING_SECONDS} s",
        f"{connection.CHANNEL_MAX:,}, or",
        f"{connection.FRAME_MAX:,} octets",
        f"{memory.MEMORY_LIMIT // 2**20} MiB, or `memory_limit`",
        f"{outbox.ENOUGH // 1024} KiB of deliveries, {outbox.TOO_MUCH // 2**20} MiB of answers",
        f"{session.UNFINISHED_MAX // 2**20} MiB on a connection",
        f"{memory.MESSAGE_WEIGHT} octets in each queue",
        f"below {memory.RELIEF:.0%} of the limit".replace("%", " %"),
    ):
        assert bound in table.replace("\n", " ")
    assert frames.SMALLEST_FRAME_MAX < connection.FRAME_MAX
