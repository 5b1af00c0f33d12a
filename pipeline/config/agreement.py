"""Several files in one run: declared alike, `runtime` in one of them only, one version of the embedded broker.
Knows the trees of all files; what is wrong inside one of them is found elsewhere."""

from collections.abc import Sequence
from typing import cast

from pipeline.config import arguments, broker, dead_letters
from pipeline.config.nodes import MapNode, Plain, at, key_place, value_place
from pipeline.config.report import Report
from pipeline.config.settings import Settings
from pipeline.problems import Place

_COMPARED = {
    "queues": ("type", "durable", "exclusive", "auto_delete"),
    "exchanges": ("type", "durable", "auto_delete", "internal"),
}


def check(files: Sequence[tuple[MapNode, Report]]) -> None:
    """Problems stand in the later file and name the earlier one."""
    _runtime(files)
    right = [(root, report) for root, report in files if not report.has_errors]
    _versions(right)
    _declarations(right)


def _runtime(files: Sequence[tuple[MapNode, Report]]) -> None:
    first: Place | None = None
    for root, report in files:
        if root.get("runtime") is None:
            continue
        place = key_place(root, ("runtime",))
        if first:
            sentence = (
                f"`runtime` may stand in one file of a run only, first at {first.path}:{first.line}:{first.column}"
            )
            report.error("several-runtimes", place, sentence, "keep one", first)
        first = first or place


def _versions(files: Sequence[tuple[MapNode, Report]]) -> None:
    """All files that want the embedded broker share one, which behaves like one version of RabbitMQ."""
    first: tuple[str, Place] | None = None
    for root, report in files:
        if not broker.is_embedded(root):
            continue
        place = _version_place(root, report)
        version, there = first = first or (broker.version(root), place)
        if broker.version(root) != version:
            sentence = (
                f"this file is for RabbitMQ {broker.version(root)} and another for {version} "
                f"({there.path}:{there.line}:{there.column}); both share one embedded broker"
            )
            report.error("versions-differ", place, sentence, "the same `broker.version` in both", there)


def _version_place(root: MapNode, report: Report) -> Place:
    for path in (("broker", "version"), ("broker",)):
        if at(root, path) is not None:
            return value_place(root, path)
    return report.document.beginning


def _declarations(files: Sequence[tuple[MapNode, Report]]) -> None:
    seen: dict[tuple[object, ...], tuple[dict[str, Plain], Place]] = {}
    for root, report in files:
        settings = Settings(root)
        holders = dead_letters.holders(settings)
        where = tuple(sorted(node.text for node in broker.urls(root)))
        for section, keys in _COMPARED.items():
            for key, entry in settings.objects(section):
                if settings.value(section, key, "declare") != "assert":
                    continue
                values = _values(settings, section, key, keys, holders)
                name = settings.broker_name(section, key)
                earlier, place = seen.setdefault((where, section, name), (values, entry.key))
                different = [part for part in earlier | values if earlier.get(part) != values.get(part)]
                if different:
                    _tell(section.removesuffix("s"), name, different[0], earlier, values, entry.key, place, report)


def _values(settings: Settings, section: str, key: str, keys: Sequence[str], holders: set[str]) -> dict[str, Plain]:
    values: dict[str, Plain] = {name: settings.value(section, key, name) for name in keys}
    if section == "queues":
        dead_letter = settings.text("queues", key, "dead_letter")
        target = settings.broker_name("queues", dead_letter) if dead_letter else None
        holds = settings.broker_name(section, key) in holders
        values |= cast("dict[str, Plain]", arguments.merged(settings, key, target, holds_dead_letters=holds))
    else:
        own = settings.value(section, key, "arguments")
        values |= own if isinstance(own, dict) else {}
    return values


def _tell(
    kind: str,
    name: str,
    part: str,
    earlier: dict[str, Plain],
    values: dict[str, Plain],
    here: Place,
    there: Place,
    report: Report,
) -> None:
    sentence = (
        f'{kind} "{name}" is declared with {part} {_said(values.get(part))} here and with {_said(earlier.get(part))} '
        f"at {there.path}:{there.line}:{there.column}; the broker would refuse the second"
    )
    report.error("files-differ", here, sentence, "declare it alike, or `declare: skip` in one of them", there)


def _said(value: Plain) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "nothing" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
