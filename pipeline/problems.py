"""A mistake in a file, as a value: which word, where, in what sentence, with which way out. Also "did you mean".
Printing is the command line's, finding is the configuration's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal
from unicodedata import combining, east_asian_width

Severity = Literal["error", "warning"]

_NEAR = 0.7  # from here on two names are near each other
_MARGIN = len("12345 | ")  # before the line of a file
_NARROWEST = 40  # columns; a terminal that says it has fewer is not believed
_LONGEST = 100  # characters of a name that is compared at all

# Every word with what it means in a few words; each has a page in `docs/problems/` and a test with its full text.
WORDS: Mapping[str, str] = {
    "ambiguous-ack": "`ack: auto` means opposite things in different systems",
    "bad-address": "an address to listen on that cannot be read",
    "bad-duration": "a duration without a unit, or none at all",
    "bad-handler-path": "a path that is not written package.module:function",
    "bad-interpolation": "`${...}` in a form that does not exist, or where nothing is replaced",
    "bad-name": "a name that the broker refuses",
    "bad-pattern": "a wildcard inside a word of a routing key",
    "bad-schedule": "an interval without a pause",
    "bad-size": "a size without a unit, or none at all",
    "bad-source": "a generator that cannot be a source",
    "bad-url": "a broker URL that cannot be read",
    "bad-yaml": "a line that is no YAML",
    "case-only-difference": "two names that differ in case only",
    "conflicting-keys": "two keys that say one thing twice, or exclude each other",
    "dead-letter-circle": "dead-letter queues that lead back to themselves",
    "duplicate-key": "a key that stands twice in one place",
    "duplicate-name": "two objects with one name on the broker",
    "empty-file": "a file with nothing in it",
    "endless-source": "a source that never ends in a pipeline that ends when it is idle",
    "failed-import": "a module that raises while it is imported",
    "falling-delays": "delays of which a later one is shorter",
    "failures-dropped": "messages that fail are lost",
    "files-differ": "two files that declare one object differently",
    "foreign-file": "a file of another program",
    "handler-signature": "a handler that piperun cannot call",
    "idempotency-in-memory": "keys that each worker remembers for itself",
    "idempotency-without-ack": "`idempotency` with `ack: none`",
    "idle-concurrency": "more handlers than messages handed out",
    "internal-exchange": "publishing to an exchange that takes no messages from publishers",
    "lossy-overflow": "at-least-once dead-lettering on a queue that drops messages",
    "lossy-retry": "a classic queue that refuses the messages that come back to it",
    "manual-needs-async": "a plain function with `ack: manual`",
    "misplaced-key": "a key that belongs to another object",
    "missing-file": "a file that is not there",
    "missing-key": "a key that must be there",
    "missing-routing-key": "a binding or a publisher without the routing key it needs",
    "mixed-brokers": "the embedded broker in a list with others",
    "module-clash": "two modules of one name in the folders of two files",
    "native-retry": "a retry of the broker's own that this queue or broker does not have",
    "not-a-boolean": "something else where true or false must stand",
    "not-an-exception": "something else where an exception class must stand",
    "not-text": "bytes or characters that are no text",
    "out-of-range": "a value that is too small or too large",
    "plain-password": "a password in the file",
    "port-and-scheme": "a port that belongs to the other scheme",
    "queue-type": "a setting that this type of queue does not have",
    "quorum-without-dead-letter": "a quorum queue from which the broker may drop messages",
    "recursive-alias": "an alias inside its own anchor",
    "refused-argument": "an argument that this version of RabbitMQ refuses",
    "reserved-character": "a value that begins with a character of YAML's own",
    "retry-without-ack": "`retry` where a message is gone once it is delivered",
    "routing-key-ignored": "a routing key where none is looked at",
    "several-documents": "more than one YAML document in a file",
    "several-runtimes": "`runtime` in more than one file of a run",
    "shadowed-module": "a module of yours that is hidden by another one",
    "slow-handler": "a time limit beyond the broker's patience",
    "tab-indentation": "a tab where YAML wants spaces",
    "too-large": "a file beyond the limits of size, depth or number of nodes",
    "transient-queue": "a queue that RabbitMQ 4.3 refuses",
    "unclosed": "a bracket, brace or quote that is never closed",
    "unknown-alias": "an alias without its anchor",
    "unknown-argument": "an argument that RabbitMQ would ignore",
    "unknown-exception": "an exception class that Python does not have",
    "unknown-exchange": "an exchange that is not declared",
    "unknown-key": "a key that does not exist",
    "unknown-module": "a module that is not there",
    "unknown-name": "a name that is not in its module",
    "unknown-queue": "a queue that is not declared",
    "unknown-tag": "a YAML tag",
    "unknown-url-option": "an option that a broker URL does not have",
    "unknown-value": "a value that is none of those allowed",
    "unlimited-prefetch": "a prefetch of 0",
    "unquoted-variable": "`${...}` inside brackets or braces without quotes",
    "unreadable-file": "a file that cannot be read",
    "unset-variable": "a variable that is not set",
    "unsupported-version": "a version of the file format that this piperun does not read",
    "versions-differ": "two files that want different versions of the one embedded broker",
    "wrong-shape": "a list, a map or a single value where another of them must stand",
    "wrong-type": "a text where a number must stand, or the other way round",
}


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A position in a file as the user named it. Line and column count from 1; `width` is how many characters
    of that line the caret marks."""

    path: str
    line: int
    column: int
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One diagnostic. `word` names the mistake for good; `sentence` says who and what; `hint` is the way out."""

    severity: Severity
    word: str
    place: Place
    sentence: str
    hint: str | None = None
    related: Place | None = None
    excerpt: str | None = None  # the line of the file, secrets masked
    caret: tuple[int, int] | None = None  # start and width of what is marked, where masking has moved it
    frames: tuple[str, ...] = ()  # lines of the user's own code that led here, as file:line


def render(problem: Problem, *, width: int | None = None) -> str:
    """The problem as a person reads it: place, severity and sentence, then the line with a caret and the way out.

    `width` is that of a terminal: it breaks what is longer, and a caret below a broken line points anywhere."""
    return "\n".join([*_lines(problem, width), *(f"{'':8}at {frame}" for frame in problem.frames)])


def _lines(problem: Problem, width: int | None) -> list[str]:
    place = problem.place
    first = f"{place.path}:{place.line}:{place.column}: {problem.severity}[{problem.word}]: {problem.sentence}"
    if not problem.excerpt:
        return [first, f"{'':8}{problem.hint}"] if problem.hint else [first]
    start, marked = problem.caret or (place.column - 1, place.width)
    excerpt = problem.excerpt
    if width is not None:
        excerpt, start = _fitted(excerpt, start, start + marked, max(width, _NARROWEST) - _MARGIN)
    caret = " " * _columns(excerpt[:start]) + "^" * max(1, _columns(excerpt[start : start + marked]))
    hint = [problem.hint] if problem.hint else []
    if width is not None and hint and _MARGIN + _columns(f"{caret} {problem.hint}") > width:
        return [first, f"{place.line:5} | {excerpt}", f"{'':5} | {caret}", f"{'':5} | {problem.hint}"]
    return [first, f"{place.line:5} | {excerpt}", f"{'':5} | {' '.join([caret, *hint])}"]


def _fitted(excerpt: str, start: int, end: int, width: int) -> tuple[str, int]:
    """As much of a line as fits, with what is marked in it; and where that begins now."""
    if _columns(excerpt) <= width:
        return excerpt, start
    first = start
    while first > 0 and _columns(excerpt[first - 1 : end]) <= width - 2:  # one column for each "…"
        first -= 1
    last = first
    while last < len(excerpt) and _columns(excerpt[first : last + 1]) <= width - 2:
        last += 1
    shown = ("…" if first else "") + excerpt[first:last] + ("…" if last < len(excerpt) else "")
    return shown, start - first + (1 if first else 0)


def _columns(text: str) -> int:
    """How wide a terminal shows a text: East Asian characters take two columns, accents none."""
    return sum(0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1 for character in text)


def closest(wanted: str, candidates: Iterable[str], *, limit: int = 3) -> list[str]:
    """The candidates that `wanted` was probably meant to be, the best first; none where nothing is near.

    Case, hyphens and a plural's "s" are forgiven, so `prefetchCount` finds `prefetch` and `queue` finds `queues`."""
    scored = [(likeness(wanted, candidate), candidate) for candidate in candidates]
    near = sorted((pair for pair in scored if pair[0] >= _NEAR), key=lambda pair: (-pair[0], pair[1]))
    return [candidate for _, candidate in near[:limit]]


def did_you_mean(wanted: str, candidates: Iterable[str]) -> str | None:
    """`did you mean "billing"?`, or None when nothing is near."""
    near = closest(wanted, candidates)
    if not near:
        return None
    names = [f'"{name}"' for name in near]
    if len(names) == 1:
        return f"did you mean {names[0]}?"
    return f"did you mean {', '.join(names[:-1])} or {names[-1]}?"


def likeness(wanted: str, candidate: str) -> float:
    """How near two names are, from 0 to 1; 1 is the same but for case, hyphens and underscores."""
    return _likeness(_plain(wanted), _plain(candidate))


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").replace(" ", "").casefold()


def _likeness(wanted: str, candidate: str) -> float:
    if wanted == candidate:
        return 1.0
    shorter, longer = sorted((wanted, candidate), key=len)
    # Two times the shorter by both together is the most that the ratio can be; long texts would take for ever.
    if not shorter or len(longer) > _LONGEST or 2 * len(shorter) < _NEAR * (len(shorter) + len(longer)):
        return 0.9 if len(shorter) >= 4 and longer.startswith(shorter) else 0.0
    if len(shorter) >= 4 and longer.startswith(shorter):
        return 0.9
    matcher = SequenceMatcher(None, wanted, candidate, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= _NEAR else 0.0
