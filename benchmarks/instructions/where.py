"""Which functions a message runs through, and how many of Python's own instructions each takes: where to look for what
may go. A profile in time shows a small function only where nothing else disturbs the machine."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from benchmarks.instructions.line import carry
from benchmarks.instructions.ways import Way
from pipeline.runtime.loop import choose, run_on

_ROOT: Final = Path(__file__).parents[2]
# Counted twice, with few messages and with many: what a start takes is in both.
_FEW, _MANY = 100, 1_100
_SHOWN: Final = 40
_ROW: Final = "{:>9} {:>5} {}"


@dataclass(frozen=True)
class Counted:
    """By function: its instructions, and how often it was entered, or gone on with after a wait."""

    instructions: Counter[CodeType] = field(default_factory=Counter)
    entered: Counter[CodeType] = field(default_factory=Counter)

    def trace(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if event == "opcode":
            self.instructions[frame.f_code] += 1
        elif event == "call":
            self.entered[frame.f_code] += 1
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.trace


def where(way: Way) -> str:
    """A table, for one message."""
    few, many = _counted(way, _FEW), _counted(way, _MANY)
    instructions = many.instructions - few.instructions
    entered = many.entered - few.entered
    rows = [_ROW.format("of Python", "calls", f"function; {way.name}: {way.about}")]
    rows += [
        _ROW.format(f"{count / (_MANY - _FEW):.1f}", f"{entered[code] / (_MANY - _FEW):.2f}", _name(code))
        for code, count in instructions.most_common(_SHOWN)
    ]
    rest = instructions.total() - sum(count for _, count in instructions.most_common(_SHOWN))
    rows.append(_ROW.format(f"{rest / (_MANY - _FEW):.1f}", "", "in all others"))
    rows.append(_ROW.format(f"{instructions.total() / (_MANY - _FEW):.1f}", "", "in all"))
    return "\n".join(rows)


def _counted(way: Way, messages: int) -> Counted:
    async def counted() -> Counted:
        found = Counted()
        before = sys.gettrace()
        sys.settrace(found.trace)
        try:
            await carry(way, messages)
        finally:
            sys.settrace(before)
        return found

    return run_on(choose("auto", lambda _: None), counted())


def _name(code: CodeType) -> str:
    file = Path(code.co_filename)
    return f"{code.co_qualname}  {file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file.name}"
