"""Limits that are looked at rather than enforced: memory and disk of a runtime where no control group is ours.

What a look finds above its limit is ended: of memory the biggest process, of disk the whole runtime. Between two looks
more can be used; `docs/why/rootless.md` says so.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mutirao.sandbox import place, processes
from mutirao.sandbox.launch import ROOT_ENV
from mutirao.sandbox.pasta import Holder
from mutirao.sandbox.quota import FILES_PER_MB
from mutirao.sandbox.spec import Events, Limits, Running

MEMORY_S, DISK_S = 0.25, 2.0
"""Pauses between two looks."""
MEASURE_S = 30.0
"""A home that can't be measured in this time holds too many files."""
FILE_BYTES = 1024
"""What an entry in /tmp costs the kernel at least."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a home holds."""

    size_bytes: int
    files: int


@dataclass(slots=True)
class Meter:
    """One runtime's use, and what has been done about it; `directory` holds its log."""

    running: Running
    limits: Limits
    holder: Holder
    allowed: Use
    directory: Path
    oom_kills: int = 0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    stopped: str = ""
    """Why the runtime was ended, as its log says; empty while it was not."""

    def look_at_memory(self) -> None:
        """Kill the biggest process while all together hold more than the limit; the server goes last."""
        place.trim_log(self.directory)
        sizes = {pid: size for pid in pids(self.running) if (size := _anonymous(pid)) is not None}
        shared = sum(_field(pid, "Pss_Shmem") for pid in sizes)
        self.memory_bytes = sum(sizes.values()) + max(shared, _in_memory(self.running.child_pid))
        self.memory_peak_bytes = max(self.memory_peak_bytes, self.memory_bytes)
        if self.memory_bytes <= self.limits.memory_mb << 20:
            return
        server = processes.children(self.running.child_pid)[:1]
        order = sorted(sizes, key=lambda pid: (pid not in server and pid != self.running.child_pid, sizes[pid]))
        if order:
            victim = order[-1]
            if victim in server:
                # Nothing else is left to kill: what is too big lies in /tmp or in the server itself.
                victim = self.running.child_pid
            found = processes.stat(victim)
            if found and victim in pids(self.running):
                processes.kill(victim, found.start_time, signal.SIGKILL)
                self.oom_kills += 1

    def look_at_disk(self) -> None:
        """End the runtime if its home holds more than it may, once."""
        if self.stopped:
            return
        use = measure(self.holder, Path(self.running.walls.home))
        if not self.holder.alive():
            self._stop("What keeps its network and its limits has died")
        elif use is None or use.size_bytes > self.allowed.size_bytes or use.files > self.allowed.files:
            held = "more files than can be counted" if use is None else f"{use.size_bytes >> 20} MB, {use.files} files"
            self._stop(f"The home holds {held}, of {self.limits.disk_mb} MB")

    def _stop(self, why: str) -> None:
        self.stopped = f"{why}: the runtime was stopped.\n"
        processes.kill(self.running.child_pid, self.running.child_start_time, signal.SIGKILL)
        with (self.directory / "log").open("a") as log:
            log.write(self.stopped)


class Meters:
    """All meters of one process, and the two threads that look at them."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._looking: list[threading.Thread] = []

    def begin(self) -> None:
        """Look from now on; looking already is fine."""
        with self._lock:
            if any(thread.is_alive() for thread in self._looking):
                return
            self._end.clear()
            # Apart, because a home of many files takes its time and memory can't wait.
            looks = ((MEMORY_S, Meter.look_at_memory), (DISK_S, Meter.look_at_disk))
            self._looking = [
                threading.Thread(target=self._look, args=look, name="mutirao-meter", daemon=True) for look in looks
            ]
            for thread in self._looking:
                thread.start()

    def add(self, meter: Meter) -> None:
        """Look at this one too."""
        self._meters[meter.running.id] = meter
        self.begin()

    def drop(self, name: str) -> None:
        """Look at this runtime no more; one that is not known is fine."""
        self._meters.pop(name, None)

    def events(self, name: str) -> Events:
        """What was counted for a runtime; zeros for one that is not known."""
        found = self._meters.get(name)
        if found is None:
            return Events()
        return Events(found.oom_kills, found.memory_bytes, found.memory_peak_bytes)

    def end(self) -> None:
        """Look no more."""
        self._end.set()
        for thread in self._looking:
            thread.join()

    def _look(self, pause_s: float, look: Callable[[Meter], None]) -> None:
        while not self._end.wait(pause_s):
            for found in list(self._meters.values()):
                with contextlib.suppress(OSError, ValueError):
                    look(found)


def allowance(holder: Holder, home: Path, limits: Limits) -> Use:
    """What the home may hold: its limit, or what it holds already, so that its member can come back and tidy up."""
    use = measure(holder, home) or Use(0, 0)
    size = limits.disk_mb << 20
    return Use(max(size, use.size_bytes), max(limits.disk_mb * FILES_PER_MB, use.files))


def measure(holder: Holder, home: Path) -> Use | None:
    """What `home` holds; None if it can't be said in time. Looks with rights over its files: no mode hides any."""
    found = []
    for option in ("--block-size=1", "--inodes"):
        words = [*holder.enter(), "du", "--summarize", "--one-file-system", option, "--", str(home)]
        try:
            done = subprocess.run(words, capture_output=True, check=False, env=ROOT_ENV, timeout=MEASURE_S)
        except subprocess.TimeoutExpired:
            return None
        # A file that went away meanwhile makes du complain; the sum is there all the same.
        number = done.stdout.split(b"\t")[0]
        if not number.isdigit():
            return None
        found.append(int(number))
    return Use(found[0], found[1])


def pids(running: Running) -> frozenset[int]:
    """The host's pids of the processes in the runtime's pid namespace, and of the bubblewrap that waits for it."""
    found = {running.pid} if processes.alive(running.pid, running.start_time) else set()
    for name in os.listdir("/proc"):  # noqa: PTH208  (a Path for each process of the machine would be slow)
        if name.isdigit():
            with contextlib.suppress(OSError):
                # A zombie's link is gone; it holds nothing.
                if os.stat(f"/proc/{name}/ns/pid").st_ino == running.pidns_inode:  # noqa: PTH116
                    found.add(int(name))
    return frozenset(found)


def _anonymous(pid: int) -> int | None:
    """The process's own memory, its share of what it shares with its children included; None if it has ended."""
    return _field(pid, "Pss_Anon") if Path(f"/proc/{pid}").exists() else None


def _field(pid: int, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) << 10
    return 0


def _in_memory(child: int) -> int:
    """What lies in the runtime's /tmp and /dev/shm."""
    total = 0
    for name in ("tmp", "dev/shm"):
        with contextlib.suppress(OSError):
            found = os.statvfs(f"/proc/{child}/root/{name}")
            total += (found.f_blocks - found.f_bfree) * found.f_frsize + (found.f_files - found.f_ffree) * FILE_BYTES
    return total
