"""A uid is given once and for ever, whatever happens to the register."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox.uids import Uids


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "uids.jsonl"


def test_members_keep_their_uids(path: Path) -> None:
    uids = Uids(path, 200_000, 10)
    assert [uids.of(name) for name in ("ada", "bob", "ada", "", "a\nb", "\ud800")] == [
        200_000, 200_001, 200_000, 200_002, 200_003, 200_004,
    ]  # fmt: skip
    again = Uids(path, 200_000, 10)
    assert again.of("\ud800") == 200_004
    assert again.of("cal") == 200_005
    assert again.all()["a\nb"] == 200_003


def test_only_root_reads_the_register(path: Path) -> None:
    Uids(path, 200_000, 10).of("ada")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_last_uid_of_the_range_is_given_and_then_no_more(path: Path) -> None:
    uids = Uids(path, 200_000, 2)
    assert (uids.of("a"), uids.of("b")) == (200_000, 200_001)
    with pytest.raises(SandboxError, match=r"all 2 of 200000-200001 are given\. Raise sandbox\.uid_count"):
        uids.of("c")
    assert uids.of("a") == 200_000


def test_a_wider_range_goes_on_where_the_narrow_one_ended(path: Path) -> None:
    Uids(path, 200_000, 1).of("a")
    assert Uids(path, 200_000, 5).of("b") == 200_001


def test_a_range_moved_down_never_meets_uids_that_were_given(path: Path) -> None:
    Uids(path, 200_000, 5).of("a")
    with pytest.raises(SandboxError, match="no host uid is left"):
        Uids(path, 100_000, 5).of("b")


@pytest.mark.parametrize(
    "torn", [b'{"uid": 200001, "mem', b"{", b"\0\0\0\0", b"\xff\xfe\n", b'{"uid": 200001, "member": "bob"}']
)
def test_a_torn_last_line_costs_one_uid_and_nobody_their_own(path: Path, torn: bytes) -> None:
    """Power failed while the line was written: it may have been handed out, so its uid is burnt."""
    Uids(path, 200_000, 10).of("ada")
    with path.open("ab") as file:
        file.write(torn)
    uids = Uids(path, 200_000, 10)
    assert uids.of("ada") == 200_000
    assert uids.of("cal") == 200_002
    assert uids.of("dan") == 200_003
    assert Uids(path, 200_000, 10).all() == {"ada": 200_000, "cal": 200_002, "dan": 200_003}


@pytest.mark.parametrize(
    "line", [b"garbage", b"", b"[]", b'{"uid": "1", "member": "x"}', b'{"uid": 1, "member": 5}', b'{"member": "x"}', b'{"uid": true, "member": "x"}']
)  # fmt: skip
def test_damage_in_the_middle_is_an_error_that_names_the_line(path: Path, line: bytes) -> None:
    path.parent.mkdir()
    sound = json.dumps({"uid": 200_000, "member": "ada"}).encode()
    path.write_bytes(sound + b"\n" + line + b"\n" + sound.replace(b"200000", b"200001").replace(b"ada", b"bob") + b"\n")
    with pytest.raises(SandboxError, match=r"uids\.jsonl line 2 is damaged: .*Restore the file from a backup"):
        Uids(path, 200_000, 10).of("cal")


def test_threads_and_processes_share_the_register(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mutirao.sandbox.uids import Uids\n"
        "u = Uids(Path(sys.argv[1]), 200_000, 1000)\n"
        "for n in range(30): u.of(f'{sys.argv[2]}-{n}')"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], env={"PYTHONPATH": "src"}) for name in "xy"
    ]
    uids = Uids(path, 200_000, 1000)
    threads = [threading.Thread(target=lambda m=m: [uids.of(f"{m}-{n}") for n in range(30)]) for m in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    given = uids.all()
    assert len(given) == 120
    assert sorted(given.values()) == list(range(200_000, 200_120))


@pytest.mark.parametrize(("first", "count"), [(0, 10), (999, 10), (200_000, 0), (-5, 3)])
def test_a_range_that_holds_system_users_is_refused(path: Path, first: int, count: int) -> None:
    with pytest.raises(SandboxError, match=f"uid range {first} \\+ {count}"):
        Uids(path, first, count)
