"""What a command loads. Everybody waits for that, most of all who only wants the help, or checks a file in an editor or
in CI, so a part that a command does without is not there when it ends."""

import gc
import inspect
import json
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.cli.app import _VERBS
from pipeline.cli.loading import uncollected
from tests.waiting import deadline

PROGRAM = """
import json, sys
from pathlib import Path
from pipeline.cli.app import main

loaded, sys.argv = sys.argv[1], ["piperun", *sys.argv[2:]]
try:
    main()
finally:
    Path(loaded).write_text(json.dumps(sorted(sys.modules)))
"""
CLIENT = ("aio_pika", "aiormq", "pamqp", "yarl", "pipeline.amqp")
RUNNING = (*CLIENT, "pipeline.embedded", "pipeline.runtime.launch", "pipeline.runtime.run", "pipeline.runtime.assembly")
OPTIONAL = ("pydantic", "uvloop")
SERVING = ("aiohttp", "starlette", "uvicorn", "http.server", "urllib.request")
FILES = (
    "yaml",
    "jsonschema",
    "msgspec",
    "pipeline.config",
    "pipeline.runtime",
    "pipeline.handlers",
    "pipeline.sources",
)
LOOPS = ("asyncio", "ssl")
PIPELINE = """
queues: {hello: {}}
producers: {sender: {source: {type: interval, count: 1, body: Hello}, publish: {queue: hello}}}
consumers: {receiver: {queue: hello, handler: "pipeline.handlers:log"}}
runtime: {until: idle}
"""


def loaded_by(folder: Path, *words: str, status: int = 0) -> set[str]:
    """The modules that are there when `piperun WORDS` has ended."""
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "wrong.yaml").write_text("queues: {hello: {durabel: true}}\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "loaded.json", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=deadline(60),
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return set(json.loads((folder / "loaded.json").read_text()))


def of(parts: tuple[str, ...], loaded: set[str]) -> list[str]:
    return sorted(each for each in loaded if any(each == part or each.startswith(part + ".") for part in parts))


def test_the_version_loads_the_reader_of_arguments_and_no_more(tmp_path: Path) -> None:
    loaded = loaded_by(tmp_path, "--version")
    assert of((*RUNNING, *SERVING, *FILES, *LOOPS, *OPTIONAL, "rich"), loaded) == []


def test_help_loads_what_it_is_drawn_with_and_no_more(tmp_path: Path) -> None:
    loaded = loaded_by(tmp_path, "--help")
    assert of((*RUNNING, *SERVING, *FILES, *LOOPS, *OPTIONAL, "rich.progress"), loaded) == []


@pytest.mark.parametrize("verb", sorted(_VERBS))
def test_the_help_of_a_verb_loads_no_client(tmp_path: Path, verb: str) -> None:
    loaded = loaded_by(tmp_path, verb, "--help")
    assert of((*RUNNING, *SERVING, *OPTIONAL, "rich.progress"), loaded) == []


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["validate", "pipeline.yaml"], 0),
        (["validate", "--no-imports", "pipeline.yaml"], 0),
        (["validate", "wrong.yaml"], 2),
        (["run", "wrong.yaml"], 2),
        (["pipeline.yaml", "--only", "nobody"], 2),
        (["send", "pipeline.yaml", "nowhere", "--broker", "amqp://localhost"], 2),
        (["doctor", "pipeline.yaml", "--rights", "--broker", "amqp://localhost"], 0),
        (["dlq", "replay", "pipeline.yaml"], 2),
    ],
)
def test_checking_a_file_loads_no_client(tmp_path: Path, words: list[str], status: int) -> None:
    loaded = loaded_by(tmp_path, *words, status=status)
    assert of((*RUNNING, *SERVING, *OPTIONAL, "rich"), loaded) == []


def test_a_run_on_a_broker_of_its_own_loads_no_other(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and it does not listen
        url = f"amqp://127.0.0.1:{nobody.getsockname()[1]}"
        loaded = loaded_by(tmp_path, "run", "pipeline.yaml", "--broker", url, status=3)
    assert of(("pipeline.embedded", *SERVING, "pydantic", "rich"), loaded) == []


def test_a_run_without_a_bar_to_show_loads_nothing_to_draw_one(tmp_path: Path) -> None:
    loaded = loaded_by(tmp_path, "pipeline.yaml")
    assert of(("rich", "pydantic", "sqlite3", *SERVING), loaded) == []
    assert of(("pipeline.embedded",), loaded) != []  # or the names here are out of date, and all of this says nothing


@pytest.mark.parametrize(("verb", "sentence"), _VERBS.items())
def test_the_list_of_verbs_says_what_a_verb_says_of_itself(verb: str, sentence: str) -> None:
    function = getattr(import_module(f"pipeline.cli.{verb}"), verb)
    assert (inspect.getdoc(function) or "").splitlines()[0] == sentence


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was_once_something_is_loaded(on: bool) -> None:
    was_on = gc.isenabled()
    try:
        gc.enable() if on else gc.disable()
        with pytest.raises(ZeroDivisionError), uncollected():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() is on
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.enable() if was_on else gc.disable()
