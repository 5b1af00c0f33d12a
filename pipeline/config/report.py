"""Collects the problems of one file: each mistake once, with its line, secrets masked.
What is a mistake is decided by those who call; silenced warnings never get in."""

from collections.abc import Iterable
from itertools import islice

from pipeline.config.document import Document
from pipeline.problems import Place, Problem, Severity, did_you_mean
from pipeline.secret import Masker, Secret

MOST_PROBLEMS = 300  # of each severity in one file; nobody reads more, and a hostile file must not take for ever
MOST_CANDIDATES = 200  # names that are compared with a misspelt one

_EXCERPT = 160  # characters of a line that are shown


class Report:
    """The problems of one document, the first few hundred of them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._found: dict[tuple[str, Place], Problem] = {}
        self._secrets: dict[Secret, None] = {}
        self._lines: dict[str, str] = {}
        self._count: dict[Severity, int] = {"error": 0, "warning": 0}

    def error(
        self, word: str, place: Place, sentence: str, hint: str | None = None, related: Place | None = None
    ) -> None:
        self._add("error", word, place, sentence, hint, related)

    def warning(
        self, word: str, place: Place, sentence: str, hint: str | None = None, related: Place | None = None
    ) -> None:
        if place.path != self.document.path or not self.document.ignores(word, place.line):
            self._add("warning", word, place, sentence, hint, related)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Mask these in every problem, also in those found before."""
        self._secrets.update(dict.fromkeys(secrets))

    def elsewhere(self, path: str, line: str) -> None:
        """The text that stands at a place outside the file: a value of the command line."""
        self._lines[path] = line

    @property
    def full(self) -> bool:
        """Whether there is no place for another error, so that looking for more is in vain."""
        return self._count["error"] >= MOST_PROBLEMS

    def did_you_mean(self, wanted: str, candidates: Iterable[str]) -> str | None:
        """The nearest names, as far as it is worth looking for them."""
        return None if self.full else did_you_mean(wanted, islice(candidates, MOST_CANDIDATES))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return tuple(self._secrets)

    @property
    def has_errors(self) -> bool:
        return self._count["error"] > 0

    def seen(self, *words: str) -> bool:
        return any(problem.word in words for problem in self._found.values())

    def problems(self) -> list[Problem]:
        """All of them in the order of the lines, ready to print."""
        masker = Masker(self._secrets)
        found = sorted(self._found.values(), key=lambda problem: (problem.place.line, problem.place.column))
        return [self._printable(problem, masker) for problem in found]

    def excerpt(self, place: Place) -> tuple[str, tuple[int, int]]:
        """The line of a place with its secrets masked, and which part of it the caret marks."""
        return self._excerpt(place, Masker(self._secrets))

    def _add(
        self, severity: Severity, word: str, place: Place, sentence: str, hint: str | None, related: Place | None
    ) -> None:
        # A mistake inside an anchor is met once for each alias; it is told once.
        if (word, place) in self._found or self._count[severity] >= MOST_PROBLEMS:
            return
        self._count[severity] += 1
        self._found[word, place] = Problem(
            severity=severity, word=word, place=place, sentence=sentence, hint=hint, related=related
        )

    def _printable(self, problem: Problem, masker: Masker) -> Problem:
        excerpt, caret = self._excerpt(problem.place, masker)
        return Problem(
            severity=problem.severity,
            word=problem.word,
            place=problem.place,
            sentence=_one_line(masker(problem.sentence)),
            hint=_one_line(masker(problem.hint)) if problem.hint else None,
            related=problem.related,
            excerpt=excerpt,
            caret=caret,
        )

    def _excerpt(self, place: Place, masker: Masker) -> tuple[str, tuple[int, int]]:
        line = self._lines.get(place.path)
        if line is None:
            line = self.document.line(place.line)
        line = "".join(character if character.isprintable() else " " for character in line)
        before, marked = line[: place.column - 1], line[place.column - 1 : place.column - 1 + place.width]
        caret, width = len(masker(before)), max(1, len(masker(marked)))
        return _window(masker(line), caret, width)


def _window(line: str, caret: int, width: int) -> tuple[str, tuple[int, int]]:
    if len(line) <= _EXCERPT:
        return line, (caret, width)
    start = max(0, min(caret - _EXCERPT // 4, len(line) - _EXCERPT))
    end = start + _EXCERPT
    shown = ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")
    caret = caret - start + (1 if start else 0)
    return shown, (caret, min(width, max(1, len(shown) - caret)))


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
