"""From what files name in Python to callables: everything is imported and checked at once, each problem stands at its
place, and nothing is imported that is not run."""

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from pipeline.config.load import Loaded, Overrides, Text, load
from pipeline.failure.verdict import Policy
from pipeline.problems import Problem, render
from pipeline.runtime.prepare import Prepared, prepare


@pytest.fixture(autouse=True)
def clean_modules() -> Iterator[None]:
    """Every test imports anew, and leaves no folder behind on the path."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return str(path)


def load_files(*paths: str) -> Loaded:
    return load([Text(path=path, text=None) for path in paths], environment={}, overrides=Overrides())


def prepared(*paths: str, app_dir: Path, only: tuple[str, ...] = ()) -> tuple[Prepared, ...]:
    found, problems = prepare(load_files(*paths), app_dir=app_dir, only=only)
    assert problems == ()
    return found


def problems_of(*paths: str, app_dir: Path, only: tuple[str, ...] = ()) -> list[Problem]:
    return list(prepare(load_files(*paths), app_dir=app_dir, only=only)[1])


FILE = """
queues: {tasks: {}}
consumers:
  one: {queue: tasks, handler: STEPS:work}
"""


def test_files_in_different_folders_find_what_lies_beside_them(tmp_path: Path) -> None:
    files = []
    for name in "ab":
        write(tmp_path, f"{name}/steps_of_{name}.py", "async def work(body): ...")
        files.append(write(tmp_path, f"{name}/pipeline.yaml", FILE.replace("STEPS", f"steps_of_{name}")))
    a, b = prepared(*files, app_dir=tmp_path)
    assert (a.handlers["one"].name, b.handlers["one"].name) == ("work", "work")
    assert sys.modules["steps_of_a"].__file__ == str(tmp_path / "a" / "steps_of_a.py")
    assert sys.modules["steps_of_b"].__file__ == str(tmp_path / "b" / "steps_of_b.py")


def test_a_module_of_the_same_name_in_two_folders_is_a_problem_of_the_second(tmp_path: Path) -> None:
    files = []
    for name in "ab":
        write(tmp_path, f"{name}/steps_twice.py", "async def work(body): ...")
        files.append(write(tmp_path, f"{name}/pipeline.yaml", FILE.replace("STEPS", "steps_twice")))
    (problem,) = problems_of(*files, app_dir=tmp_path)
    assert (problem.word, problem.place.path) == ("module-clash", files[1])


def test_the_folder_of_the_file_comes_before_the_app_dir(tmp_path: Path) -> None:
    write(tmp_path, "app/steps_of_app.py", "async def work(body): ...")
    file = write(tmp_path, "files/pipeline.yaml", FILE.replace("STEPS", "steps_of_app"))
    assert [each.word for each in problems_of(file, app_dir=tmp_path)] == ["unknown-module"]
    (found,) = prepared(file, app_dir=tmp_path / "app")
    assert list(found.handlers) == ["one"]


def test_all_problems_are_found_at_once_and_stand_where_they_belong(tmp_path: Path) -> None:
    write(
        tmp_path,
        "steps_with_mistakes.py",
        """
        fine = 5
        async def coroutine(): ...
        async def too_many(a, b, c): ...
        """,
    )
    file = write(
        tmp_path,
        "pipeline.yaml",
        """
        queues: {tasks: {}}
        producers:
          p: {source: "steps_with_mistakes:coroutine", publish: {queue: tasks}}
        consumers:
          a: {queue: tasks, handler: "steps_with_mistakes:fine"}
          b: {queue: tasks, handler: "steps_with_mistakes:too_many"}
          c: {queue: tasks, handler: "steps_with_mistakes:missing"}
          d: {queue: tasks, handler: "pipeline.handlers:log", lifespan: "steps_with_mistakes:fine"}
        runtime: {lifespan: "steps_with_mistakes:coroutine"}
        """,
    )
    found = sorted(problems_of(file, app_dir=tmp_path), key=lambda each: each.place)
    assert [each.place.line for each in found] == [4, 6, 7, 8, 9, 10]
    assert [each.word for each in found if each.place.line in (4, 8)] == ["bad-source", "unknown-name"]
    assert all(each.severity == "error" for each in found)


RETRY = """
defaults: {consumers: {retry: {delays: [5s], only: ["ERRORS:Transient", TimeoutError], except: ["ERRORS:Transient"]}}}
queues: {tasks: {}}
consumers:
  one: {queue: tasks, handler: "pipeline.handlers:log"}
  two: {queue: tasks, handler: "pipeline.handlers:log", retry: {delays: [1s, 2s], strategy: inline}}
  off: {queue: tasks, handler: "pipeline.handlers:log", retry: }
"""


def test_exception_classes_of_a_retry_are_found(tmp_path: Path) -> None:
    write(tmp_path, "errors_of_shop.py", "class Transient(Exception): ...")
    file = write(tmp_path, "pipeline.yaml", RETRY.replace("ERRORS", "errors_of_shop"))
    (found,) = prepared(file, app_dir=tmp_path, only=("one", "two", "off"))
    transient = sys.modules["errors_of_shop"].Transient
    assert found.policies == {
        "one": Policy(delays=(5.0,), strategy="broker", only=(transient, TimeoutError), excluded=(transient,)),
        "two": Policy(delays=(1.0, 2.0), strategy="inline"),
    }


def test_what_is_no_exception_class_is_told_at_its_place_and_once(tmp_path: Path) -> None:
    write(tmp_path, "errors_with_mistakes.py", "def transient(error): ...\nclass Transient(Exception): ...")
    file = write(
        tmp_path,
        "pipeline.yaml",
        """
        defaults:
          consumers:
            retry: {delays: [5s], only: [errors_with_mistakes:transient, errors_with_mistakes:Transent]}
        queues: {tasks: {}}
        consumers:
          one: {queue: tasks, handler: "pipeline.handlers:log"}
          two: {queue: tasks, handler: "pipeline.handlers:log"}
        """,
    )
    wrong, missing = sorted(problems_of(file, app_dir=tmp_path), key=lambda each: each.place)
    assert render(wrong) == (
        f'{file}:4:34: error[not-an-exception]: "errors_with_mistakes:transient" is no exception class, and only such '
        "can be raised\n"
        "    4 |     retry: {delays: [5s], only: [errors_with_mistakes:transient, errors_with_mistakes:Transent]}\n"
        "      |                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the class itself, package.module:Class"
    )
    assert (missing.word, missing.hint) == ("unknown-name", 'did you mean "Transient" or "transient"?')


def test_a_file_with_errors_has_its_imports_checked_all_the_same(tmp_path: Path) -> None:
    file = write(tmp_path, "pipeline.yaml", FILE.replace("STEPS", "nowhere_to_be_found") + "unknown_key: 5\n")
    found, problems = prepare(load_files(file), app_dir=tmp_path, only=())
    assert found == ()
    assert [each.word for each in problems] == ["unknown-module"]


def test_what_is_not_run_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path, "steps_that_explode.py", "raise RuntimeError('imported')\n")
    write(tmp_path, "steps_of_two.py", "async def work(body): ...")
    text = FILE.replace("STEPS", "steps_that_explode") + '  two: {queue: tasks, handler: "steps_of_two:work"}\n'
    file = write(tmp_path, "pipeline.yaml", text)
    assert [each.word for each in problems_of(file, app_dir=tmp_path)] == ["failed-import"]
    (found,) = prepared(file, app_dir=tmp_path, only=("two",))
    assert list(found.handlers) == ["two"]
    assert [each.consumer.name for each in found.plan.consumers] == ["two"]


def test_lifespans_are_kept_by_whose_they_are(tmp_path: Path) -> None:
    write(
        tmp_path,
        "steps_with_lifespans.py",
        """
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def shared():
            yield 1

        @asynccontextmanager
        async def own():
            yield 2

        async def work(body): ...
        def items():
            yield 1
        """,
    )
    file = write(
        tmp_path,
        "pipeline.yaml",
        """
        queues: {tasks: {}}
        producers:
          p: {source: "steps_with_lifespans:items", publish: {queue: tasks}}
        consumers:
          one: {queue: tasks, handler: "steps_with_lifespans:work"}
          two: {queue: tasks, handler: "steps_with_lifespans:work", lifespan: "steps_with_lifespans:own"}
        runtime: {lifespan: "steps_with_lifespans:shared"}
        """,
    )
    (found,) = prepared(file, app_dir=tmp_path)
    module = sys.modules["steps_with_lifespans"]
    assert found.lifespan is not None and found.lifespan.object is module.shared
    assert {name: each.object for name, each in found.lifespans.items()} == {"two": module.own}
    assert found.find("steps_with_lifespans:items") is module.items
