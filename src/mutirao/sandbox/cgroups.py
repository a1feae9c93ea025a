"""Limits by control groups, in whichever kind the machine has: v1 controllers mounted one by one, v2, or both.

All runtimes of one service live below one directory per tree, `mutirao-<instance>`, where an operator can bound them
together. Where v1 holds the controllers but an empty v2 tree is mounted too, each runtime gets a directory there as
well, because only v2 has `cgroup.kill` and `cgroup.freeze`. Source: the kernel's cgroup-v1 and cgroup-v2 documents.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox.spec import Events, Limits

NEEDED = ("cpu", "memory", "pids")
PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class Trees:
    """Where the control groups are mounted: controllers of v1 by name, and the v2 tree with those it offers."""

    v1: Mapping[str, Path]
    v2: Path | None
    v2_controllers: frozenset[str]

    @property
    def kind(self) -> str:
        if not self.lacking() and not set(NEEDED) - self.v2_controllers:
            return "v2"
        return "v1" if self.v1 else "none"

    def lacking(self) -> tuple[str, ...]:
        """The controllers that neither tree offers."""
        return tuple(name for name in NEEDED if name not in self.v2_controllers and name not in self.v1)

    def roots(self) -> tuple[Path, ...]:
        """The trees a runtime gets a directory in, v2 first, each once."""
        roots = [self.v2] if self.v2 else []
        roots += [self.v1[name] for name in NEEDED if name not in self.v2_controllers and name in self.v1]
        return tuple(dict.fromkeys(roots))


def detect(mounts: str | None = None) -> Trees:
    """The machine's trees, from the text of /proc/self/mounts unless given."""
    v1: dict[str, Path] = {}
    v2: Path | None = None
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        place = Path(fields[1].replace("\\040", " "))
        if fields[2] == "cgroup":
            for option in fields[3].split(","):
                if option in NEEDED:
                    v1.setdefault(option, place)
        elif fields[2] == "cgroup2" and v2 is None:
            v2 = place
    offered: frozenset[str] = frozenset()
    if v2:
        with contextlib.suppress(OSError):
            offered = frozenset((v2 / "cgroup.controllers").read_text().split())
    return Trees(v1, v2, offered)


class Cgroups:
    """One service's control groups; `instance` names it."""

    def __init__(self, instance: str, trees: Trees) -> None:
        self._trees = trees
        self._parent = f"mutirao-{instance}"

    def prepare(self) -> None:
        """Make the parents and hand the controllers down to them; SandboxError when one is missing."""
        if lacking := self._trees.lacking():
            raise SandboxError(
                f"no control group for {', '.join(lacking)}: runtimes can't be limited. "
                "Boot with these controllers enabled (see `mutirao doctor`)."
            )
        if self._trees.v2 and self._trees.v2_controllers:
            _hand_down(self._trees.v2, self._trees.v2_controllers)
        for root in self._trees.roots():
            (root / self._parent).mkdir(exist_ok=True)
        if self._trees.v2 and self._trees.v2_controllers:
            _hand_down(self._trees.v2 / self._parent, self._trees.v2_controllers)

    def places(self, name: str) -> tuple[str, ...]:
        """A runtime's directories, the one that names it first."""
        return tuple(str(root / self._parent / name) for root in self._trees.roots())

    def make(self, name: str, limits: Limits) -> None:
        """Make a runtime's directories with its limits."""
        places = {root: root / self._parent / name for root in self._trees.roots()}
        for place in places.values():
            place.mkdir(exist_ok=True)
        memory = limits.memory_mb << 20
        quota = max(1000, int(limits.cpus * PERIOD_US))
        for controller in NEEDED:
            if controller in self._trees.v2_controllers and self._trees.v2:
                place = places[self._trees.v2]
                match controller:
                    case "memory":
                        _write(place / "memory.max", memory)
                        _write(place / "memory.swap.max", 0, needed=False)
                    case "cpu":
                        _write(place / "cpu.max", f"{quota} {PERIOD_US}")
                    case "pids":
                        _write(place / "pids.max", limits.processes)
            else:
                place = places[self._trees.v1[controller]]
                match controller:
                    case "memory":
                        _write(place / "memory.limit_in_bytes", memory)
                        # Memory and swap together: the same figure means no swap. Missing without swap accounting.
                        _write(place / "memory.memsw.limit_in_bytes", memory, needed=False)
                    case "cpu":
                        _write(place / "cpu.cfs_period_us", PERIOD_US)
                        _write(place / "cpu.cfs_quota_us", quota)
                    case "pids":
                        _write(place / "pids.max", limits.processes)

    def events(self, places: Iterable[str]) -> Events:
        """What the kernel counted in these directories; zeros once they are gone."""
        found: dict[str, int] = {}
        for place in map(Path, places):
            for name in ("memory.oom_control", "memory.events", "cpu.stat", "pids.events"):
                with contextlib.suppress(OSError):
                    for line in (place / name).read_text().splitlines():
                        key, _, value = line.partition(" ")
                        if value.isdigit():
                            found[f"{name.partition('.')[0]}.{key}"] = int(value)
            for name, key in (
                ("memory.usage_in_bytes", "usage"),
                ("memory.current", "usage"),
                ("memory.max_usage_in_bytes", "peak"),
                ("memory.peak", "peak"),
            ):
                with contextlib.suppress(OSError, ValueError):
                    found[key] = int((place / name).read_text())
        throttled = found.get("cpu.throttled_usec", 0) / 1e6 or found.get("cpu.throttled_time", 0) / 1e9
        return Events(
            oom_kills=found.get("memory.oom_kill", 0),
            memory_bytes=found.get("usage", 0),
            memory_peak_bytes=found.get("peak", 0),
            refused_forks=found.get("pids.max", 0),
            throttled_s=throttled,
        )

    def pids(self, places: Iterable[str]) -> frozenset[int]:
        """The processes in these directories."""
        found: set[int] = set()
        for place in places:
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (Path(place) / "cgroup.procs").read_text().split())
        return frozenset(found - {0})

    def kill(self, places: tuple[str, ...]) -> None:
        """Kill every process in these directories; new ones that appear meanwhile too."""
        for place in places:
            with contextlib.suppress(OSError):
                (Path(place) / "cgroup.kill").write_text("1")
        for _ in range(100):
            pids = self.pids(places)
            if not pids:
                return
            for pid in pids:
                self._kill_one(pid, places)
            time.sleep(0.02)

    def _kill_one(self, pid: int, places: tuple[str, ...]) -> None:
        """Kill a process only if it is in these directories while we hold it: its number may be another's by now."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                if pid in self.pids(places):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)

    def remove(self, places: Iterable[str]) -> None:
        """Remove these directories, which must hold no process any more; missing ones are fine."""
        for place in places:
            _rmdir(Path(place))

    def leftovers(self) -> dict[str, tuple[str, ...]]:
        """The directories that stand now, by the runtime's name."""
        found: dict[str, list[str]] = {}
        for root in self._trees.roots():
            for place in (root / self._parent).glob("*/"):
                found.setdefault(place.name, []).append(str(place))
        return {name: tuple(places) for name, places in found.items()}

    def teardown(self) -> None:
        """Remove the parents."""
        for root in self._trees.roots():
            _rmdir(root / self._parent)


def _hand_down(place: Path, controllers: frozenset[str]) -> None:
    wanted = [name for name in NEEDED if name in controllers]
    control = place / "cgroup.subtree_control"
    try:
        missing = [name for name in wanted if name not in control.read_text().split()]
        if not missing:
            return
        try:
            control.write_text(" ".join(f"+{name}" for name in missing))
        except OSError:
            # In a container the tree's root is an ordinary group and must hold no process before it can hand down.
            if not (place / "cgroup.type").exists():
                raise
            leaf = place / "mutirao-rest"
            leaf.mkdir(exist_ok=True)
            for pid in (place / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (leaf / "cgroup.procs").write_text(pid)
            control.write_text(" ".join(f"+{name}" for name in missing))
    except OSError as error:
        raise SandboxError(
            f"{control} refuses {', '.join(wanted)} ({error.strerror}): control groups are read-only or not ours here. "
            "Run as root outside a container, or give the container its own writable cgroup tree."
        ) from error


def _write(path: Path, value: int | str, *, needed: bool = True) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        if needed:
            raise SandboxError(f"{path} refuses {value} ({error.strerror}): see `mutirao doctor`.") from error


def _rmdir(place: Path) -> None:
    if not place.is_dir():
        return
    for inner in place.glob("*/"):
        _rmdir(inner)
    for _ in range(150):
        try:
            place.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # A killed process leaves its group a moment after it stopped showing in cgroup.procs.
            time.sleep(0.02)
    raise SandboxError(f"{place} can't be removed: a process is still in it.")
