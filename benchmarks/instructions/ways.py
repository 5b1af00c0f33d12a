"""What is counted. How it is run is not known here."""

from dataclasses import dataclass
from typing import Final

from benchmarks.handling.shapes import SHAPES, Shape


@dataclass(frozen=True, kw_only=True)
class Way:
    """`at_once` messages arrive in one reading, and the next when all of them are acknowledged."""

    name: str
    about: str
    shape: Shape
    at_once: int = 100


_SHAPES: Final = {shape.name: shape for shape in SHAPES}

WAYS: Final = (
    Way(name="consume", about="handled and acknowledged, 100 in a reading", shape=_SHAPES["bytes"]),
    Way(name="pipe", about="handled, published, acknowledged, 100 at once", shape=_SHAPES["pipe"]),
    Way(name="pipe-alone", about="the same, one after the other", shape=_SHAPES["pipe"], at_once=1),
)
