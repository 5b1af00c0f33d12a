"""How many workers died with a message in hand, in memory that all processes of a run share. The supervisor counts;
workers read, and clear what they have handled to its end. Bounded in number and in age: the message with the fewest
deaths makes room, and after an hour one is forgotten. What is done about a suspect is not known here."""

import mmap
import signal
from struct import Struct
from typing import Final

# Deaths, seconds of the supervisor's clock at the last one, and the exit status it came with; the consumer's number and
# the identity, length first, which a worker searches for. Eight bytes at an aligned place are written at once, and a
# suspect is there when it has a death: so no process needs a lock.
_HEAD: Final = Struct("qdq")
_DEATHS: Final = Struct("q")
_WHO: Final = Struct("<H128p")
SUSPECT: Final = 160  # bytes
_LONGEST_MEMORY: Final = 3600.0  # seconds


def cause(status: int) -> str:
    """Of a process's end, in words."""
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"killed by {name}" + (" (out of memory?)" if -status == signal.SIGKILL else "")


class Suspects:
    """Room for `count` of them, from `start` on."""

    def __init__(self, memory: mmap.mmap, *, start: int, count: int) -> None:
        self._memory = memory
        self._start = start
        self._end = start + count * SUSPECT
        # The supervisor's own, who alone makes entries.
        self._at: dict[tuple[int, bytes], int] = {}
        self._free = list(range(self._end - SUSPECT, start - 1, -SUSPECT))

    # The supervisor

    def count(self, consumer: int, held: bytes, *, now: float, status: int) -> int:
        """One death more. Returns how many that makes."""
        key = consumer, held
        at = self._at.get(key)
        if at is None:
            if not self._free:
                self._make_room(now)
            at = self._at[key] = self._free.pop()
            _WHO.pack_into(self._memory, at + _HEAD.size, consumer, held)
            before = 0
        else:
            before, last, _ = _HEAD.unpack_from(self._memory, at)
            if now - last > _LONGEST_MEMORY:
                before = 0
        _HEAD.pack_into(self._memory, at, before + 1, now, status)
        return int(before) + 1

    def _make_room(self, now: float) -> None:
        """Those that were cleared or are too old go; if none is, an eighth of all, with the fewest deaths first."""
        ages = {key: _HEAD.unpack_from(self._memory, at)[:2] for key, at in self._at.items()}
        gone = [key for key, (deaths, last) in ages.items() if not deaths or now - last > _LONGEST_MEMORY]
        for key in gone or sorted(ages, key=lambda key: ages[key])[: len(ages) // 8 + 1]:
            at = self._at.pop(key)
            self._free.append(at)
            _DEATHS.pack_into(self._memory, at, 0)
            _WHO.pack_into(self._memory, at + _HEAD.size, 0, b"")  # or it would be found where it no longer is

    # Workers

    def deaths(self, consumer: int, held: bytes) -> int:
        at = self._find(consumer, held)
        return 0 if at is None else int(_DEATHS.unpack_from(self._memory, at)[0])

    def last_status(self, consumer: int, held: bytes) -> int:
        at = self._find(consumer, held)
        return 0 if at is None else int(_HEAD.unpack_from(self._memory, at)[2])

    def clear(self, consumer: int, held: bytes) -> None:
        """It has been handled, and the process lives."""
        if (at := self._find(consumer, held)) is not None:
            _DEATHS.pack_into(self._memory, at, 0)

    def _find(self, consumer: int, held: bytes) -> int | None:
        who = _WHO.pack(consumer, held)[: 3 + len(held)]
        at = self._memory.find(who, self._start, self._end)
        while at >= 0 and (at - self._start) % SUSPECT != _HEAD.size:
            at = self._memory.find(who, at + 1, self._end)
        return None if at < 0 else at - _HEAD.size
