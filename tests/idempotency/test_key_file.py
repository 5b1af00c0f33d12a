"""The file of keys: leases, what is forgotten, several processes at once, and every way in which it cannot be used. A
message is held meanwhile, so each sentence has a way out."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pipeline.clock import FakeClock
from pipeline.errors import StoreError
from pipeline.idempotency import Claim, Found
from pipeline.idempotency.file import KeyFile

WINDOW, LEASE = 3_600.0, 30.0

Open = Callable[[], KeyFile]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.sqlite"


@pytest.fixture
def a_file(path: Path, clock: FakeClock) -> Iterator[Open]:
    """Makes one that is closed with the test; several of them are as many processes."""
    with ExitStack() as stack:

        def make() -> KeyFile:
            return stack.enter_context(closing(KeyFile(path, scope="s", window=WINDOW, lease=LEASE, clock=clock)))

        yield make


def order(number: int, owner: str = "me") -> Claim:
    return Claim(key=f"order {number}", owner=owner)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        found: int = database.execute("SELECT count(*) FROM keys").fetchone()[0]
        return found


def test_the_claim_of_a_dead_process_is_taken_over_when_its_lease_is_over(a_file: Open, clock: FakeClock) -> None:
    dead, other = a_file(), a_file()
    lost, taken = order(1, "dead"), order(1, "other")
    # Given a claim that is renewed for a while, and then not any more
    assert dead.begin(lost) is lost
    clock.advance(LEASE - 1)
    dead.look_after()
    clock.advance(LEASE - 1)
    assert other.begin(taken) is Found.IN_HAND
    # When its lease is over, then another one gets the key
    clock.advance(1)
    assert other.begin(taken) is taken
    # And if the first was not dead after all, what it gives back is not its own any more, and done is done
    dead.look_after()
    dead.release(lost)
    assert dead.begin(lost) is Found.IN_HAND
    dead.finish(lost)
    other.release(taken)
    assert other.begin(taken) is Found.DONE


DEAD = """
import os, sys
from pathlib import Path
from pipeline.clock import FakeClock
from pipeline.idempotency import Claim
from pipeline.idempotency.file import KeyFile
from pipeline.idempotency.owner import Owner

file = KeyFile(Path(sys.argv[1]), scope="s", window=3600.0, lease=30.0, clock=FakeClock())
claim = Claim(key="order 1", owner=Owner().of_next_claim())
assert file.begin(claim) is claim
print("begun", flush=True)
sys.stdin.read()
os._exit(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only its lease tells")
def test_the_claim_of_a_process_that_is_seen_to_be_dead_is_taken_over_at_once(a_file: Open, path: Path) -> None:
    file = a_file()
    with subprocess.Popen(
        [sys.executable, "-c", DEAD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "begun\n"
        assert file.begin(order(1)) is Found.IN_HAND
        other.stdin.close()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and not buried yet
        assert file.begin(order(1)) == order(1)


def test_what_is_left_is_one_file_that_nobody_else_may_read(a_file: Open, path: Path) -> None:
    file = a_file()
    file.finish(order(1))
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    file.close()
    assert [each.name for each in path.parent.iterdir()] == ["keys.sqlite"]


@pytest.mark.parametrize("by", ["claims", "looking after"])
def test_a_file_does_not_grow_with_keys_that_are_forgotten(a_file: Open, path: Path, clock: FakeClock, by: str) -> None:
    file = a_file()
    for number in range(300):
        file.finish(order(number))
    clock.advance(WINDOW)
    if by == "looking after":
        file.look_after()
        assert rows(path) == 0
    for number in range(1_000, 1_300):
        file.finish(file.begin(order(number)))  # type: ignore[arg-type]
    assert rows(path) == 300


MANY = """
import sys
from pathlib import Path
from pipeline.clock import SystemClock
from pipeline.errors import StoreError
from pipeline.idempotency import Claim
from pipeline.idempotency.file import KeyFile

file = KeyFile(Path(sys.argv[1]), scope="s", window=60.0, lease=30.0, clock=SystemClock())
for _ in range(100):
    try:
        file.open()
        break
    except StoreError as error:
        assert error.busy, error
for number in range(200):
    claim = Claim(key=str(number), owner=sys.argv[2])
    if file.begin(claim) is claim:
        print(number)
        file.finish(claim)
file.close()
"""


def test_processes_that_begin_together_claim_each_key_once(path: Path) -> None:
    # Given a file that is not there, when three processes make it and work on the same keys
    running = [
        subprocess.Popen([sys.executable, "-c", MANY, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    said = [each.communicate(timeout=60)[0].split() for each in running]
    # Then each key was claimed by one of them
    assert [each.returncode for each in running] == [0] * 3
    assert sorted(int(number) for numbers in said for number in numbers) == list(range(200))


# A file that cannot be used


def not_a_database(path: Path) -> None:
    path.write_bytes(b"these are my notes, and no database" * 100)


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE orders (id)")


def of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA application_id = {0x70697065}")
        database.execute("PRAGMA user_version = 2")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


MOVE_IT = "move it away, which forgets the keys in it, or give `idempotency` another `path`"
STRANGE = "it is the database of another program, or of another version of piperun"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (not_a_database, "file is not a database"),
        (of_another_program, STRANGE),
        (of_another_version, STRANGE),
        (a_folder, "it is not a regular file"),
        (a_link, "it is not a regular file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_is_no_store_is_left_alone(
    a_file: Open, path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError) as told:
        a_file().open()
    assert str(told.value) == f'the idempotency store "{path}" cannot be used: {why}; {MOVE_IT}'
    assert not told.value.busy
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(a_file: Open, path: Path) -> None:
    path.parent.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied; give `path` of `idempotency` a place that can be written"):
        a_file().open()


def test_a_file_in_the_place_of_a_folder(a_file: Open, path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(StoreError, match="give `path` of `idempotency` a place that can be written"):
        a_file().open()


def test_a_file_that_another_program_holds_is_used_as_soon_as_it_is_free(a_file: Open, path: Path) -> None:
    file = a_file()
    file.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="database is locked; it is tried again") as told:
            file.begin(order(1))
        assert told.value.busy
    assert file.begin(order(1)) == order(1)


def test_a_file_that_is_damaged_while_it_is_used_says_so_until_it_is_moved_away(a_file: Open, path: Path) -> None:
    file = a_file()
    file.finish(order(1))
    for each in path.parent.iterdir():
        each.write_bytes(b"nonsense" * 1_000)
    with pytest.raises(StoreError):
        file.begin(order(2))
    with pytest.raises(StoreError, match="move it away, which forgets the keys in it"):
        file.begin(order(2))
    for each in list(path.parent.iterdir()):
        each.rename(each.with_name(f"old.{each.name}"))
    assert file.begin(order(2)) == order(2)
    assert a_file().begin(order(2)) is Found.IN_HAND


def test_a_file_that_was_moved_away_is_made_again(a_file: Open, path: Path) -> None:
    file = a_file()
    file.finish(order(1))
    path.rename(path.with_name("old.sqlite"))
    file.look_after()
    assert file.begin(order(1)) == order(1)
    assert a_file().begin(order(1)) is Found.IN_HAND


def test_a_disk_that_is_full_is_told_and_tried_again(a_file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a file that may not grow, as on a full disk
    file = a_file()
    file.open()
    assert file._database is not None
    file._database.execute("PRAGMA max_page_count = 1")
    # When more keys come than it has room for, then that is told, with the claims that it could not keep not held
    with pytest.raises(StoreError, match="database or disk is full; it is tried again") as told:
        for number in range(1_000):
            file.begin(order(number))
    assert not told.value.busy
    # And as soon as there is room it goes on
    assert file.begin(order(2_000)) == order(2_000)
