"""What is wrong or risky with a `retry` by itself: two forms at once, pauses that no queue can have, exceptions that do
not exist. How the forms become one list is known to `retries`; what a consumer and its queue allow, to
`retry_strategies`."""

import builtins
from collections.abc import Iterator
from typing import Any

from pipeline.config import retries
from pipeline.config.argument_checks import MOST_MILLISECONDS
from pipeline.config.nodes import ListNode, MapNode, Path, ScalarNode, at, key_place, value_place
from pipeline.config.owner import owner
from pipeline.config.report import Report
from pipeline.config.schema import variant
from pipeline.config.settings import Settings
from pipeline.config.units import seconds
from pipeline.config.unknown import misspelt
from pipeline.problems import Place

_GROWING = ("initial", "factor", "max", "attempts")


def check(settings: Settings, report: Report) -> None:
    """Every `retry` of one file, those of `defaults` included."""
    for path, node in _written(settings):
        if _form(settings, path, node, report):
            _delays(settings, path, node, report)
        _exceptions(node, report)


def _written(settings: Settings) -> Iterator[tuple[Path, MapNode]]:
    paths: list[Path] = [("defaults", "consumers", "retry")]
    paths += [("consumers", name, "retry") for name, _ in settings.objects("consumers")]
    for path in paths:
        node = at(settings.root, path)
        if isinstance(node, MapNode):
            yield path, node


# The two forms


def _form(settings: Settings, path: Path, node: MapNode, report: Report) -> bool:
    """Whether it is one of the two forms, and whole."""
    who = owner(path)
    growing = [key for key in _GROWING if retries.says(node, key)]
    if retries.says(node, "delays"):
        if growing:
            key = growing[0]
            first, second = sorted((node.entries["delays"].key, node.entries[key].key))
            sentence = (
                f"{who} names each of its `delays`, and `{key}` is for pauses that grow by themselves; "
                f"first at {first.line}:{first.column}"
            )
            report.error("conflicting-keys", second, sentence, "keep one", first)
        return not growing
    for key, question, hint in (
        ("initial", "how long is the first pause?", "delays: [5s, 1m, 10m], or initial: 5s"),
        ("attempts", "how often is a message handled at most?", "attempts: 5"),
    ):
        if not retries.says(node, key):
            if any(misspelt(node, known, variant("retry")) for known in (key, "delays")):
                return False  # told already
            what = "neither `delays` nor `initial`" if key == "initial" else f"no `{key}`"
            report.error("missing-key", key_place(settings.root, path), f"{who} has {what}: {question}", hint)
            return False
    return True


# The pauses


def _delays(settings: Settings, path: Path, node: MapNode, report: Report) -> None:
    values = retries.understood(node)
    if values is None:
        return
    found = retries.delays(values)
    for number, each in enumerate(found):
        if not 1 <= each * 1000 <= MOST_MILLISECONDS:
            _too_long_or_short(settings, path, values, number, report)
            return
    if values["delays"] is not None:
        _falling(settings, path, found, report)
    elif values["max"] is not None and seconds(values["max"]) < seconds(values["initial"]):
        sentence = f"the pauses grow from `initial` ({values['initial']}) to `max` ({values['max']}), which is shorter"
        report.error("out-of-range", value_place(settings.root, (*path, "max")), sentence)


def _too_long_or_short(settings: Settings, path: Path, values: dict[str, Any], number: int, report: Report) -> None:
    if values["delays"] is not None:
        where: Path = (*path, "delays", number)
        what = f"a pause between two attempts is 1ms to 49 days, this is {values['delays'][number]}"
        report.error("out-of-range", _item_place(settings, where), what)
    elif number == 0:
        what = f"a pause between two attempts is 1ms to 49 days, this is {values['initial']}"
        report.error("out-of-range", value_place(settings.root, (*path, "initial")), what)
    else:
        what = f"a pause between two attempts is at most 49 days, and the {_ordinal(number)} would be longer"
        report.error("out-of-range", value_place(settings.root, (*path, "initial")), what, "max: 1d")


def _falling(settings: Settings, path: Path, delays: tuple[float, ...], report: Report) -> None:
    for number in range(1, len(delays)):
        if delays[number] < delays[number - 1]:
            sentence = f"the {_ordinal(number)} delay is shorter than the {_ordinal(number - 1)}"
            report.warning("falling-delays", _item_place(settings, (*path, "delays", number)), sentence)
            return


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    if number < len(words):
        return words[number]
    count = number + 1
    return f"{count}{'th' if count // 10 == 1 else {1: 'st', 2: 'nd', 3: 'rd'}.get(count % 10, 'th')}"


def _item_place(settings: Settings, path: Path) -> Place:
    node = at(settings.root, path)
    return node.place if node is not None else key_place(settings.root, path[:-1])


# Exception classes


def _exceptions(node: MapNode, report: Report) -> None:
    """Those of Python itself; whatever a module has is looked up when it is imported."""
    for key in ("only", "except"):
        listed = node.get(key)
        for item in listed.items if isinstance(listed, ListNode) else ():
            if isinstance(item, ScalarNode) and isinstance(item.value, str) and item.value.isidentifier():
                _builtin(item, key, report)


def _builtin(item: ScalarNode, key: str, report: Report) -> None:
    found = getattr(builtins, item.text, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return
    known = [name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, Exception)]
    sentence = f'Python has no exception "{item.text}" of its own, and `{key}` names it without a module'
    hint = report.did_you_mean(item.text, known) or f"package.module:{item.text}, for one of yours"
    report.error("unknown-exception", item.place, sentence, hint)
