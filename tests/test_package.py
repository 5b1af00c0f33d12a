"""What is installed: the wheel carries the schema and works without the repository, `piperun` and `python -m pipeline`
are the same, the version says where it runs."""

import json
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import PROGRAM
from tests.waiting import deadline

REPOSITORY = Path(__file__).parents[1]


def output_of(*command: str | Path, folder: Path, path: Path | None = None, home: Path | None = None) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home or folder)}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=deadline(60),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    output_of(sys.executable, *build, "-w", folder, REPOSITORY, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_the_schema_and_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        schema = json.loads(content.read("pipeline/schemas/pipeline.schema.json"))
    assert schema == json.loads((REPOSITORY / "schemas/pipeline.schema.json").read_text(encoding="utf-8"))
    assert any(name.endswith("LICENSE") for name in names)
    assert "pipeline/py.typed" in names
    assert not any(name.startswith(("tests/", "configs/")) for name in names)


def test_the_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as content:
        content.extractall(unpacked)
    (tmp_path / "p.yaml").write_text(
        "queues: {q: {}}\nproducers: {p: {source: {type: interval, count: 1, body: x}, publish: {queue: q}}}\n"
    )
    where = output_of(sys.executable, "-c", "import pipeline; print(pipeline.__file__)", folder=tmp_path, path=unpacked)
    assert where.strip() == str(unpacked / "pipeline/__init__.py")
    output_of(sys.executable, "-m", "pipeline", "validate", "p.yaml", folder=tmp_path, path=unpacked)
    output_of(sys.executable, "-m", "pipeline", "p.yaml", folder=tmp_path, path=unpacked)


def test_the_command_and_the_module_are_the_same(tmp_path: Path) -> None:
    version = output_of(PROGRAM, "--version", folder=tmp_path)
    assert version == output_of(sys.executable, "-m", "pipeline", "--version", folder=tmp_path)
    assert version.startswith("piperun 0.")
    assert f"Python {platform.python_version()}" in version


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["validate", "--help"]], ids=" ".join)
def test_help_fits_a_terminal_and_shows_examples(tmp_path: Path, words: list[str]) -> None:
    text = output_of(PROGRAM, *words, folder=tmp_path)
    assert max(map(len, text.splitlines())) <= 80
    if words == ["--help"]:
        assert "piperun configs/hello.yaml" in text
        assert "piperun validate configs/*.yaml" in text


def test_shell_completion_knows_the_verbs(tmp_path: Path) -> None:
    assert "piperun" in output_of(PROGRAM, "--show-completion", "bash", folder=tmp_path)
