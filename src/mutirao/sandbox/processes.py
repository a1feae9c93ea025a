"""Processes as /proc shows them; one is known by pid **and** start time, so that a reused pid is harmless."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stat:
    """The parts of /proc/PID/stat that matter here; `start_time` in clock ticks since boot (see proc(5))."""

    state: str
    parent: int
    start_time: int


def stat(pid: int) -> Stat | None:
    """The process's state, or None if there is none; pid 0 and below never name a process."""
    if pid <= 0:
        return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return Stat(fields[0], int(fields[1]), int(fields[19]))


def alive(pid: int, start_time: int) -> bool:
    """True while that very process runs; a zombie has ended."""
    found = stat(pid)
    return found is not None and found.start_time == start_time and found.state not in "ZX"


def kill(pid: int, start_time: int, signum: signal.Signals) -> bool:
    """Send a signal to that very process, through a pidfd so that nobody else can get it; False if it has ended."""
    if pid <= 0:
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(pid, start_time):
            return False
        signal.pidfd_send_signal(descriptor, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def children(pid: int) -> tuple[int, ...]:
    """The direct children of a process, oldest first."""
    try:
        return tuple(int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return ()


def namespace(pid: int, kind: str) -> int:
    """The inode of a process's namespace; 0 if the process has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino  # noqa: PTH116  (a Path would follow nothing else)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def make_expendable(pid: int, uid: int, score: int) -> None:
    """Raise the process's oom_score_adj to `score`, if it is `uid`'s; one that has ended is fine."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The open directory names this very process for good, so the pid can't change hands in between.
            if os.fstat(descriptor).st_uid == uid:
                adjust = os.open("oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=descriptor)
                with os.fdopen(adjust, "r+b", buffering=0) as file:
                    if int(file.read()) < score:
                        file.write(str(score).encode())
        finally:
            os.close(descriptor)
