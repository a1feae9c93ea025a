"""A runtime's directory on the host: a small file system in memory that holds its /etc, its log and what it is shown.

Everything in it goes when it is unmounted, and a server that prints without end fills nothing else.
"""

import contextlib
import os
import unicodedata
from pathlib import Path

from mutirao.sandbox import homes, syscalls

LOG_MB = 2
_HARMLESS = syscalls.MS_NOSUID | syscalls.MS_NODEV


def make(place: Path) -> None:
    """Make the directory; others than root may pass through it, not list it."""
    place.mkdir()
    syscalls.mount("mutirao", str(place), "tmpfs", _HARMLESS, f"size={LOG_MB + 2}m,mode=711")


def show(source: Path, target: Path) -> None:
    """Bind `source` read-only where the member's uid can look it up, whatever guards the directories above it."""
    target.mkdir() if source.is_dir() else target.touch()
    syscalls.mount(str(source), str(target), flags=syscalls.MS_BIND)
    flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | _HARMLESS
    syscalls.mount("none", str(target), flags=flags)


def remove(place: Path) -> None:
    """Unmount what is in the directory and the directory itself; a missing one is fine."""
    for point in sorted((p for p in homes.mount_points() if p.startswith(f"{place}/")), reverse=True):
        with contextlib.suppress(OSError):
            syscalls.unmount(point, syscalls.MNT_DETACH)
    homes.unmount(place)


def log_end(place: Path, size: int) -> bytes:
    """The last `size` bytes that the server printed; empty when the directory is gone."""
    with contextlib.suppress(OSError), (place / "log").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read()
    return b""


def trim_log(place: Path) -> None:
    """Keep the log's end once it is half full; the server appends, so the file can be emptied under it."""
    path = place / "log"
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_MB << 19:
            end = log_end(place, 65536)
            os.truncate(path, 0)
            with path.open("ab") as file:
                file.write(end)


def readable(printed: bytes) -> str:
    """What a server printed as text that drives no terminal and turns no line around, for logs, errors and pages."""
    text = printed.decode(errors="replace")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
