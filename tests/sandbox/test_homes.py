"""Homes as images: made, grown, refused; and where project quotas are seen."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import quota
from mutirao.sandbox.homes import Homes, mount_points
from mutirao.sandbox.spec import slug

UID = 340_000


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    found = Homes(tmp_path / "data", tmp_path / "mounts")
    found.prepare()
    yield found
    for name in found.mounted():
        found.close_slug(name)


def options(place: Path) -> set[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[1] == str(place):
            return set(fields[3].split(","))
    raise AssertionError(f"{place} is not mounted")


@pytest.mark.root
def test_an_image_is_its_members_and_gives_no_way_out(homes: Homes) -> None:
    place = homes.open("ada", UID, 20)
    assert {"nosuid", "nodev"} <= options(place)
    assert (place.stat().st_uid, place.stat().st_gid, oct(place.stat().st_mode & 0o777)) == (UID, UID, "0o700")
    assert list(place.iterdir()) == []


@pytest.mark.root
def test_only_root_reads_images_and_they_are_sparse(homes: Homes, tmp_path: Path) -> None:
    homes.open("ada", UID, 200)
    image = tmp_path / "data" / "homes" / f"{slug('ada')}.img"
    assert image.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data" / "homes").stat().st_mode & 0o777 == 0o700
    assert image.stat().st_size == 200 << 20
    assert image.stat().st_blocks * 512 < 20 << 20


@pytest.mark.root
def test_opening_twice_mounts_once_and_closing_twice_is_fine(homes: Homes) -> None:
    assert homes.open("ada", UID, 20) == homes.open("ada", UID, 20)
    assert sum(1 for line in Path("/proc/self/mounts").read_text().splitlines() if slug("ada") in line) == 1
    homes.close("ada")
    homes.close("ada")
    assert not [point for point in mount_points() if slug("ada") in point]


@pytest.mark.root
def test_a_home_in_use_grows_the_next_time(homes: Homes, tmp_path: Path) -> None:
    place = homes.open("ada", UID, 20)
    homes.open("ada", UID, 60)
    assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize < 21 << 20
    homes.close("ada")
    homes.open("ada", UID, 60)
    assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize > 50 << 20
    homes.close("ada")
    homes.open("ada", UID, 20)
    assert (tmp_path / "data" / "homes" / f"{slug('ada')}.img").stat().st_size == 60 << 20, "it never shrinks"


@pytest.mark.root
def test_files_survive_a_machine_that_went_down(homes: Homes, tmp_path: Path) -> None:
    """The image is copied while it is mounted, as a crash would leave it: its journal is replayed."""
    place = homes.open("ada", UID, 20)
    (place / "kept").write_text("x" * 10000)
    os.sync()
    image = tmp_path / "data" / "homes" / f"{slug('ada')}.img"
    crashed = image.read_bytes()
    homes.close("ada")
    image.write_bytes(crashed)
    assert (homes.open("ada", UID, 20) / "kept").read_text() == "x" * 10000


@pytest.mark.root
def test_an_image_that_is_no_file_system_is_named(homes: Homes, tmp_path: Path) -> None:
    image = tmp_path / "data" / "homes" / f"{slug('ada')}.img"
    image.write_bytes(b"\0" * (20 << 20))
    with pytest.raises(SandboxError, match=r"\.img"):
        homes.open("ada", UID, 20)
    assert not [point for point in mount_points() if slug("ada") in point]


@pytest.mark.root
def test_a_home_that_cant_be_made_says_so_and_leaves_no_draft(homes: Homes, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"of 0 MB can't be made: mkfs\.ext4 says: .* Is the disk full\?"):
        homes.open("ada", UID, 0)
    assert list((tmp_path / "data" / "homes").iterdir()) == []


@pytest.mark.root
def test_a_mkfs_that_meets_a_full_disk_says_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "small", str(small)], check=True)
    try:
        homes = Homes(small, tmp_path / "mounts")
        homes.prepare()
        (small / "filler").write_bytes(b"x" * (40 << 20))
        with pytest.raises(SandboxError, match=r"is full \(\d+ MB free"):
            homes.open("ada", UID, 20)
        assert list((small / "homes").iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize(
    ("mounts", "place", "device"),
    [
        ("/dev/a / ext4 rw 0 0\n/dev/b /data ext4 rw,prjquota 0 0\n", "/data/homes", "/dev/b"),
        ("/dev/a / ext4 rw,prjquota 0 0\n/dev/b /data ext4 rw 0 0\n", "/data/homes", None),
        ("/dev/a / xfs rw,prjquota 0 0\n", "/data", "/dev/a"),
        ("/dev/a / xfs rw,usrquota 0 0\n", "/data", None),
        ("/dev/a / btrfs rw,prjquota 0 0\n", "/data", None),
        ("/dev/a / ext4 rw 0 0\n/dev/b /da ext4 rw,prjquota 0 0\n", "/data", None),
        ("/dev/b /data ext4 rw,prjquota 0 0\ntmpfs /data tmpfs rw 0 0\n", "/data/homes", None),
        ("", "/data", None),
    ],
)
def test_project_quotas_are_seen_where_they_are(mounts: str, place: str, device: str | None) -> None:
    assert quota.device(Path(place), mounts) == device


@pytest.mark.root
def test_a_file_system_that_only_claims_quotas_is_served_by_images(
    homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount says prjquota and the kernel refuses: nobody is left without a limit."""
    monkeypatch.setattr(quota, "device", lambda _: "/dev/none")
    place = homes.open("ada", UID, 20)
    assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize <= 20 << 20
