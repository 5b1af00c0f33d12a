"""The file of keys, as an SQLite database: its table, its statements, and what is told when it cannot be used. Used by
one thread; other processes use it at the same time. Which thread, and when a lease is renewed, is not known here."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pipeline.clock import Clock
from pipeline.errors import StoreError
from pipeline.idempotency.owner import is_dead
from pipeline.idempotency.store import Claim, Found

_OURS: Final = 0x70697065  # `application_id` of the file, "pipe"
_VERSION: Final = 1
_PATIENCE: Final = 1.0  # seconds that a statement waits for another process; all of ours take milliseconds
_MOST_FORGOTTEN: Final = 1_000  # rows at a time: others wait meanwhile
_FORGET_EVERY: Final = 250  # claims; fewer than what is forgotten at a time, so that the file stops growing

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS keys (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    owner TEXT,          -- NULL: done
    until REAL NOT NULL, -- seconds since 1970: the end of the lease, or of the window
    UNIQUE (scope, key)
)"""
_INDEX: Final = "CREATE INDEX IF NOT EXISTS keys_until ON keys (until)"
# One statement, so that of all who ask at the same time one has changed a row.
_BEGIN: Final = """
INSERT INTO keys (scope, key, owner, until) VALUES (?, ?, ?, ?)
ON CONFLICT (scope, key) DO UPDATE SET owner = excluded.owner, until = excluded.until WHERE keys.until <= ?"""
_OWNER: Final = "SELECT owner FROM keys WHERE scope = ? AND key = ?"
_TAKE_OVER: Final = "UPDATE keys SET owner = ?, until = ? WHERE scope = ? AND key = ? AND owner = ?"
_FINISH: Final = """
INSERT INTO keys (scope, key, owner, until) VALUES (?, ?, NULL, ?)
ON CONFLICT (scope, key) DO UPDATE SET owner = NULL, until = excluded.until"""
_RELEASE: Final = "DELETE FROM keys WHERE scope = ? AND key = ? AND owner = ?"
_RENEW: Final = "UPDATE keys SET until = ? WHERE scope = ? AND key = ? AND owner = ?"
_FORGET: Final = "DELETE FROM keys WHERE rowid IN (SELECT rowid FROM keys WHERE until <= ? LIMIT ?)"


class KeyFile:
    """Opened again by the next call after an error, so that a file that was moved away or repaired is used at once."""

    def __init__(self, path: Path, *, scope: str, window: float, lease: float, clock: Clock) -> None:
        self._path = path
        self._scope = scope
        self._window = window
        self._lease = lease
        self._clock = clock
        self._database: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._held: set[Claim] = set()
        self._begun = 0

    def open(self) -> None:
        """Raises `StoreError`, as all others do that say nothing else."""
        with self._telling():
            self._opened()

    def begin(self, claim: Claim) -> Claim | Found:
        with self._telling():
            database, now = self._opened(), self._clock.time()
            self._begun += 1
            if self._begun % _FORGET_EVERY == 0:
                database.execute(_FORGET, (now, _MOST_FORGOTTEN))
            values = (self._scope, claim.key, claim.owner, now + self._lease, now)
            if database.execute(_BEGIN, values).rowcount == 1:
                self._held.add(claim)
                return claim
            row = database.execute(_OWNER, (self._scope, claim.key)).fetchone()
            if row == (None,):
                return Found.DONE
            if row is not None and is_dead(row[0]):
                taken = (claim.owner, now + self._lease, self._scope, claim.key, row[0])
                if database.execute(_TAKE_OVER, taken).rowcount == 1:
                    self._held.add(claim)
                    return claim
            return Found.IN_HAND  # or just released, and free when it is asked for again

    def finish(self, claim: Claim) -> None:
        with self._telling():
            values = (self._scope, claim.key, self._clock.time() + self._window)
            self._opened().execute(_FINISH, values)
            self._held.discard(claim)

    def release(self, claim: Claim) -> None:
        """Raises nothing: what cannot be deleted is not renewed any more."""
        if claim in self._held:
            self._held.discard(claim)
            with suppress(StoreError), self._telling():
                self._opened().execute(_RELEASE, (self._scope, claim.key, claim.owner))

    def look_after(self) -> None:
        """Renew the leases, forget what is over, and see whether the file is still there. Raises nothing: whoever
        needs the file next hears of it."""
        with suppress(StoreError), self._telling():
            if self._database is not None and self._inode != _inode(self._path):
                self._drop()  # it was moved away: we would write on into a file that nobody else sees
            database, now = self._opened(), self._clock.time()
            if self._held:
                with _transaction(database):
                    renewed = [(now + self._lease, self._scope, each.key, each.owner) for each in self._held]
                    database.executemany(_RENEW, renewed)
            database.execute(_FORGET, (now, _MOST_FORGOTTEN))

    def close(self) -> None:
        """Raises nothing. The last process that closes it leaves one file, without journals beside it."""
        self._drop()

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            _make(self._path)
            database = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
            try:
                _set_up(database)
            except BaseException:
                database.close()
                raise
            self._database, self._inode = database, _inode(self._path)
        return self._database

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What went wrong, as a sentence with a way out."""
        try:
            yield
        except (sqlite3.Error, OSError, _Foreign) as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy:
                self._drop()
            why, way = _explained(error)
            sentence = f'the idempotency store "{self._path}" cannot be used: {why}; {way}'
            raise StoreError(sentence, busy=busy) from None


class _Foreign(Exception):
    """The file is somebody else's."""


def _make(path: Path) -> None:
    """Nobody but its owner may read it; SQLite gives the files beside it the same rights.

    A file that is there is not opened: closing it again would end the locks that another connection of this process
    has on it (POSIX, close: all locks of the process on that file)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise _Foreign("it is not a regular file")


def _set_up(database: sqlite3.Connection) -> None:
    """Readers and writers do not wait for each other, and a commit does not wait for the disk: after a loss of power
    the last keys may be missing, which is a duplicate and no loss."""
    known = (_OURS, _VERSION)
    if _identity(database) != known and _is_strange(database):
        raise _Foreign("it is the database of another program, or of another version of piperun")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    if _identity(database) != known:
        with _transaction(database):
            database.execute(_TABLE)
            database.execute(_INDEX)
            database.execute(f"PRAGMA application_id = {_OURS}")
            database.execute(f"PRAGMA user_version = {_VERSION}")


def _identity(database: sqlite3.Connection) -> tuple[int, int]:
    numbers = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    return numbers[0], numbers[1]


def _is_strange(database: sqlite3.Connection) -> bool:
    """Whether there is something in it. Another process of ours may have made its tables just now."""
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return _identity(database) not in ((_OURS, _VERSION), (0, 0)) or (_identity(database) == (0, 0) and tables > 0)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # after some errors SQLite has rolled back by itself
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _inode(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_ino
    return None


def _explained(error: Exception) -> tuple[str, str]:
    """Why, and what to do about it."""
    match error:
        case OSError():
            return error.strerror or str(error), "give `path` of `idempotency` a place that can be written"
        case sqlite3.OperationalError() if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_MACHINE:
            return str(error), "it is tried again"
        case _:
            return str(error), "move it away, which forgets the keys in it, or give `idempotency` another `path`"


_OF_THE_MACHINE: Final = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
