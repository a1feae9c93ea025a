"""Runtimes behind walls without root: the same calls as `Sandboxes`, for one ordinary user of the host.

All members are the host's same user here. They differ by namespaces alone: mounts, processes, network, names. What
this can't promise is in `LESS`, and is said at start, by the doctor and in docs/why/rootless.md.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import launch, meter, pasta, processes, profile, seccomp
from mutirao.sandbox.doors import Doors
from mutirao.sandbox.joints import Joints
from mutirao.sandbox.machine import need_rootless
from mutirao.sandbox.meter import Meter, Meters
from mutirao.sandbox.pasta import Holder
from mutirao.sandbox.records import Record
from mutirao.sandbox.runtimes import Runtimes, resolvers
from mutirao.sandbox.spec import Events, Limits, Running, RuntimeSpec, Walls, slug

log = logging.getLogger(__name__)

LESS = (
    "All members are one user of this machine: namespaces alone keep them apart, with no second wall behind.",
    "Memory is looked at four times a second and disk every two: in between a runtime can use more than its limit.",
    "Processors are shared without a limit; runtimes only give way to everything else.",
    "What the kernel counts for a user (inotify watches, pipes, terminals) is counted for all members together.",
    "Every user of this machine can connect to the servers' ports on loopback; the servers ask for a token.",
)
"""What rootless mode does not promise, though root mode does."""

UNCOUNTED = ("memfd_create", "memfd_secret", "shmget")
"""Calls that make memory which belongs to no process and no file system, so that no look finds it."""
NICE = 5


class RootlessSandboxes(Runtimes):
    """All runtimes of the service whose data lies in `data`, which is the caller's own."""

    nat = True

    def __init__(self, data: Path, *, hub_ports: tuple[int, ...] = ()) -> None:
        data = data.resolve()
        digest = hashlib.blake2b(f"{os.getuid()} {data}".encode(), digest_size=2).digest()
        # Each service has addresses of its own, so that two of them don't wait at the same one.
        subnet = f"127.{100 + digest[0] % 100}.{digest[1] & 0xF0}.0/20"
        super().__init__(data, data / "run", digest.hex(), subnet, hub_ports)
        self._joints = Joints()
        self._doors = Doors()
        self._meters = Meters()

    @property
    def hub_address(self) -> str:
        """Where runtimes find the hub: their own loopback, on which we keep a door to the host's."""
        return "127.0.0.1"

    def knows(self, member: str) -> bool:
        return (self._data / "homes" / slug(member)).is_dir()

    def events(self, running: Running) -> Events:
        """What was counted for this runtime since this process watches it."""
        return self._meters.events(running.id)

    def pids(self, running: Running) -> frozenset[int]:
        return meter.pids(running)

    # ------------------------------------------------------------------ the machine

    def _prepare(self) -> None:
        need_rootless()
        for directory in (self._data, self._run, self._data / "homes"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        seccomp.program(without=UNCOUNTED)
        self._meters.begin()

    def _mend(self) -> bool:
        """Start a pasta again that has died, and load a filter again where the host has other addresses by now."""
        own, mended = pasta.own_addresses(), False
        for record in self._records.all():
            if record.running is None:
                continue
            try:
                mended |= self._joints.mend(self._place(record.walls.id), record.walls, record.spec, own)
            except (SandboxError, OSError) as error:
                # It may have ended meanwhile; the others are looked after all the same.
                log.warning("the network of %s can't be mended: %s", record.walls.id, error)
        return mended

    def _take_up(self, running: Running, limits: Limits) -> bool:
        joint = self._joints.of(self._place(running.id))
        if joint is None:
            return False
        allowed = meter.allowance(joint.holder, Path(running.walls.home), limits)
        self._meters.add(Meter(running, limits, joint.holder, allowed, self._place(running.id)))
        # A door that can't be opened, because the member took its port, is the member's own trouble.
        with contextlib.suppress(SandboxError):
            self._doors.open(running.id, joint.holder, running.address, self._hub_ports)
        return True

    def _sweep(self) -> None:
        known = self._records.names()
        for directory in self._run.glob("runtime-*"):
            if directory.name.removeprefix("runtime-") not in known:
                self._joints.end(directory)
                shutil.rmtree(directory, ignore_errors=True)

    def _teardown(self, grace_s: float) -> None:
        super()._teardown(grace_s)
        self._meters.end()
        self._doors.end()
        self._joints.reap()
        shutil.rmtree(self._run, ignore_errors=True)

    # ------------------------------------------------------------------ one runtime

    def _plan(self, spec: RuntimeSpec, name: str) -> Walls:
        return self._reserve(spec, name, os.getuid(), cgroups=(str(self._place(name)),))

    def _put_up(self, walls: Walls, spec: RuntimeSpec) -> Walls:
        directory = self._place(walls.id)
        directory.mkdir(mode=0o700)
        home = self._data / "homes" / slug(spec.member)
        home.mkdir(mode=0o700, exist_ok=True)
        # The member owns it and may have closed it; what it is can't change, because its parent is ours.
        home.chmod(0o700)
        holder = self._joints.hold(directory)
        walls = replace(walls, home=str(home), netns=holder.netns)
        self._records.write(Record(walls, spec))
        self._joints.load(directory, spec, holder, pasta.own_addresses())
        self._joints.connect(directory, walls, holder)
        self._doors.open(walls.id, holder, walls.address, self._hub_ports)
        profile.write_etc(directory / "etc", pasta.INSIDE, resolvers(spec), spec.read_only)
        return walls

    def _enter(self, walls: Walls, spec: RuntimeSpec) -> tuple[Running, subprocess.Popen[bytes]]:
        directory = self._place(walls.id)
        joint = self._joints.of(directory)
        if joint is None:
            raise SandboxError(f"the walls of {walls.member!r} are gone: build them again.")
        words = _enter(spec, joint.holder)
        # What the home may hold is measured before anything runs in it.
        allowed = meter.allowance(joint.holder, Path(walls.home), spec.limits)
        status = self._status(walls.id)
        running, process = launch.launch(walls, spec, directory, status, self._shown(spec), words, UNCOUNTED)
        self._meters.add(Meter(running, spec.limits, joint.holder, allowed, directory))
        return running, process

    def _kill_rest(self, _walls: Walls, running: Running | None) -> None:
        if running:
            processes.kill(running.pid, running.start_time, signal.SIGKILL)

    def _clear(self, walls: Walls) -> None:
        self._meters.drop(walls.id)
        self._doors.close(walls.id)
        directory = self._place(walls.id)
        self._joints.end(directory)
        shutil.rmtree(directory, ignore_errors=True)
        with self._records.locked():
            self._records.drop(walls.id)


def _enter(spec: RuntimeSpec, holder: Holder) -> list[str]:
    """The limits that the kernel keeps for a process or a user namespace, then the namespaces themselves."""
    limits = spec.limits
    data, size = limits.memory_mb << 21, limits.disk_mb << 20
    return [
        *("nice", "-n", str(NICE), "prlimit", *launch.file_limits(spec)),
        # Counted in the runtime's own user namespace since Linux 5.14: nobody else's processes count with them.
        f"--nproc={limits.processes}:{limits.processes}",
        *(f"--data={data}:{data}", f"--fsize={size}:{size}", "--"),
        *holder.enter(),
    ]
