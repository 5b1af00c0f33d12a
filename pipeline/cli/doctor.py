"""`piperun doctor`: what is wrong between a file and its live broker, each finding with a way out."""

import json
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import exits
from pipeline.cli.live import pipeline_of, talking_to_its_broker
from pipeline.cli.loading import uncollected
from pipeline.cli.options import BrokerUrl, File, Format
from pipeline.cli.report import wants_colour
from pipeline.clock import SystemClock
from pipeline.config.model import Pipeline
from pipeline.errors import BrokerError
from pipeline.runtime.plan import plan
from pipeline.runtime.rights import Rights, rights
from pipeline.secret import Masker

if TYPE_CHECKING:
    from pipeline.amqp.inspect import Server
    from pipeline.runtime.drift import Finding

_COLOURS = {"error": "1;31", "warning": "1;33", "ok": "32"}
_MARGIN = 9  # columns of the level


def doctor(
    file: File,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            metavar="",
            help="Compare settings and arguments, too. A queue that vanishes at that very moment is made.",
        ),
    ] = False,
    print_rights: Annotated[
        bool,
        typer.Option("--rights", metavar="", help="Print the rights that the file needs, connect nowhere, and leave."),
    ] = False,
    broker: BrokerUrl = None,
    form: Format = "text",
) -> None:
    """Say what is wrong between a file and its live broker, and what to do about it.

    Looks, and makes nothing. Exit status: 0 nothing is wrong, 1 something is, 2 usage or configuration,
    3 broker unreachable or refused us, 4 the broker differs from the file.
    """
    pipeline = pipeline_of(file, broker)
    mask = Masker(pipeline.secrets)
    if print_rights:
        print(mask(_rights(rights(plan(pipeline)), pipeline, form)))
        return
    with uncollected():
        from pipeline.runtime.checkup import findings, not_visible
        from pipeline.runtime.examine import examine

    try:
        with talking_to_its_broker(pipeline):
            seen = examine(plan(pipeline), comparing=compare, clock=SystemClock())
    except BrokerError as error:
        if form != "json":
            raise
        print(mask(json.dumps(_unreachable(pipeline, error), ensure_ascii=False)))
        raise typer.Exit(exits.BROKER) from None
    found = findings(plan(pipeline), seen)
    if form == "json":
        print(mask(json.dumps(_object(pipeline, seen.server, found, not_visible(seen)), ensure_ascii=False)))
    else:
        _show(mask, pipeline, seen.server, found, not_visible(seen))
    raise typer.Exit(_status(found))


def _status(found: Sequence["Finding"]) -> int:
    if any(each.differs for each in found):
        return exits.DIFFERS
    return exits.FAILED if any(each.level != "ok" for each in found) else exits.FINE


# For people


def _show(
    mask: Masker, pipeline: Pipeline, server: "Server", found: Sequence["Finding"], hidden: Sequence[str]
) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(_wrapped(mask(_about(pipeline, server)), 0, width), end="\n\n")
    for each, following in zip_longest(found, found[1:]):
        level = f"{each.level:{_MARGIN}}"
        if wants_colour(sys.stdout):
            level = f"\x1b[{_COLOURS[each.level]}m{level}\x1b[0m"
        print(level + _wrapped(mask(each.sentence), _MARGIN, width).lstrip())
        if each.hint and (following is None or each.hint != following.hint):  # the same way out of several is said once
            print(_wrapped(mask(each.hint), _MARGIN, width))
    print("\nnot visible over AMQP:")
    for line in hidden:
        print(_wrapped(line, 2, width))
    print(f"\n{_count(found)}")


def _about(pipeline: Pipeline, server: "Server") -> str:
    at = pipeline.broker.addresses[0]
    cluster = f', cluster "{server.cluster}"' if server.cluster else ""
    where = f'{", ".join(map(str, pipeline.broker.addresses))}, vhost "{at.vhost}", user "{at.username}"'
    return f"{pipeline.path.name} at {where}: {server.product or 'an unknown broker'} {server.version}{cluster}"


def _wrapped(text: str, margin: int, width: int | None) -> str:
    """Nothing that somebody may want to copy is broken inside a word."""
    if width is None:
        return " " * margin + text
    return textwrap.fill(
        text,
        max(width, 40),
        initial_indent=" " * margin,
        subsequent_indent=" " * margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(found: Sequence["Finding"]) -> str:
    errors, warnings = (sum(each.level == level for each in found) for level in ("error", "warning"))
    if not errors and not warnings:
        return "nothing is wrong"
    parts = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in ((errors, "error"), (warnings, "warning"))]
    return " and ".join(part for part in parts if not part.startswith("0 "))


def _rights(needed: Rights, pipeline: Pipeline, form: str) -> str:
    at = pipeline.broker.addresses[0]
    patterns = {
        "configure": needed.pattern("configure"),
        "write": needed.pattern("write"),
        "read": needed.pattern("read"),
    }
    if form == "json":
        return json.dumps({"vhost": at.vhost, "user": at.username, **patterns}, ensure_ascii=False)
    words = " ".join(map(shlex.quote, ("-p", at.vhost, at.username, *patterns.values())))
    lines = [f"{right:10} {pattern}" for right, pattern in patterns.items()]
    return "\n".join([*lines, "", f"rabbitmqctl set_permissions {words}"])


# For programs


def _object(pipeline: Pipeline, server: "Server", found: Sequence["Finding"], hidden: Sequence[str]) -> dict[str, Any]:
    keys = ("level", "kind", "sentence", "hint")
    return {
        **_place(pipeline),
        "product": server.product,
        "version": server.version,
        "cluster": server.cluster,
        "findings": [{key: getattr(each, key) for key in keys} for each in found],
        "not_visible": list(hidden),
    }


def _unreachable(pipeline: Pipeline, error: BrokerError) -> dict[str, Any]:
    hint = "; ".join(getattr(error, "__notes__", ())) or None
    finding = {"level": "error", "kind": "unreachable", "sentence": str(error), "hint": hint}
    return {**_place(pipeline), "findings": [finding]}


def _place(pipeline: Pipeline) -> dict[str, Any]:
    at = pipeline.broker.addresses[0]
    return {
        "file": pipeline.path.name,
        "addresses": list(map(str, pipeline.broker.addresses)),
        "vhost": at.vhost,
        "user": at.username,
    }
