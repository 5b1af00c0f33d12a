"""On what the figures were taken: machine, versions, load. Figures without it say nothing."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.environments import MissingError
from benchmarks.speed.node import Node
from benchmarks.speed.peers import Peer

_CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def load() -> str:
    return ", ".join(f"{each:.1f}" for each in os.getloadavg())


def versions(node: Node, peers: Sequence[Peer]) -> dict[str, str]:
    """By name; where two environments differ, both numbers."""
    found: dict[str, set[str]] = {"RabbitMQ": {node.version}, "Python": {platform.python_version()}}
    for peer in peers:
        for name, number in peer.versions().items():
            found.setdefault(name, set()).add(number)
    return {name: " and ".join(sorted(numbers)) for name, numbers in found.items()}


def present(peers: Sequence[Peer]) -> tuple[list[Peer], list[str]]:
    """Those that can run here, and for each of the others why not and how to get it."""
    there, missing = [], []
    for peer in peers:
        try:
            peer.versions()
            there.append(peer)
        except (MissingError, OSError, ValueError) as error:
            missing.append(f"{peer.title} is left out: {error}")
    return there, missing


def _processor() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
