"""Logs are cut while they are written: the front goes into a file of its own, and no byte is lost or asked of anybody.

Parts hold their log open and only ever append. So the front is copied to `NAME.log.1`, then taken out of the file by
fallocate(2): COLLAPSE_RANGE where the file system can (ext4, XFS), which moves the rest forward in one step; else
PUNCH_HOLE (btrfs, tmpfs, ZFS), which gives its blocks back and leaves zeros to be skipped. Either way the pieces put
together are what was written; a failure between the two steps leaves something twice, nothing lost.
"""

import ctypes
import errno
import os
from pathlib import Path

BLOCK = 4096
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE = 0x01, 0x02, 0x08
_CHUNK = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def rotate(log: Path, max_bytes: int, keep: int) -> bool:
    """Cut the log where it holds `max_bytes` or more, and let the oldest piece go; whether it was cut."""
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        first = _first_byte(descriptor, size)
        cut = size // BLOCK * BLOCK
        if cut - first < max_bytes:
            return False
        if keep:
            _shift(log, keep)
            _copy(descriptor, first, cut, _piece(log, 1))
        _take_out(descriptor, cut)
        return True
    finally:
        os.close(descriptor)


def tail(log: Path, lines: int, max_bytes: int = 65_536) -> str:
    """The log's last lines, however long it is."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
        text = file.read().lstrip(b"\0").decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def _piece(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _shift(log: Path, keep: int) -> None:
    """Make room for piece 1."""
    _piece(log, keep).unlink(missing_ok=True)
    for number in range(keep - 1, 0, -1):
        if _piece(log, number).exists():
            _piece(log, number).rename(_piece(log, number + 1))


def _first_byte(descriptor: int, size: int) -> int:
    """Where the log begins: behind the hole that an earlier cut left."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA) if size else 0
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


def _copy(descriptor: int, first: int, end: int, piece: Path) -> None:
    fresh = piece.with_name(f"{piece.name}.new")
    with fresh.open("wb") as file:
        fresh.chmod(0o600)
        while first < end:
            chunk = os.pread(descriptor, min(_CHUNK, end - first), first)
            file.write(chunk)
            first += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(piece)


def _take_out(descriptor: int, length: int) -> None:
    try:
        _fallocate(descriptor, COLLAPSE_RANGE, length)
    except OSError as error:
        # EINVAL also where the range reaches the file's end: nothing was written since, so there is nothing to lose.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        _fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, length)


def _fallocate(descriptor: int, mode: int, length: int) -> None:
    done = _libc.fallocate(descriptor, mode, ctypes.c_int64(0), ctypes.c_int64(length))
    if done:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
