"""From files to pipelines: text, interpolate, validate, build, references, advice. The one function that others call.
The details of a step are the step's; problems come back as values, and nothing is imported, connected or written."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import (
    agreement,
    argument_checks,
    broker,
    dead_letters,
    idempotency,
    names,
    queues,
    references,
    refused,
    retry_checks,
    retry_strategies,
)
from pipeline.config.advice import advise
from pipeline.config.build import build
from pipeline.config.document import Document
from pipeline.config.interpolate import interpolate, why
from pipeline.config.model import Loop, Pipeline, Until, Workers
from pipeline.config.nodes import ListNode, MapNode, ScalarNode, at, objects
from pipeline.config.nodes import Path as NodePath
from pipeline.config.owner import owner
from pipeline.config.phrases import either
from pipeline.config.report import Report
from pipeline.config.schema import variant
from pipeline.config.settings import Settings
from pipeline.config.text import read
from pipeline.config.validate import validate
from pipeline.problems import Place, Problem, closest
from pipeline.values import Frozen, replace

COMMAND_LINE = "--broker"
_SUFFIXES = (".yaml", ".yml", ".json")


class Text(Frozen, frozen=True, kw_only=True):
    """A file by the path the user wrote; `text` where somebody else has read it already."""

    path: str
    text: str | None = None


class Overrides(Frozen, frozen=True, kw_only=True):
    """What the command line says instead of the files."""

    broker_url: str | None = None
    until: Until | None = None
    workers: Workers | None = None
    loop: Loop | None = None
    http: str | None = None

    @property
    def of_runtime(self) -> dict[str, Any]:
        """What stands in the place of keys of `runtime`."""
        told = {"until": self.until, "workers": self.workers, "loop": self.loop, "http": self.http}
        return {key: value for key, value in told.items() if value is not None}


class Reference(Frozen, frozen=True, kw_only=True):
    """Python code as the file names it, by its path; importing it is somebody else's step."""

    owner: str  # as a sentence calls it: consumer "charge"
    key: str  # handler, lifespan, source, only[0]; loop, of which the path is just uvloop
    path: str
    place: Place
    pipeline: int  # which of the files
    folder: Path
    excerpt: str
    caret: tuple[int, int]

    def error(self, word: str, sentence: str, hint: str | None = None, frames: tuple[str, ...] = ()) -> Problem:
        """A problem with this path, at its place in the file."""
        return Problem(
            severity="error",
            word=word,
            place=self.place,
            sentence=sentence,
            hint=hint,
            excerpt=self.excerpt,
            caret=self.caret,
            frames=frames,
        )


class Loaded(Frozen, frozen=True, kw_only=True):
    """`pipelines` are complete only if no problem is an error. `texts` is what was read, for worker processes."""

    pipelines: tuple[Pipeline, ...]
    problems: tuple[Problem, ...]
    texts: tuple[Text, ...]
    handlers: tuple[Reference, ...]
    loop: Reference | None = None  # where the file itself says which event loop it runs on

    @property
    def has_errors(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)


class _File(Frozen, frozen=True, kw_only=True):
    """One file on its way."""

    document: Document
    report: Report
    root: MapNode | None


def load(files: Sequence[Text], *, environment: Mapping[str, str], overrides: Overrides | None = None) -> Loaded:
    """Read, check and build all files of one run. Never raises for what is wrong with them: that is in `problems`.

    `runtime` may stand in one of the files only; every pipeline carries that one."""
    overrides = overrides or Overrides()
    opened = [_open(file, environment, overrides) for file in files]
    for file in opened:
        if file.root:
            _check(file.root, file.report, overrides)
    agreement.check([(file.root, file.report) for file in opened if file.root])
    pipelines = [
        build(file.root, file.document, file.report.secrets, overrides.of_runtime)
        for file in opened
        if file.root and not file.report.has_errors
    ]
    return Loaded(
        pipelines=_with_one_runtime(opened, pipelines),
        problems=tuple(problem for file in opened for problem in file.report.problems()),
        texts=tuple(Text(path=file.document.path, text=file.document.text) for file in opened),
        handlers=tuple(reference for number, file in enumerate(opened) for reference in _handlers(file, number)),
        loop=None if overrides.loop else _loop(opened),
    )


def _open(file: Text, environment: Mapping[str, str], overrides: Overrides) -> _File:
    path = Path(file.path).absolute()
    document, unreadable = _read(file, path)
    report = Report(document)
    if unreadable:
        word, sentence, hint = unreadable
        report.error(word, document.beginning, sentence, hint)
        return _File(document=document, report=report, root=None)
    root = read(document, report)
    if root and overrides.broker_url is not None:
        root = _override(root, overrides.broker_url, report)
    if root:
        root = interpolate(root, document, environment, report)
    return _File(document=document, report=report, root=root)


def _read(file: Text, path: Path) -> tuple[Document, tuple[str, str, str | None] | None]:
    """The document, and where there is none: word, sentence and way out."""

    def document(text: str) -> Document:
        return Document(path=file.path, file=path, text=text.removeprefix("\ufeff"))

    if file.text is not None:
        return document(file.text), None
    try:
        content = path.read_bytes()
        return document(content.decode("utf-8")), None
    except UnicodeDecodeError:
        hint = "it is UTF-16: save it as UTF-8" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else None
        return document(""), ("not-text", f'"{file.path}" is no UTF-8 text', hint)
    except (OSError, ValueError) as error:
        hint = _inside(file.path) if isinstance(error, IsADirectoryError) else _near(file.path)
        return document(""), ("unreadable-file", f'cannot read "{file.path}": {why(error)}', hint)


def _inside(path: str) -> str | None:
    return f"name the files in it: {Path(path) / '*.yaml'}" if any(Path(path).glob("*.yaml")) else None


def _near(path: str) -> str | None:
    """Files beside it whose names are near; what they have in common, folder and ending, makes none near."""
    folder = Path(path).parent
    try:
        beside = {name.stem: str(name) for name in folder.iterdir() if name.suffix in _SUFFIXES and name.is_file()}
    except OSError:
        return None
    names = [f'"{beside[stem]}"' for stem in closest(Path(path).stem, beside)]
    return f"did you mean {either(names)}?" if names else None


def _override(root: MapNode, url: str, report: Report) -> MapNode:
    report.elsewhere(COMMAND_LINE, url)
    return broker.replaced(root, url, Place(path=COMMAND_LINE, line=1, column=1, width=max(1, len(url))))


def _check(root: MapNode, report: Report, overrides: Overrides) -> None:
    validate(root, report)
    if report.seen("foreign-file"):
        return
    settings = Settings(root)
    broker.check(root, report)
    argument_checks.check(settings, report)
    queues.check(settings, report, overrides.workers)
    idempotency.check(settings, report, overrides.workers)
    refused.check(settings, report)
    names.check(settings, report)
    dead_letters.check(settings, report)
    references.check(settings, report, overrides.until)
    retry_checks.check(settings, report)
    retry_strategies.check(settings, report)
    advise(settings, report)


def _with_one_runtime(opened: Sequence[_File], pipelines: Sequence[Pipeline]) -> tuple[Pipeline, ...]:
    written = [
        pipeline
        for file, pipeline in zip(opened, pipelines, strict=False)
        if len(opened) == len(pipelines) and file.root and file.root.get("runtime") is not None
    ]
    return tuple(replace(pipeline, runtime=written[0].runtime) if written else pipeline for pipeline in pipelines)


def _handlers(file: _File, number: int) -> list[Reference]:
    """Every path to Python code in the file that is written as one."""
    paths: list[tuple[NodePath, str]] = [(("runtime", "lifespan"), "lifespan")]
    root = file.root
    if root is None:
        return []
    for name, _ in objects(root, "producers"):
        source: NodePath = ("producers", name, "source")
        paths.append(((*source, "generator") if isinstance(at(root, source), MapNode) else source, "source"))
    for name, _ in objects(root, "consumers"):
        paths += [(("consumers", name, key), key) for key in ("handler", "lifespan")]
    found = [reference for path, key in paths if (reference := _reference(file, root, path, key, number))]
    found += _exceptions(file, root, number)
    # What is not written as a path is told by the schema.
    return [reference for reference in found if re.fullmatch(variant("python_path")["pattern"], reference.path)]


def _exceptions(file: _File, root: MapNode, number: int) -> Iterator[Reference]:
    """What `retry` of each consumer names, where it stands: also in `defaults`, once for each that it counts for."""
    for name, _ in objects(root, "consumers"):
        own: NodePath = ("consumers", name, "retry")
        retry: NodePath = own if at(root, own) is not None else ("defaults", "consumers", "retry")
        for key in ("only", "except"):
            listed = at(root, (*retry, key))
            for n in range(len(listed.items)) if isinstance(listed, ListNode) else ():
                reference = _reference(file, root, (*retry, key, n), f"{key}[{n}]", number)
                if reference is not None:
                    yield replace(reference, owner=owner(("consumers", name)))


def _loop(opened: Sequence[_File]) -> Reference | None:
    found = [_reference(file, file.root, ("runtime", "loop"), "loop", n) for n, file in enumerate(opened) if file.root]
    return next(filter(None, found), None)


def _reference(file: _File, root: MapNode, path: NodePath, key: str, number: int) -> Reference | None:
    node = at(root, path)
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return None
    excerpt, caret = file.report.excerpt(node.place)
    return Reference(
        owner=owner(path[:2]) if path[0] != "runtime" else owner(path[:1]),
        key=key,
        path=node.value,
        place=node.place,
        pipeline=number,
        folder=file.document.folder,
        excerpt=excerpt,
        caret=caret,
    )
