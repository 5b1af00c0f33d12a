"""Who is dead for certain: a process of ours that is gone, and nobody whom we cannot see."""

import subprocess
import sys

import pytest

from pipeline.idempotency.owner import Owner, is_dead

HERE = Owner().of_next_claim()
NAME, PLACE, PID, BORN, CLAIM = HERE.split()


def test_no_two_claims_have_the_same_owner() -> None:
    first, second = Owner(), Owner()
    assert len({each.of_next_claim() for each in (first, first, second, second)}) == 4


def gone() -> str:
    """The number of a process that has been there."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return str(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="nobody is known to be dead elsewhere")
@pytest.mark.parametrize(
    ("pid", "born"),
    [(None, BORN), (PID, "1")],
    ids=["a process that is gone", "a process whose number another one has got"],
)
def test_who_is_dead(pid: str | None, born: str) -> None:
    assert is_dead(f"{NAME} {PLACE} {pid or gone()} {born} {CLAIM}")


@pytest.mark.parametrize(
    "owner",
    [
        HERE,
        f"{NAME} another-machine/pid:[1] 999999999 1 1",
        f"{NAME} - 999999999 1 1",
        f"{NAME} {PLACE} 1 - 1",  # there, and not to be asked
        f"{NAME} {PLACE} many 1 1",
        f"{NAME} {PLACE} {2**70} 1 1",
        "",
        "somebody",
    ],
)
def test_who_is_not_known_to_be_dead(owner: str) -> None:
    assert not is_dead(owner)
