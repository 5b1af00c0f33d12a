"""Where piperun's process spends its time with a shape: a profile of what is timed, and nothing of its start."""

import pstats
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.speed.node import Node
from benchmarks.speed.peers import PEERS
from benchmarks.speed.run import measure
from benchmarks.speed.shapes import Shape

_TOP: Final = 30


def profile(shape: Shape, node: Node, messages: int) -> str:
    """The functions that cost most by themselves. The profiler makes Python code several times slower, and C code not
    at all, so that the shares are a hint and the sum is no measurement."""
    with tempfile.TemporaryDirectory(prefix="piperun-bench-") as folder:
        written = Path(folder) / "profile"
        result = measure(shape, PEERS[0], node, messages, profile=str(written), patience=300)
        functions: dict[tuple[str, int, str], tuple[Any, ...]] = vars(pstats.Stats(str(written)))["stats"]
    lines = [
        f"{shape.name}: {result.messages:,} messages, {result.rate:,.0f}/s under the profiler",
        f"{'own µs':>8}{'total µs':>10}{'calls':>8}  per message",
    ]
    by_own = sorted(functions.items(), key=lambda each: float(each[1][2]), reverse=True)
    for (file, line, name), (_, calls, own, total, _) in by_own[:_TOP]:
        figures = f"{own * 1e6 / result.messages:>8.2f}{total * 1e6 / result.messages:>10.2f}"
        lines.append(f"{figures}{calls / result.messages:>8.2f}  {_name(file, line, name)[:52]}")
    return "\n".join(lines)


def _name(file: str, line: int, name: str) -> str:
    if file == "~":
        return name.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    return f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
