"""Paths to Python objects: each way to go wrong has a sentence of its own, and nothing of a user's module gets out."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from pipeline.imports import Importer, ImportProblem


class Write(Protocol):
    def __call__(self, name: str, text: str = "") -> Path: ...


@pytest.fixture(autouse=True)
def clean_modules() -> Iterator[None]:
    """Every test imports anew, and leaves no folder behind on the path."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def problem_of(importer: Importer, path: str, folder: Path | None = None) -> ImportProblem:
    with pytest.raises(ImportProblem) as caught:
        importer.find(path, folder=folder)
    return caught.value


def told(importer: Importer, path: str, folder: Path | None = None) -> tuple[str, str, str | None]:
    problem = problem_of(importer, path, folder)
    return problem.word, problem.sentence, problem.hint


def test_a_path_leads_to_an_object(tmp_path: Path, write: Write) -> None:
    write("shop_a/__init__.py", "")
    write(
        "shop_a/billing.py", "class Shop:\n    def charge(self): pass\ndef charge(): return 'charged'\nshop = Shop()\n"
    )
    importer = Importer([tmp_path])
    charge = importer.find("shop_a.billing:charge")
    assert callable(charge)
    assert charge() == "charged"
    assert importer.find("shop_a.billing:shop.charge")


def test_a_folder_without_an_init_file_is_a_package_too(tmp_path: Path, write: Write) -> None:
    write("shop_b/billing.py", "charge = 1\n")
    assert Importer([tmp_path]).find("shop_b.billing:charge") == 1


def test_ready_made_handlers_are_ordinary_paths(tmp_path: Path) -> None:
    assert Importer([tmp_path]).find("pipeline.problems:WORDS")


def test_the_folder_of_the_file_comes_before_the_app_dir(tmp_path: Path, write: Write) -> None:
    write("configs/steps_a.py", "where = 'configs'\n")
    write("app/steps_a.py", "where = 'app'\n")
    importer = Importer([tmp_path / "configs", tmp_path / "app"])
    assert importer.find("steps_a:where") == "configs"
    assert sys.path[:2] == [str(tmp_path / "configs"), str(tmp_path / "app")]


@pytest.mark.parametrize("path", ["shop.billing.charge", "shop:", ":charge", "shop/billing:charge", "a:b:c", "1a:b"])
def test_a_path_of_another_form(tmp_path: Path, path: str) -> None:
    word, sentence, _ = told(Importer([tmp_path]), path)
    assert word == "bad-handler-path"
    assert sentence == f'"{path}" is no path: a path is written package.module:function'


def test_no_such_module(tmp_path: Path, write: Write) -> None:
    write("billing_a.py")
    assert told(Importer([tmp_path]), "biling_a:charge") == (
        "unknown-module",
        'no module "biling_a" in the folder of the file or in app-dir',
        'did you mean "billing_a"?',
    )


def test_no_such_module_in_a_package_that_is_there(tmp_path: Path, write: Write) -> None:
    write("shop_c/__init__.py")
    write("shop_c/billing.py")
    assert told(Importer([tmp_path]), "shop_c.biling:charge") == (
        "unknown-module",
        'no module "shop_c.biling" in the folder of the file or in app-dir; "shop_c" is there',
        'did you mean "shop_c.billing"?',
    )


def test_no_such_name(tmp_path: Path, write: Write) -> None:
    write("billing_b.py", "def charge(): pass\n")
    assert told(Importer([tmp_path]), "billing_b:chrage") == (
        "unknown-name",
        'module "billing_b" has no "chrage"',
        'did you mean "charge"?',
    )


def test_a_module_that_raises_shows_the_users_own_lines_only(tmp_path: Path, write: Write) -> None:
    # Given a module that fails in a function of another module of the user's
    write("helper_a.py", "import json\n\ndef load():\n    return json.loads('{')\n")
    write("billing_c.py", "import helper_a\nsettings = helper_a.load()\n")
    # When it is imported
    problem = problem_of(Importer([tmp_path]), "billing_c:charge")
    # Then type, text and the user's frames are told, the library's are not
    assert problem.word == "failed-import"
    assert problem.sentence.startswith('importing "billing_c" failed: JSONDecodeError: Expecting property name')
    assert problem.frames == ("billing_c.py:2", "helper_a.py:4")


def test_a_module_that_misses_another_one_is_there_itself(tmp_path: Path, write: Write) -> None:
    write("billing_d.py", "import no_such_library\n")
    problem = problem_of(Importer([tmp_path]), "billing_d:charge")
    assert (problem.word, problem.sentence) == (
        "failed-import",
        "importing \"billing_d\" failed: ModuleNotFoundError: No module named 'no_such_library'",
    )
    assert problem.frames == ("billing_d.py:1",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\nsys.exit(3)\n", 'importing "billing_e" ended in sys.exit(3)'),
        ("raise GeneratorExit\n", 'importing "billing_e" failed: GeneratorExit'),
        ("def f(:\n", 'importing "billing_e" failed: SyntaxError: invalid syntax (billing_e.py, line 1)'),
        ("import asyncio\nraise asyncio.CancelledError('x')\n", 'importing "billing_e" failed: CancelledError: x'),
    ],
)
def test_nothing_that_a_module_raises_gets_out(tmp_path: Path, write: Write, text: str, sentence: str) -> None:
    write("billing_e.py", text)
    problem = problem_of(Importer([tmp_path]), "billing_e:charge")
    assert (problem.word, problem.sentence) == ("failed-import", sentence)
    assert problem.frames[-1].startswith("billing_e.py:")


def test_a_long_text_of_an_exception_is_cut(tmp_path: Path, write: Write) -> None:
    write("billing_f.py", "raise ValueError('x' * 5000 + '\\n')\n")
    assert len(problem_of(Importer([tmp_path]), "billing_f:charge").sentence) < 400


def test_a_module_that_failed_is_not_run_again_for_the_next_handler(tmp_path: Path, write: Write) -> None:
    log = tmp_path / "log"
    write("billing_g.py", f"with open({str(log)!r}, 'a') as log:\n    log.write('run ')\nraise ValueError\n")
    importer = Importer([tmp_path])
    assert problem_of(importer, "billing_g:a") is problem_of(importer, "billing_g:b")
    assert log.read_text() == "run "


def test_ctrl_c_while_a_module_is_imported_is_nobodys_problem(tmp_path: Path, write: Write) -> None:
    write("billing_h.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        Importer([tmp_path]).find("billing_h:charge")


def test_a_name_that_fails_when_it_is_read(tmp_path: Path, write: Write) -> None:
    write("billing_i.py", "def __getattr__(name):\n    raise ValueError(name)\n")
    problem = problem_of(Importer([tmp_path]), "billing_i:charge")
    assert problem.word == "failed-import"
    assert problem.sentence == 'reading "charge" of module "billing_i" failed: ValueError: charge'
    assert problem.frames == ("billing_i.py:2",)


@pytest.mark.parametrize("name", ["pipeline/steps.py", "pipeline/__init__.py"])
def test_a_folder_that_is_hidden_by_piperun_itself(tmp_path: Path, write: Write, name: str) -> None:
    write(name, "charge = 1\n")
    path = "pipeline.steps:charge" if "steps" in name else "pipeline:charge"
    assert told(Importer([tmp_path]), path) == (
        "shadowed-module",
        '"pipeline" is piperun\'s own package, which hides the folder "pipeline" beside the file',
        "give it another name",
    )


def test_a_file_that_is_hidden_by_piperun_itself(tmp_path: Path, write: Write) -> None:
    write("pipeline.py", "charge = 1\n")
    word, sentence, _ = told(Importer([tmp_path]), "pipeline:charge")
    assert word == "shadowed-module"
    assert sentence.endswith('which hides the file "pipeline.py" beside the file')


def test_a_file_that_is_hidden_by_the_standard_library(tmp_path: Path, write: Write) -> None:
    write("json.py", "charge = 1\n")
    assert told(Importer([tmp_path]), "json:charge") == (
        "shadowed-module",
        '"json" is a module of Python\'s standard library, which hides the file "json.py" beside the file',
        "give it another name",
    )


def test_a_folder_of_data_hides_nothing(tmp_path: Path, write: Write) -> None:
    write("json/orders.jsonl")
    assert callable(Importer([tmp_path]).find("json:loads"))


def test_two_files_with_a_module_of_one_name(tmp_path: Path, write: Write) -> None:
    # Given two configurations with a module of the same name beside each
    first, second = write("a/steps_b.py", "who = 'a'\n"), write("b/steps_b.py", "who = 'b'\n")
    importer = Importer([first.parent, second.parent])
    # When each of them names it
    assert importer.find("steps_b:who", folder=first.parent) == "a"
    word, sentence, hint = told(importer, "steps_b:who", folder=second.parent)
    # Then the second is not given the first one's
    assert word == "module-clash"
    assert sentence == f'module "steps_b" is loaded from "{first}" already; "{second}" has the same name'
    assert hint == "give one of them another name"


def test_a_path_with_the_ending_of_the_file(tmp_path: Path, write: Write) -> None:
    write("steps_py.py", "def charge(): pass\n")
    word, sentence, hint = told(Importer([tmp_path]), "steps_py.py:charge")
    assert word == "unknown-module"
    assert sentence.endswith('; "steps_py" is there')
    assert hint == "steps_py:... without .py"


def test_no_such_name_in_a_class_names_the_class(tmp_path: Path, write: Write) -> None:
    write("steps_class.py", "class Shop:\n    def charge(self): pass\n")
    _, sentence, hint = told(Importer([tmp_path]), "steps_class:Shop.charg")
    assert sentence == '"Shop" of module "steps_class" has no "charg"'
    assert hint == 'did you mean "charge"?'


def test_of_a_recursion_without_an_end_a_few_lines_are_shown(tmp_path: Path, write: Write) -> None:
    write("steps_deep.py", "def deep(): deep()\ndeep()\n")
    frames = problem_of(Importer([tmp_path]), "steps_deep:deep").frames
    assert len(frames) == 11
    assert frames[0] == "steps_deep.py:2"
    assert frames[5].endswith(" more)")


def test_a_folder_that_is_hidden_by_an_installed_package(tmp_path: Path, write: Write) -> None:
    write("yaml/steps.py", "def charge(): pass\n")
    word, sentence, hint = told(Importer([tmp_path]), "yaml.steps:charge", folder=tmp_path)
    assert word == "shadowed-module"
    assert sentence == '"yaml" is an installed package, which hides the folder "yaml" beside the file'
    assert hint == "give it another name"
