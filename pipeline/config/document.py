"""One file as text: its lines, places in it, and the warnings that it silences.
Knows what an editor calls a line; what the text means is the business of `text`."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.problems import Place

_IGNORE = re.compile(r"#\s*piperun:\s*ignore\[([^\]]*)\]\s*$")


@dataclass(frozen=True, kw_only=True)
class Document:
    """`path` is what the user wrote, `file` where it is."""

    path: str
    file: Path
    text: str

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def beginning(self) -> Place:
        return Place(path=self.path, line=1, column=1)

    @cached_property
    def _starts(self) -> list[int]:
        # YAML also ends lines at a lone CR, which editors do not, unless the whole file is written so.
        end = "\n" if "\n" in self.text else "\r"
        return [0] + [match.end() for match in re.finditer(end, self.text)]

    @cached_property
    def _ignored(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for number in range(1, len(self._starts) + 1):
            if match := _IGNORE.search(self.line(number)):
                words = {word.strip() for word in match[1].split(",")}
                alone = not self.line(number)[: match.start()].strip()
                found.setdefault(number + 1 if alone else number, set()).update(words)
        return found

    def line(self, number: int) -> str:
        """The text of a line, without its end."""
        if not 1 <= number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def place(self, start: int, end: int | None = None) -> Place:
        """The place of a stretch of the text; the caret marks no more than its first line."""
        start = min(start, len(self.text))
        number = bisect_right(self._starts, start)
        column = start - self._starts[number - 1]
        rest = len(self.line(number)) - column
        width = max(1, min((end or start + 1) - start, rest))
        return Place(path=self.path, line=number, column=column + 1, width=width)

    def ignores(self, word: str, line: int) -> bool:
        return word in self._ignored.get(line, ())
