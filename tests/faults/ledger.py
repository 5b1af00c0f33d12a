"""The books of a fault test. Messages are numbered; each place where one is seen afterwards is written down, and at the
end handled, dead-lettered and still queued together are what was confirmed. A number that is seen twice needs a window
that the test has opened by name. Pure: where the sights come from, and which fault it was, is not known here."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Where = Literal["handled", "dead-lettered", "queued"]
_SHOWN = 12


class Window(Enum):
    """What a second sight of one number may come from; docs/reliability.md, "Where duplicates come from"."""

    SENT_AGAIN = "a confirm was lost, and the message was sent again"
    NOT_ACKED = "it was handled, and its acknowledgement did not reach the broker"
    COPIED = "a copy was confirmed, and the original was not acknowledged"


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One message that was seen at one place. `redelivered` is the broker's flag."""

    number: int
    where: Where
    redelivered: bool = False


@dataclass(frozen=True, kw_only=True)
class Books:
    """What a test knows at its end. `offered` are the numbers that somebody tried to send, `confirmed` those of them
    that the broker has taken for certain; what is in between may have arrived."""

    confirmed: Collection[int]
    offered: Collection[int]
    sights: Collection[Sight]
    windows: Collection[Window] = ()

    def must_add_up(self, last_line: str | None = None) -> None:
        """Raises `AssertionError` with everything that does not; `last_line` is that of a run that saw all of it."""
        wrong = self.discrepancies()
        if last_line is not None:
            wrong += discrepancies_of(last_line, self.sights)
        assert not wrong, "\n  ".join(["the ledger does not add up:", *wrong, str(self), last_line or ""])

    def discrepancies(self) -> list[str]:
        """Each in a sentence; empty if all is well."""
        seen = {sight.number for sight in self.sights}
        wrong = []
        if lost := set(self.confirmed) - seen:
            wrong.append(f"{_numbers(lost)}: confirmed, and found nowhere")
        if strange := seen - set(self.offered):
            wrong.append(f"{_numbers(strange)}: found, and sent by nobody")
        unexplained: defaultdict[str, set[int]] = defaultdict(set)
        for number, sights in self._by_number().items():
            for explanations in _explanations(sights):
                if explanations.isdisjoint(self.windows):
                    unexplained[" or ".join(sorted(window.value for window in explanations))].add(number)
        wrong += [
            f"{_numbers(numbers)}: more than once, which would need: {need}" for need, numbers in unexplained.items()
        ]
        return wrong

    def __str__(self) -> str:
        places = Counter(sight.where for sight in self.sights)
        found = ", ".join(f"{places[where]} {where}" for where in ("handled", "dead-lettered", "queued"))
        twice = sum(len(sights) > 1 for sights in self._by_number().values())
        confirmed = len(set(self.confirmed))
        return f"{len(set(self.offered))} offered, {confirmed} confirmed; {found}; {twice} more than once"

    def _by_number(self) -> Mapping[int, list[Sight]]:
        by_number: defaultdict[int, list[Sight]] = defaultdict(list)
        for sight in self.sights:
            by_number[sight.number].append(sight)
        return by_number


def _explanations(sights: list[Sight]) -> list[frozenset[Window]]:
    """For each way in which one number was seen too often: the windows of which one must be open. Two entries that the
    broker has not handed out before are two messages; one that comes again is the same message."""
    needed = []
    copies = [sight for sight in sights if sight.where == "dead-lettered"]
    others = [sight for sight in sights if sight.where != "dead-lettered"]
    fresh = sum(not sight.redelivered for sight in others)
    if len(copies) > 1:  # the dead-lettered message may have been two
        needed.append(frozenset({Window.COPIED, Window.SENT_AGAIN}))
    if copies and others:
        needed.append(frozenset({Window.COPIED, Window.SENT_AGAIN}))
    if fresh > 1:  # a copy in a wait queue comes back as a message of its own
        needed.append(frozenset({Window.SENT_AGAIN, Window.COPIED}))
    if len(others) > max(fresh, 1):
        needed.append(frozenset({Window.NOT_ACKED}))
    return needed


def discrepancies_of(last_line: str, sights: Iterable[Sight]) -> list[str]:
    """What a run says at its end, against itself and against what was found: the sum comes out, nothing is DROPPED, and
    nothing is reported as sent, done or dead-lettered that was not."""
    said = terms(last_line)
    found = list(sights)
    places = Counter(sight.where for sight in found)
    wrong = []
    ends = sum(count for word, count in said.items() if word not in _NO_ENDS)
    if said.get("delivered", 0) != ends:
        wrong.append(f"{said.get('delivered', 0)} delivered, and {ends} ends")
    if "DROPPED" in said:
        wrong.append(f"{said['DROPPED']} DROPPED")
    for word, seen, where in (
        ("sent and confirmed", len({sight.number for sight in found}), "numbers were found"),
        ("done", places["handled"], "were handled"),
        ("dead-lettered", places["dead-lettered"], "are in the dead-letter queue"),
    ):
        if said.get(word, 0) > seen:
            wrong.append(f"{said[word]} {word}, and {seen} {where}")
    return wrong


_NO_ENDS = frozenset(("sent and confirmed", "NOT sent", "without an answer", "delivered"))


def terms(last_line: str) -> dict[str, int]:
    """The numbers in the last line of a run, by their words."""
    numbers = re.sub(r".* ended after [^:]*: ", "", last_line)
    return {word: int(number) for number, word in re.findall(r"(\d+) (\w[\w -]*)", numbers)}


def _numbers(numbers: Collection[int]) -> str:
    first = ", ".join(map(str, sorted(numbers)[:_SHOWN]))
    return first if len(numbers) <= _SHOWN else f"{first} and {len(numbers) - _SHOWN} more"
