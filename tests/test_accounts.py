"""Every part has a user of its own, and files are handed over without following what a part may have put there."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutirao.accounts import Account, Accounts, hand_over

OURS = Accounts(2_000_000)
PARTS = ("hub", "proxy", "gate", "pages", "forwarder")


def test_no_two_parts_share_a_user_and_none_has_a_members() -> None:
    uids = [getattr(OURS, name).uid for name in PARTS]

    assert len(set(uids)) == len(PARTS)
    assert max(uids) < 2_000_000


def test_gate_and_pages_alone_share_a_group_which_is_nobodys_user() -> None:
    groups = {name: getattr(OURS, name).gid for name in PARTS}

    assert groups["gate"] == groups["pages"]
    assert groups["gate"] not in {getattr(OURS, name).uid for name in PARTS}
    assert len(set(groups.values())) == len(PARTS) - 1


def test_the_uids_never_change() -> None:
    """Files on the disks of operators carry them."""
    assert [getattr(OURS, name).uid for name in PARTS] == [1_999_998, 1_999_997, 1_999_996, 1_999_995, 1_999_994]
    assert OURS.gate
    assert OURS.gate.gid == 1_999_999


def test_without_root_there_is_but_one_user() -> None:
    assert {getattr(Accounts(2_000_000, separate=False), name) for name in PARTS} == {None}


@pytest.fixture
def folder() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


@pytest.mark.root
def test_files_of_an_older_version_go_to_the_part(folder: Path) -> None:
    (folder / "invites").mkdir()
    (folder / "invites" / "a.invite").write_text("{}")
    (folder / "cookie_secret").write_text("x")
    (folder / "cookie_secret").chmod(0o644)
    hand_over(folder, Account(70_001, 70_002))

    for path in folder.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (70_001, 70_002)
    assert (folder / "cookie_secret").stat().st_mode & 0o777 == 0o600
    assert (folder / "invites").stat().st_mode & 0o7777 == 0o700


@pytest.mark.root
def test_a_shared_store_can_be_written_by_its_group(folder: Path) -> None:
    for name in ("mutirao.sqlite", "mutirao.sqlite-wal", "mutirao.sqlite-shm"):
        (folder / name).write_text("")
    (folder / "below").mkdir()
    hand_over(folder, OURS.gate)

    assert {path.stat().st_mode & 0o7777 for path in folder.glob("mutirao*")} == {0o660}
    assert (folder / "below").stat().st_mode & 0o7777 == 0o2770
    assert {path.stat().st_gid for path in folder.rglob("*")} == {1_999_999}


@pytest.mark.root
def test_what_a_hostile_part_put_there_is_not_followed(folder: Path) -> None:
    """Links, second names of other files, pipes and devices: root must not give away what they lead to."""
    outside, inside = folder / "outside", folder / "inside"
    outside.mkdir()
    inside.mkdir()
    for name in ("shadow", "linked"):
        (outside / name).write_text("secret")
        (outside / name).chmod(0o600)
    (inside / "symlink").symlink_to(outside / "shadow")
    (inside / "folder").symlink_to(outside)
    os.link(outside / "linked", inside / "hardlink")
    os.mkfifo(inside / "pipe")
    hand_over(inside, Account(70_001, 70_001))

    for path in (outside, *outside.iterdir(), inside / "pipe"):
        assert path.lstat().st_uid == 0
    assert (outside / "shadow").stat().st_mode & 0o777 == 0o600


def test_without_accounts_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = (tmp_path / "file").stat()
    hand_over(tmp_path, None)
    assert (tmp_path / "file").stat().st_mode == before.st_mode
