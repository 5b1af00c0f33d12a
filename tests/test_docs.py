"""The documents tell the truth: YAML in them is legal or wrong as they say, links and names lead somewhere, the
reference page is what the schema says, and each row of the tutorial's table has its file and its test."""

import ast
import importlib
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipeline.amqp.self_check import PLAIN_BY_HAND
from pipeline.cli import exits
from pipeline.cli.app import app, load_verb
from pipeline.config import reference
from pipeline.config.load import Text, load
from pipeline.config.schema import load_schema
from pipeline.embedded import NOT_DONE
from pipeline.embedded.__main__ import PASSWORD_VARIABLE
from pipeline.failpoints import ONCE_VARIABLE, VARIABLE
from pipeline.problems import Problem
from tests.command import Commands

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TUTORIALS = [ROOT / "docs/tutorial.md", ROOT / "docs/tutorial.ru.md"]
COMMAND_LINE = ROOT / "docs/command-line.md"

# What a fragment may refer to without saying it.
AROUND = {
    "exchanges": "exchanges:\n  orders: {type: topic}\n",
    "queues": "queues:\n" + "".join(f"  {name}: {{}}\n" for name in ("hello", "tasks", "billing", "invoices")),
}
STATUSES = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block, with the HTML comment that stands right before it."""

    page: Path
    line: int
    comment: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^(?:<!-- (.*?) -->\n)?```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start(2)) + 1
        yield Block(page=page, line=line, comment=found[1] or "", language=found[2], text=found[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]
YAML = [block for block in BLOCKS if block.language == "yaml"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


# YAML and Python


@pytest.mark.parametrize("block", [each for each in YAML if not each.comment.startswith("wrong")], ids=str)
def test_yaml_that_is_shown_is_legal(block: Block) -> None:
    assert problems_of(block) == []


@pytest.mark.parametrize("block", [each for each in YAML if each.comment.startswith("wrong")], ids=str)
def test_yaml_that_is_wrong_on_purpose_is_wrong_as_it_says(block: Block) -> None:
    words = [problem.word for problem in problems_of(block)]
    assert words
    assert words == (block.comment.removeprefix("wrong").strip(": ").split() or words)


@pytest.mark.parametrize("block", [each for each in YAML if each.comment.startswith("file: ")], ids=str)
def test_a_file_that_is_shown_is_that_file(block: Block) -> None:
    file = (ROOT / block.comment.removeprefix("file: ")).read_text(encoding="utf-8")
    assert block.text == "".join(line for line in file.splitlines(keepends=True) if not line.startswith("#"))


def problems_of(block: Block) -> list[Problem]:
    """The problems of a block, in the surroundings that its comment names. Files that it reads need not be there."""
    text = block.text
    part = block.comment.removeprefix("part of: ") if block.comment.startswith("part of: ") else None
    if part is not None:
        text = text if part == "file" else f"{part}:\n{textwrap.indent(text, '  ')}"
        text += "".join(more for key, more in AROUND.items() if not re.search(rf"^{key}:", text, re.MULTILINE))
    loaded = load([Text(path=str(block), text=text)], environment={})
    return [problem for problem in loaded.problems if problem.word != "missing-file"]


def test_a_fragment_without_its_surroundings_is_wrong() -> None:
    """Else the comment is not needed, or the check sees nothing."""
    fragments = [block for block in YAML if block.comment.startswith("part of: ")]
    assert fragments
    assert [str(block) for block in fragments if not problems_of(replace(block, comment=""))] == []


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_that_is_shown_can_be_read_and_imports_what_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


# Links and pictures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if not leads_somewhere(page, target)] == []


def leads_somewhere(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = page if not path else (page.parent / path).resolve()
    return file.exists() and (not anchor or anchor in anchors(file))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            linked = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
            waiting += [(page.parent / path).resolve() for path in linked if "://" not in path]
    assert [page.name for page in PAGES if page not in reached] == []


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_can_be_read_by_eyes_and_ears(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    told = {child.tag.rpartition("}")[2] for child in root if child.text}
    assert {"title", "desc"} <= told


# Commands


Verb = TyperGroup | TyperCommand


def verbs() -> dict[str, Verb]:
    """Each by its name; the command itself, with its own options, has none."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    found: dict[str, Verb] = {"": group}
    for name in group.commands:
        verb = load_verb(name)
        assert isinstance(verb, TyperCommand | TyperGroup)
        found[name] = verb
        for second, command in verb.commands.items() if isinstance(verb, TyperGroup) else ():
            assert isinstance(command, TyperCommand)
            found[f"{name} {second}"] = command
    return found


def options_of(command: Verb) -> set[str]:
    return {"--help", *(name for parameter in command.params for name in parameter.opts if name.startswith("--"))}


def commands_shown(page: Path) -> Iterator[str]:
    """What follows `piperun` in blocks of shell and in code spans."""
    spans = [span for block in blocks(page) if block.language == "sh" for span in block.text.splitlines()]
    spans += re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    for span in spans:
        for found in re.finditer(r"(?:^|[ |])piperun ([^|]*)", span.partition("#")[0]):
            yield found[1].strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_and_options_that_are_shown_exist(page: Path) -> None:
    known = verbs()
    for command in commands_shown(page):
        words = command.split()
        verb = words[0] if words and re.fullmatch(r"[a-z]+", words[0]) else ""
        if isinstance(known.get(verb), TyperGroup) and words[1:] and re.fullmatch(r"[a-z]+", words[1]):
            verb = f"{verb} {words[1]}"
        assert verb in known, command
        allowed = options_of(known[verb]) | (options_of(known["run"]) if not verb else set())
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= allowed, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8")))
    assert named <= set().union(*map(options_of, verbs().values()))


def test_the_command_line_page_has_all_options_variables_and_statuses() -> None:
    text = COMMAND_LINE.read_text(encoding="utf-8")
    parameters = [parameter for name, verb in verbs().items() if name for parameter in verb.params]
    options = {name for parameter in parameters for name in parameter.opts if name.startswith("--")} - {"--help"}
    assert [option for option in sorted(options) if f"`{option}" not in text] == []
    variables = {parameter.envvar for parameter in parameters if isinstance(parameter.envvar, str)}
    assert set(re.findall(r"\bPIPERUN_[A-Z_]+\b", text)) == variables | {PLAIN_BY_HAND}
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == STATUSES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_and_statuses_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {
        PASSWORD_VARIABLE,
        VARIABLE,
        ONCE_VARIABLE,
        *re.findall(r"\bPIPERUN_[A-Z_]+\b", COMMAND_LINE.read_text(encoding="utf-8")),
    }
    assert set(re.findall(r"\bPIPERUN_[A-Z_]+\b", text)) <= known
    named = re.findall(r"(?:status|statuses|код возврата —|кодом возврата) (\d+)\b", text)
    assert {int(status) for status in named} - {0} <= STATUSES


def test_the_output_in_the_readme_is_the_real_one(run_piperun: Commands) -> None:
    (shown,) = [block for block in blocks(ROOT / "README.md") if block.comment.startswith("output of: ")]
    real = run_piperun(None, str(ROOT / shown.comment.removeprefix("output of: piperun ")))
    assert real.wait() == 0
    assert without_times(real.lines) == without_times(shown.text.splitlines())


def without_times(lines: list[str]) -> list[str]:
    """Sorted, since two streams come together; clock times and durations are exchanged."""
    return sorted(re.sub(r"^[\d:.]+ |(?<=after )[\d.]+ m?s", "", line) for line in lines)


# Pages that repeat the code


def test_the_reference_is_printed_from_the_schema() -> None:
    assert (ROOT / "docs/reference.md").read_text(encoding="utf-8") == reference.page()


def test_the_reference_has_every_object_and_every_key() -> None:
    page = reference.page()
    for schema in (load_schema(), *load_schema()["$defs"].values()):
        if "properties" in schema:
            assert f"\n## {schema['title'][0].upper()}{schema['title'][1:]}\n" in page
            assert [key for key in schema["properties"] if f"| `{key}` |" not in page] == []


def test_what_the_embedded_broker_lacks_is_said() -> None:
    text = (ROOT / "docs/embedded.md").read_text(encoding="utf-8")
    said = text.partition("<!-- what is not done -->\n")[2].partition("\n\n")[0]
    assert said.splitlines() == [f"- {each}" for each in NOT_DONE]


# Tables of tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Row:
    statement: str
    file: str
    test: str


def table(page: Path) -> list[Row]:
    found = re.findall(r"^\| (.+) \| \[.+\]\((.+)\) \| `(.+)` \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [Row(statement=statement, file=file, test=test) for statement, file, test in found]


@pytest.mark.parametrize("row", table(TUTORIALS[0]), ids=lambda row: row.statement[:40])
def test_a_statement_of_the_tutorial_has_its_file_and_its_test(row: Row) -> None:
    assert (TUTORIALS[0].parent / row.file).resolve().is_relative_to(ROOT / "configs")
    assert (TUTORIALS[0].parent / row.file).is_file()
    path, _, name = row.test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert name in functions


def test_every_example_stands_in_the_table() -> None:
    files = {Path(row.file).name for row in table(TUTORIALS[0])}
    assert files == {path.name for path in (ROOT / "configs").glob("*.yaml")}


def test_both_languages_have_the_same_rows_blocks_and_sections() -> None:
    english, russian = TUTORIALS
    rows = [[(row.file, row.test) for row in table(page)] for page in TUTORIALS]
    assert rows[0] == rows[1]
    assert [block.text for block in blocks(english) if block.language != "sh"] == [
        block.text for block in blocks(russian) if block.language != "sh"
    ]
    levels = [re.findall(r"^#+(?= )", page.read_text(encoding="utf-8"), re.MULTILINE) for page in TUTORIALS]
    assert levels[0] == levels[1]
