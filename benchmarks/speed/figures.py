"""What figures of several rounds say together: median and spread, and how one peer stands to another. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median=median(values), low=min(values), high=max(values))


def ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Spread | None:
    """Ours to theirs in each round by itself, so that a slow minute of the machine meets both sides. None where no
    round has both."""
    both = [(one, other) for one, other in zip(ours, theirs, strict=False) if one is not None and other]
    return Spread.of([one / other for one, other in both]) if both else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that so large a share (0.99) of them does not exceed."""
    return values[max(0, ceil(share * len(values)) - 1)]
