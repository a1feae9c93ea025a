"""A home's image copied without its holes, while nobody can write into it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
"""From linux/fs.h."""


def extents(descriptor: int) -> list[tuple[int, int]]:
    """Where the file holds data: (offset, length) pairs, in order."""
    size = os.fstat(descriptor).st_size
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, at - start))
    return found


def mounted_at(image: Path) -> str | None:
    """Where the image is mounted through a loop device, None where it is not."""
    mounts = dict(line.split()[:2] for line in Path("/proc/self/mounts").read_text().splitlines())
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().rstrip("\n") == str(image):
                point = mounts.get(f"/dev/{backing.parents[1].name}")
                if point:
                    return point.replace("\\040", " ")
    return None


@contextlib.contextmanager
def still(image: Path) -> Iterator[None]:
    """Hold writes to the image's file system back, if it is mounted; they go on at the end, however we end.

    A child freezes it and thaws it when our end of a pipe closes, which the kernel does even when we are killed.
    """
    point = mounted_at(image)
    if point is None:
        yield
        return
    ready_in, ready_out = os.pipe2(os.O_CLOEXEC)
    end_in, end_out = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _freeze(point, ready_out, end_in, (ready_in, end_out))
    os.close(ready_out)
    os.close(end_in)
    try:
        answer = os.read(ready_in, 1)
        if answer != b"y":
            raise OSError(errno.EIO, f"{point} can't be held still for a copy")
        yield
    finally:
        os.close(ready_in)
        os.close(end_out)
        os.waitpid(child, 0)


def _freeze(point: str, ready: int, end: int, others: tuple[int, int]) -> None:
    """The child: never returns."""
    status = 1
    try:
        for descriptor in others:
            os.close(descriptor)
        os.setsid()
        place = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(place, FIFREEZE, 0)
        try:
            os.write(ready, b"y")
            os.read(end, 1)
        finally:
            fcntl.ioctl(place, FITHAW, 0)
        status = 0
    finally:
        os._exit(status)
