"""The `broker` section: its URLs checked, and the settings as the model has them.
How a URL is read is known to `address`; what is risky about one is said in `advice`."""

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import cast

from pipeline.config.address import BadUrl, Url, parse
from pipeline.config.document import Document
from pipeline.config.model import Broker, Tls
from pipeline.config.nodes import Entry, ListNode, MapNode, Node, Plain, ScalarNode, at, value_place
from pipeline.config.report import Report
from pipeline.config.schema import lookup, variant
from pipeline.config.settings import default, filled
from pipeline.config.units import is_duration, seconds, size
from pipeline.problems import Place
from pipeline.secret import Secret

EMBEDDED = "embedded"

_HEARTBEATS = (1.0, 65535.0)
_PERHAPS_PASSWORD = re.compile(r"(?:^|://)[^/:@]*:(.+)@", re.DOTALL)


def replaced(root: MapNode, url: str, place: Place) -> MapNode:
    """The tree with another URL; the other settings of the broker stay."""
    node = ScalarNode(place=place, value=url, text=url, source=url)
    old = root.entries.get("broker")
    if old and isinstance(old.value, MapNode):
        entries = {**old.value.entries, "url": Entry(key=place, value=node)}
        broker: Node = MapNode(place=old.value.place, entries=entries, size=old.value.size)
    else:
        broker = node
    entry = Entry(key=old.key if old else place, value=broker)
    return MapNode(place=root.place, entries={**root.entries, "broker": entry}, size=root.size)


def urls(root: MapNode) -> list[ScalarNode]:
    """The URLs, in either form of the section, as far as they are texts."""
    return [node for node in _url_nodes(root) if isinstance(node.value, str)]


def _url_nodes(root: MapNode) -> Iterator[ScalarNode]:
    broker = root.get("broker")
    node = broker.get("url") if isinstance(broker, MapNode) else broker
    for candidate in node.items if isinstance(node, ListNode) else [node]:
        if isinstance(candidate, ScalarNode):
            yield candidate


def is_embedded(root: MapNode) -> bool:
    """Whether this file runs on the embedded broker; the schema says what an absent section means."""
    broker = root.get("broker")
    node = broker.get("url") if isinstance(broker, MapNode) else broker
    if node is None or (isinstance(node, ScalarNode) and node.empty):
        return default(lookup("broker")) == EMBEDDED
    return isinstance(node, ScalarNode) and node.value == EMBEDDED


def version(root: MapNode) -> str:
    """The RabbitMQ that the file is for, written or not."""
    return str(filled(variant("broker"), root.get("broker"))["version"])


def check(root: MapNode, report: Report) -> None:
    """URLs that cannot be read, and settings that contradict each other. Passwords become secrets here."""
    nodes = urls(root)
    for node in nodes:
        if node.value != EMBEDDED:
            _check_url(node, report)
        elif len(nodes) > 1:
            sentence = '"embedded" stands in a list with other URLs; it is a broker of its own'
            report.error("mixed-brokers", node.place, sentence, "either embedded alone, or URLs only")
    _check_password(root, report)
    _check_heartbeat(root, report)
    _check_reconnect(root, report)
    _check_tls(root, report)


def _check_url(node: ScalarNode, report: Report) -> None:
    url = parse(node.text)
    if isinstance(url, BadUrl):
        # Where a URL cannot be taken apart, everything that may be meant as its password is kept out of sight.
        report.learn(Secret(found[1]) for found in [_PERHAPS_PASSWORD.search(node.text)] if found)
        report.error(url.word, node.place, url.sentence, url.hint)
    elif url.password_given:
        report.learn([url.address.password])


def _check_password(root: MapNode, report: Report) -> None:
    node = at(root, ("broker", "tls", "key_password"))
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        report.learn([Secret(node.value), Secret(node.source)] if "${" not in node.source else [Secret(node.value)])


def _check_heartbeat(root: MapNode, report: Report) -> None:
    node = at(root, ("broker", "heartbeat"))
    if not isinstance(node, ScalarNode) or not is_duration(node.value):
        return
    value = seconds(node.text)
    if value != int(value) or not _HEARTBEATS[0] <= value <= _HEARTBEATS[1]:
        sentence = f"`heartbeat` is a whole number of seconds from 1s to 65535s, this is {node.text}"
        report.error("out-of-range", value_place(root, ("broker", "heartbeat")), sentence)


def _check_reconnect(root: MapNode, report: Report) -> None:
    node = at(root, ("broker", "reconnect"))
    values = filled(lookup("broker", "reconnect"), node)
    initial, longest = values["initial"], values["max"]
    if not (is_duration(initial) and is_duration(longest)):
        return
    if seconds(str(initial)) > seconds(str(longest)):
        written = "max" if isinstance(node, MapNode) and "max" in node.entries else "initial"
        report.error(
            "out-of-range",
            value_place(root, ("broker", "reconnect", written)),
            f"the pauses grow from `initial` ({initial}) to `max` ({longest}), which is shorter",
        )


def _check_tls(root: MapNode, report: Report) -> None:
    tls = at(root, ("broker", "tls"))
    if isinstance(tls, MapNode) and "key_file" in tls.entries and "cert_file" not in tls.entries:
        report.error(
            "missing-key",
            tls.entries["key_file"].key,
            "`broker.tls` has a `key_file` and no `cert_file` that it belongs to",
        )


def build(root: MapNode, document: Document) -> Broker:
    """The settings of a section without mistakes."""
    node = root.get("broker")
    values = filled(variant("broker"), node)
    reconnect = filled(lookup("broker", "reconnect"), at(root, ("broker", "reconnect")))
    parsed = [url for text in urls(root) if isinstance(url := parse(text.text), Url)]
    heartbeats = [url.heartbeat for url in parsed if url.heartbeat]
    return Broker(
        addresses=tuple(url.address for url in parsed),
        version=str(values["version"]),
        max_message_size=size(str(values["max_message_size"])),
        connect_timeout=seconds(str(values["connect_timeout"])),
        heartbeat=heartbeats[0] if heartbeats else int(seconds(str(values["heartbeat"]))),
        reconnect_initial=seconds(str(reconnect["initial"])),
        reconnect_max=seconds(str(reconnect["max"])),
        tls=_tls(at(root, ("broker", "tls")), document),
    )


def _tls(node: Node | None, document: Document) -> Tls | None:
    if not isinstance(node, MapNode):
        return None
    values = filled(variant("tls"), node)
    password = cast("str | None", values["key_password"])

    def path(value: Plain) -> FilePath | None:
        return document.folder / str(value) if value is not None else None

    return Tls(
        ca_file=path(values["ca_file"]),
        cert_file=path(values["cert_file"]),
        key_file=path(values["key_file"]),
        key_password=Secret(password) if password is not None else None,
    )
