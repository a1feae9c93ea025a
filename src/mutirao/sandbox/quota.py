"""Project quotas, where the file system that holds the homes has them (ext4 or XFS mounted with prjquota).

A home's project id is its member's host uid. A process in a sandbox can't change it: the kernel lets only the host's
user namespace do so. Source: quotactl(2), ioctl FS_IOC_FSSETXATTR in linux/fs.h.
"""

import ctypes
import fcntl
import os
import struct
from pathlib import Path

_PRJQUOTA = 2
_Q_GETQUOTA = 0x800007
_Q_SETQUOTA = 0x800008
_QIF_BLIMITS = 1
_QIF_ILIMITS = 4
FILES_PER_MB = 64
"""How many files a home may hold for each of its megabytes: as many as an ext4 image of that size has by default."""
_FSGETXATTR = 0x801C581F
_FSSETXATTR = 0x401C5820
_PROJINHERIT = 0x200
_XATTR = struct.Struct("=5I8s")
_DQBLK = struct.Struct("=8QI4x")

_libc = ctypes.CDLL(None, use_errno=True)


def device(place: Path, mounts: str | None = None) -> str | None:
    """The device of the file system that holds `place`, if it is mounted with project quotas."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    best: tuple[int, str | None] = (-1, None)
    for line in text.splitlines():
        source, target, kind, options, *_ = line.split()
        target = target.replace("\\040", " ")
        if place == Path(target) or Path(target) in place.parents:
            has = kind in ("ext4", "xfs") and bool({"prjquota", "pquota"} & set(options.split(",")))
            if len(target) >= best[0]:
                best = (len(target), source if has else None)
    return best[1]


def limit(place: Path, source: str, project: int, disk_mb: int) -> None:
    """Put `place` and all that is made below it under `project`, which may hold `disk_mb` at most; OSError if not."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = fcntl.ioctl(descriptor, _FSGETXATTR, bytes(_XATTR.size))
        flags, extent, extents, _, copy, pad = _XATTR.unpack(found)
        fcntl.ioctl(descriptor, _FSSETXATTR, _XATTR.pack(flags | _PROJINHERIT, extent, extents, project, copy, pad))
    finally:
        os.close(descriptor)
    blocks = disk_mb << 10
    files = disk_mb * FILES_PER_MB
    wanted = _DQBLK.pack(blocks, blocks, 0, files, files, 0, 0, 0, _QIF_BLIMITS | _QIF_ILIMITS)
    _quotactl(_Q_SETQUOTA, source, project, wanted)
    stuck = _DQBLK.unpack(_quotactl(_Q_GETQUOTA, source, project, bytes(_DQBLK.size)))
    if (stuck[0], stuck[3]) != (blocks, files):
        raise OSError(0, f"the quota of project {project} on {source} did not stick")


def _quotactl(command: int, source: str, project: int, data: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(data, len(data))
    number = ctypes.c_int((command << 8) | _PRJQUOTA)
    if _libc.quotactl(number, source.encode(), ctypes.c_int(project), buffer) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"quotactl on {source}: {os.strerror(code)}")
    return buffer.raw
