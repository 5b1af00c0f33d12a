"""Paths to callables and call plans: everything the files name in Python is imported and its signature checked, all
problems in one go, before anything connects. The broker is not known here."""

import builtins
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.config.load import Loaded, Reference
from pipeline.config.model import Consumer, Pipeline, Retry, Source
from pipeline.errors import SourceProblem
from pipeline.failure.verdict import Policy
from pipeline.handlers.lifespan import check as check_lifespan
from pipeline.handlers.parameters import SignatureProblem
from pipeline.handlers.signature import CallPlan
from pipeline.handlers.signature import plan as call_plan
from pipeline.imports import Importer, ImportProblem
from pipeline.problems import Problem
from pipeline.runtime import loop
from pipeline.runtime.plan import Plan, plan
from pipeline.sources import check as check_source
from pipeline.values import Frozen

T = TypeVar("T")


class Lifespan(Frozen, frozen=True, kw_only=True):
    path: str
    object: object


class Prepared(Frozen, frozen=True, kw_only=True):
    """One file, ready to be run: the plan, and by consumer's name what handles its messages."""

    plan: Plan
    handlers: Mapping[str, CallPlan]
    policies: Mapping[str, Policy]  # of the consumers with `retry`
    lifespans: Mapping[str, Lifespan]  # of the consumers that have one of their own
    lifespan: Lifespan | None  # of `runtime`
    find: Callable[[str], object]


def prepare(
    loaded: Loaded, *, app_dir: Path, only: Collection[str]
) -> tuple[tuple[Prepared, ...], tuple[Problem, ...]]:
    """Everything that the files name in Python, and all problems with it. `only` as in `plan`: what is not run need not
    be there. Where the files themselves have errors, what they name is imported, and no more."""
    importer = Importer([*dict.fromkeys(each.folder for each in loaded.handlers), app_dir])
    imports = _Imports(importer, [each for each in loaded.handlers if _wanted(each, only)])
    imports.problems += loop.check(loaded.loop)
    if loaded.has_errors:
        return (), tuple(imports.problems)
    prepared = tuple(_prepared(number, each, imports, only) for number, each in enumerate(loaded.pipelines))
    return prepared, tuple(imports.problems)


class _Imports:
    """The objects behind the references of all files, and what is wrong with them."""

    def __init__(self, importer: Importer, references: Collection[Reference]) -> None:
        self.importer = importer
        self.problems: list[Problem] = []
        self._found: dict[_Key, tuple[Reference, object]] = {}
        for each in references:
            try:
                found = importer.find(each.path, folder=each.folder)
            except ImportProblem as problem:
                self._add(each.error(problem.word, problem.sentence, problem.hint, problem.frames))
            else:
                self._found[each.pipeline, each.owner, each.key] = each, found

    def checked(self, key: "_Key", check: Callable[[object, str], T]) -> T | None:
        """What `check` makes of the object; None where there is none, or where it is a problem."""
        if key not in self._found:
            return None
        reference, found = self._found[key]
        try:
            return check(found, reference.path)
        except SignatureProblem as problem:
            self._add(reference.error(problem.word, problem.sentence, problem.hint))
        except SourceProblem as problem:
            self._add(reference.error("bad-source", str(problem)))
        return None

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:  # what stands in `defaults` is met once for each consumer
            self.problems.append(problem)


_Key = tuple[int, str, str]  # number of the file, owner, key


def _wanted(reference: Reference, only: Collection[str]) -> bool:
    return not only or reference.owner == "`runtime`" or any(reference.owner.endswith(f' "{each}"') for each in only)


def _prepared(number: int, pipeline: Pipeline, imports: _Imports, only: Collection[str]) -> Prepared:
    planned = plan(pipeline, only=only)
    handlers: dict[str, CallPlan] = {}
    policies: dict[str, Policy] = {}
    lifespans: dict[str, Lifespan] = {}
    for each in planned.consumers:
        consumer = each.consumer
        owner = f'consumer "{consumer.name}"'

        def as_handler(found: object, path: str, consumer: Consumer = consumer) -> CallPlan:
            return call_plan(found, name=path.partition(":")[2], content=consumer.content, ack=consumer.ack)

        if (call := imports.checked((number, owner, "handler"), as_handler)) is not None:
            handlers[consumer.name] = call
        if consumer.retry is not None:
            policies[consumer.name] = _policy(consumer.retry, (number, owner), imports)
        if (own := imports.checked((number, owner, "lifespan"), _as_lifespan)) is not None:
            lifespans[consumer.name] = own
    for producer in planned.producers:
        imports.checked(
            (number, f'producer "{producer.name}"', "source"),
            _as_source_of(producer.source),
        )
    return Prepared(
        plan=planned,
        handlers=handlers,
        policies=policies,
        lifespans=lifespans,
        lifespan=imports.checked((number, "`runtime`", "lifespan"), _as_lifespan),
        find=lambda path: imports.importer.find(path, folder=pipeline.folder),
    )


def _policy(retry: Retry, whose: tuple[int, str], imports: _Imports) -> Policy:
    def classes(key: str, names: Sequence[str]) -> tuple[type[BaseException], ...]:
        found = (
            imports.checked((*whose, f"{key}[{n}]"), _as_exception) if ":" in name else getattr(builtins, name)
            for n, name in enumerate(names)
        )
        return tuple(each for each in found if each is not None)

    return Policy(
        delays=retry.delays,
        strategy=retry.strategy,
        only=classes("only", retry.only),
        excluded=classes("except", retry.excluded),
    )


def _as_exception(found: object, path: str) -> type[BaseException]:
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    sentence = f'"{path}" is no exception class, and only such can be raised'
    raise SignatureProblem(sentence, "the class itself, package.module:Class", word="not-an-exception")


def _as_source_of(settings: Source) -> Callable[[object, str], None]:
    return lambda found, _: check_source(settings, lambda _: found)


def _as_lifespan(found: object, path: str) -> Lifespan:
    problem = check_lifespan(found, name=path.partition(":")[2])
    if problem is not None:
        raise problem
    return Lifespan(path=path, object=found)
