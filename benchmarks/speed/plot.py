"""A picture of rates as bars: for each shape a panel, for each peer a bar with its spread. SVG written as text, with
colours for light and for dark surroundings. What was measured, and how, is not known here."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.speed.figures import Spread

_LABELS: Final = 190  # width of the peers' names
_BARS: Final = 470
_VALUES: Final = 110
_WIDTH: Final = 20 + _LABELS + _BARS + _VALUES
_LINE: Final = 24
_BAR: Final = 14
_TITLE: Final = 44
_STYLE: Final = """\
    .ground { fill: #ffffff } text { fill: #1d2733 } .scale { stroke: #d8dde3 } .faint { fill: #5c6b7a }
    .ours { fill: #24507a } .other { fill: #a9bccf } .spread { stroke: #1d2733 }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #14191f } text { fill: #e3e8ed } .scale { stroke: #303943 } .faint { fill: #94a3b3 }
      .ours { fill: #6fb1ee } .other { fill: #46586b } .spread { stroke: #e3e8ed }
    }"""


@dataclass(frozen=True, kw_only=True)
class Bar:
    title: str
    rate: Spread
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Panel:
    title: str
    bars: tuple[Bar, ...]


def svg(title: str, panels: Sequence[Panel]) -> str:
    """Each panel has a scale of its own, from zero."""
    parts, top = [], 16
    for panel in panels:
        parts += _panel(panel, top)
        top += _TITLE + _LINE * len(panel.bars) + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}"'
            ' role="img" font-family="Helvetica, Arial, sans-serif" font-size="13">',
            f"  <title>{escape(title)}</title>",
            f"  <desc>{escape(_told(panels))}</desc>",
            f"  <style>\n{_STYLE}\n  </style>",
            f'  <rect class="ground" width="{_WIDTH}" height="{top}" rx="10"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, top: int) -> list[str]:
    step = _step(max(bar.rate.high for bar in panel.bars))
    whole = step * (floor(max(bar.rate.high for bar in panel.bars) / step) + 1)
    left, bottom = 10 + _LABELS, top + _TITLE + _LINE * len(panel.bars)
    parts = [f'  <text x="10" y="{top + 14}" font-weight="bold">{escape(panel.title)}</text>']
    for number in range(round(whole / step) + 1):
        x = left + _BARS * number * step / whole
        parts.append(f'  <path class="scale" d="M{x:.1f} {top + 38}V{bottom}"/>')
        parts.append(
            f'  <text class="faint" x="{x:.1f}" y="{top + 33}" font-size="11" text-anchor="middle">'
            f"{number * step:,.0f}</text>"
        )
    for number, bar in enumerate(panel.bars):
        parts += _bar(bar, left, top + _TITLE + _LINE * number, _BARS / whole)
    return parts


def _bar(bar: Bar, left: int, top: int, scale: float) -> list[str]:
    middle, text = top + _BAR / 2, top + _BAR - 2
    low, high = left + bar.rate.low * scale, left + bar.rate.high * scale
    weight = ' font-weight="bold"' if bar.ours else ""
    return [
        f'  <text x="{left - 8}" y="{text}" text-anchor="end"{weight}>{escape(bar.title)}</text>',
        f'  <rect class="{"ours" if bar.ours else "other"}" x="{left}" y="{top}" width="{bar.rate.median * scale:.1f}"'
        f' height="{_BAR}" rx="2"/>',
        f'  <path class="spread" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {top + 3}v8M{high:.1f} {top + 3}v8"/>',
        f'  <text x="{max(high, left + 4) + 8:.1f}" y="{text}"{weight}>{bar.rate.median:,.0f}</text>',
    ]


def _step(largest: float) -> float:
    """1, 2 or 5 times a power of ten, so that the scale has between three and eight lines."""
    power = 10.0 ** floor(log10(largest)) if largest > 0 else 1.0
    return next(power * each for each in (0.2, 0.5, 1.0, 2.0) if largest / (power * each) <= 6)


def _told(panels: Sequence[Panel]) -> str:
    return " ".join(
        f"{panel.title}: " + ", ".join(f"{bar.title} {bar.rate.median:,.0f}" for bar in panel.bars) + "."
        for panel in panels
    )
