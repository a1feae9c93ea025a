"""Logs are cut while they are written, and the pieces put together are what was written, byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutirao import logs

WRITER = """
import os, sys
for number in range(60_000):
    os.write(1, b"%08d the quick brown fox jumps over the lazy dog\\n" % number)
"""


@pytest.fixture(params=["collapse", "punch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either of the two ways, whatever this file system could."""
    if request.param == "punch":
        monkeypatch.setattr(logs, "COLLAPSE_RANGE", 0x7000)
    return str(request.param)


def pieces(log: Path) -> bytes:
    """Everything, oldest first; a hole that was punched is left out."""
    numbered = sorted(log.parent.glob(f"{log.name}.*"), key=lambda piece: -int(piece.suffix[1:]))
    return b"".join(piece.read_bytes() for piece in numbered) + log.read_bytes().lstrip(b"\0")


def test_nothing_is_lost_while_a_part_writes_and_the_log_is_cut(tmp_path: Path, way: str) -> None:
    log = tmp_path / "gate.log"
    cuts = 0
    with log.open("ab") as output:
        writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=output)
    while writer.poll() is None:
        cuts += logs.rotate(log, 100_000, 99)
    assert writer.returncode == 0

    wanted = b"".join(b"%08d the quick brown fox jumps over the lazy dog\n" % number for number in range(60_000))
    assert pieces(log) == wanted
    assert cuts > 1


def test_only_so_many_pieces_are_kept(tmp_path: Path, way: str) -> None:
    log = tmp_path / "hub.log"
    for number in range(6):
        with log.open("ab") as file:
            file.write(bytes([ord("a") + number]) * 10_000)
        assert logs.rotate(log, 8_000, 2)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub.log", "hub.log.1", "hub.log.2"]
    assert (tmp_path / "hub.log.1").stat().st_mode & 0o777 == 0o600
    assert pieces(log).endswith(b"f")
    assert log.stat().st_blocks * 512 <= 16_384


def test_none_kept_means_that_the_front_goes(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    log.write_bytes(b"x" * 9_000)

    assert logs.rotate(log, 8_000, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["hub.log"]
    assert log.read_bytes().lstrip(b"\0") == b"x" * (9_000 - 8_192)


@pytest.mark.parametrize("size", [0, 1, 4_096, 8_191])
def test_a_short_log_is_left_alone(tmp_path: Path, size: int) -> None:
    log = tmp_path / "hub.log"
    log.write_bytes(b"x" * size)

    assert not logs.rotate(log, 8_192, 5)
    assert log.read_bytes() == b"x" * size


def test_a_log_that_is_not_there_or_leads_elsewhere_is_not_touched(tmp_path: Path) -> None:
    assert not logs.rotate(tmp_path / "absent.log", 1, 1)
    target = tmp_path / "target"
    target.write_bytes(b"x" * 100_000)
    (tmp_path / "evil.log").symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic links|Too many"):
        logs.rotate(tmp_path / "evil.log", 1, 1)
    assert target.stat().st_size == 100_000


def test_a_full_disk_leaves_the_log_whole(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a file system of one's own needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    try:
        log = place / "hub.log"
        log.write_bytes(b"x" * 700_000)
        with pytest.raises(OSError, match="No space"):
            logs.rotate(log, 100_000, 5)
        assert log.read_bytes() == b"x" * 700_000
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_the_tail_of_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"first\nsecond \xff\n")

    assert logs.tail(log, 2) == "first\nsecond \ufffd"
