"""Runtimes behind walls without root: the same interface as `Sandboxes`, for one ordinary user of the host.

All members are the host's same user here. They differ by namespaces alone: mounts, processes, network, names. What
this can't promise is in `LESS`, and is said at start, by the doctor and in docs/why/rootless.md.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import firewall, launch, meter, network, pasta, place, processes, profile, seccomp
from mutirao.sandbox.doors import Doors
from mutirao.sandbox.meter import Meter
from mutirao.sandbox.pasta import Holder
from mutirao.sandbox.records import Record, Records
from mutirao.sandbox.spec import Events, ReadOnly, Running, RuntimeSpec, Walls, from_json, slug, to_json
from mutirao.sandbox.threads import Threads

log = logging.getLogger(__name__)

LESS = (
    "All members are one user of this machine: namespaces alone keep them apart, with no second wall behind.",
    "Memory is looked at four times a second and disk every two: in between a runtime can use more than its limit.",
    "Processors are shared without a limit; runtimes only give way to everything else.",
    "What the kernel counts for a user (inotify watches, pipes, terminals) is counted for all members together.",
    "Every user of this machine can connect to the servers' ports on loopback; the servers ask for a token.",
)
"""What rootless mode does not promise, though root mode does."""

PROGRAMS = (
    ("bwrap", "bubblewrap"),
    ("pasta", "passt"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("du", "coreutils"),
)
TUN = Path("/dev/net/tun")
UNCOUNTED = ("memfd_create", "memfd_secret", "shmget")
"""Calls that make memory which belongs to no process and no file system, so that no look finds it."""
MEMORY_S, DISK_S = 0.25, 2.0
NICE = 5


class RootlessSandboxes:
    """All runtimes of the service whose data lies in `data`, which is the caller's own.

    `hub_ports`: the ports at `hub_address` that runtimes may reach.
    """

    nat = True

    def __init__(self, data: Path, *, hub_ports: tuple[int, ...] = ()) -> None:
        self._data = data.resolve()
        digest = hashlib.blake2b(f"{os.getuid()} {self._data}".encode(), digest_size=2).digest()
        self.instance = digest.hex()
        # Each service has addresses of its own, so that two of them don't wait at the same one.
        self._network = network.Network(f"127.{100 + digest[0] % 100}.{digest[1] & 0xF0}.0/20", self.instance)
        self._run = self._data / "run"
        self._hub_ports = hub_ports
        self._records = Records(self._run)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._others: list[subprocess.Popen[bytes]] = []
        self._meters: dict[str, Meter] = {}
        self._doors = Doors()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._watches: list[threading.Thread] = []
        self._threads = Threads(16)

    @property
    def hub_address(self) -> str:
        """Where runtimes find the hub: their own loopback, on which we keep a door to the host's."""
        return "127.0.0.1"

    async def prepare(self) -> None:
        """Check the machine and make the directories; idempotent."""
        await self._threads.run(self._prepare)

    async def build(self, spec: RuntimeSpec) -> Walls:
        """Put up the walls for `spec`; nothing runs yet."""
        return await self._threads.run(lambda: self._build(spec), undo=self._clear)

    async def launch(self, walls: Walls, spec: RuntimeSpec) -> Running:
        """Start the server of `spec` inside `walls`; when it can't be started, the walls are taken down again."""
        return await self._threads.run(lambda: self._launch(walls, spec), undo=lambda running: self._stop(running, 0))

    async def start(self, spec: RuntimeSpec) -> Running:
        """Build and launch. The server's process runs when this returns; whether it listens yet is another question."""
        return await self._threads.run(
            lambda: self._launch(self._build(spec), spec), undo=lambda running: self._stop(running, 0)
        )

    async def poll(self, running: Running) -> int | None:
        """None while the runtime lives, else its exit status (128 + signal for a killed one); then call `stop`."""
        return self._poll(running)

    async def stop(self, running: Running, grace_s: float = 5.0) -> None:
        """Ask the server to end, kill what is left after `grace_s`, take the walls down; idempotent."""
        await self._threads.run(lambda: self._stop(running, grace_s))

    async def mend(self) -> bool:
        """Start a pasta again that has died, and load a filter again where the host has other addresses by now."""
        return await self._threads.run(self._mend)

    async def recover(self) -> tuple[Running, ...]:
        """After a restart: the runtimes that still live, which are watched again; the remains of others are removed."""
        return await self._threads.run(self._recover)

    async def teardown(self, grace_s: float = 5.0) -> None:
        """Stop every runtime: no process, namespace or file of ours is left but the homes."""
        await self._threads.settle()
        await self._threads.run(lambda: self._teardown(grace_s))

    def knows(self, member: str) -> bool:
        """Whether the member ever had a home here."""
        return (self._data / "homes" / slug(member)).is_dir()

    def events(self, running: Running) -> Events:
        """What was counted for this runtime since this process watches it."""
        found = self._meters.get(running.id)
        if found is None:
            return Events()
        return Events(found.oom_kills, found.memory_bytes, found.memory_peak_bytes)

    def pids(self, running: Running) -> frozenset[int]:
        """The host's pids of the runtime's processes."""
        return meter.pids(running)

    def log(self, running: Running, size: int = 65536) -> str:
        """The end of what the server printed, without control characters; empty once it was stopped."""
        return place.readable(place.log_end(self._place(running.id), size))

    # ------------------------------------------------------------------ the machine

    def _prepare(self) -> None:
        need_rootless()
        for directory in (self._data, self._run, self._data / "homes"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        seccomp.program(without=UNCOUNTED)
        self._begin_watching()

    def _begin_watching(self) -> None:
        with self._lock:
            if any(watch.is_alive() for watch in self._watches):
                return
            self._end.clear()
            # Apart, because a home of many files takes its time and memory can't wait.
            looks = ((MEMORY_S, self._look_at_memory), (DISK_S, self._look_at_disk))
            self._watches = [
                threading.Thread(target=self._look, args=look, name="mutirao-meter", daemon=True) for look in looks
            ]
            for watch in self._watches:
                watch.start()

    def _look(self, pause_s: float, look: Callable[[Meter], None]) -> None:
        while not self._end.wait(pause_s):
            for found in list(self._meters.values()):
                with contextlib.suppress(OSError, ValueError):
                    look(found)

    def _look_at_memory(self, found: Meter) -> None:
        place.trim_log(self._place(found.running.id))
        found.look_at_memory()

    def _look_at_disk(self, found: Meter) -> None:
        if not found.stopped:
            found.look_at_disk(Path(found.running.walls.home))
            if found.stopped:
                with (self._place(found.running.id) / "log").open("a") as log:
                    log.write(found.stopped)

    def _mend(self) -> bool:
        own, mended = pasta.own_addresses(), False
        for record in self._records.all():
            kept = self._kept(record.walls.id)
            if kept is None or record.running is None or not kept[0].alive():
                continue
            holder, carrier = kept
            try:
                if self._own(record.walls.id) != own or not pasta.filtered(holder):
                    self._load(record.walls.id, record.spec, holder, own)
                    mended = True
                if not carrier.alive():
                    self._connect(record.walls, holder)
                    mended = True
            except (SandboxError, OSError) as error:
                # It may have ended meanwhile; the others are looked after all the same.
                log.warning("the network of %s can't be mended: %s", record.walls.id, error)
        return mended

    def _recover(self) -> tuple[Running, ...]:
        self._run.mkdir(parents=True, exist_ok=True)
        survivors = []
        for record in self._records.all():
            running, kept = record.running, self._kept(record.walls.id)
            if running and kept and self._poll(running) is None:
                survivors.append(running)
                allowed = meter.allowance(kept[0], Path(record.walls.home), record.spec.limits)
                self._meters[running.id] = Meter(running, record.spec.limits, kept[0], allowed)
                # A door that can't be opened, because the member took its port, is the member's own trouble.
                with contextlib.suppress(SandboxError):
                    self._doors.open(running.id, kept[0], record.walls.address, self._hub_ports)
            else:
                self._kill(record.walls, running)
                self._clear(record.walls)
        known = self._records.names()
        for directory in self._run.glob("runtime-*"):
            if directory.name.removeprefix("runtime-") not in known:
                self._end_network(directory)
                shutil.rmtree(directory, ignore_errors=True)
        return tuple(survivors)

    def _teardown(self, grace_s: float) -> None:
        for record in self._records.all():
            if record.running:
                self._stop(record.running, grace_s)
            else:
                self._kill(record.walls, None)
                self._clear(record.walls)
        self._end.set()
        for watch in self._watches:
            watch.join()
        self._doors.end()
        for process in (*self._started.values(), *self._others):
            process.poll()
        shutil.rmtree(self._run, ignore_errors=True)

    # ------------------------------------------------------------------ one runtime

    def _build(self, spec: RuntimeSpec) -> Walls:
        for shown in self._shown(spec):
            if not os.access(shown.source, os.R_OK):
                raise SandboxError(f"{shown.source} is to be shown to {spec.member!r}, but it can't be read.")
        walls = self._reserve(spec)
        try:
            directory = self._place(walls.id)
            directory.mkdir(mode=0o700)
            home = self._data / "homes" / slug(spec.member)
            home.mkdir(mode=0o700, exist_ok=True)
            # The member owns it and may have closed it; what it is can't change, because its parent is ours.
            home.chmod(0o700)
            holder, process = pasta.hold()
            self._keep(process)
            _write(directory / "holder", to_json(holder))
            walls = replace(walls, home=str(home), netns=holder.netns)
            self._records.write(Record(walls, spec))
            self._load(walls.id, spec, holder, pasta.own_addresses())
            self._connect(walls, holder)
            self._doors.open(walls.id, holder, walls.address, self._hub_ports)
            resolvers = spec.network.dns_servers or firewall.host_resolvers() if spec.network.dns else ()
            profile.write_etc(directory / "etc", pasta.INSIDE, tuple(resolvers), spec.read_only)
            return walls
        except BaseException as error:
            self._clear(walls)
            if isinstance(error, OSError):
                raise SandboxError(
                    f"the walls for {spec.member!r} can't be built: {error}. See `mutirao doctor`."
                ) from error
            raise

    def _reserve(self, spec: RuntimeSpec) -> Walls:
        with self._records.locked():
            name = secrets.token_hex(4)
            walls = Walls(
                id=name,
                member=spec.member,
                server=spec.server,
                uid=os.getuid(),
                address=self._network.free_address(self._records.addresses(), self._records.last_address()),
                port=spec.port,
                interface="",
                netns="",
                home="",
                cgroups=(str(self._place(name)),),
            )
            self._records.write(Record(walls, spec))
            return walls

    def _load(self, name: str, spec: RuntimeSpec, holder: Holder, own: tuple[str, ...]) -> None:
        resolvers = (spec.network.dns_servers or firewall.host_resolvers()) if spec.network.dns else ()
        pasta.load(holder, pasta.rules(spec.network, resolvers, own))
        _write(self._place(name) / "own", " ".join(own))

    def _connect(self, walls: Walls, holder: Holder) -> None:
        directory = self._place(walls.id)
        carrier = pasta.connect(holder, walls.address, walls.port, directory / "pasta.log")
        self._keep(carrier)
        found = processes.stat(carrier.pid)
        _write(directory / "pasta", to_json(Holder(carrier.pid, found.start_time if found else 0)))

    def _launch(self, walls: Walls, spec: RuntimeSpec) -> Running:
        directory = self._place(walls.id)
        kept = self._kept(walls.id)
        try:
            if kept is None:
                raise SandboxError(f"the walls of {walls.member!r} are gone: build them again.")
            allowed = meter.allowance(kept[0], Path(walls.home), spec.limits)
            status = self._run / f"{walls.id}.status"
            running, process = launch.launch(
                walls, spec, directory, status, self._shown(spec), _enter(spec, kept[0]), UNCOUNTED
            )
            self._started[walls.id] = process
            self._meters[walls.id] = Meter(running, spec.limits, kept[0], allowed)
            self._records.write(Record(walls, spec, running))
            self._begin_watching()
            return running
        except BaseException as error:
            self._kill(walls, None)
            self._clear(walls)
            if isinstance(error, OSError):
                raise SandboxError(f"the server of {walls.member!r} can't be started: {error}.") from error
            raise

    def _poll(self, running: Running) -> int | None:
        process = self._started.get(running.id)
        if process is not None and process.pid == running.pid:
            code = process.poll()
        elif processes.alive(running.pid, running.start_time):
            code = None
        else:
            code = launch.exit_code(self._run / f"{running.id}.status")
            code = -signal.SIGKILL if code is None else code
        if code is None:
            place.trim_log(self._place(running.id))
            return None
        # The server has ended, but pid 1 inside would wait for whatever it left behind.
        processes.kill(running.child_pid, running.child_start_time, signal.SIGKILL)
        return code if code >= 0 else 128 - code

    def _stop(self, running: Running, grace_s: float) -> None:
        if self._poll(running) is None and grace_s > 0:
            for server in processes.children(running.child_pid)[:1]:
                if found := processes.stat(server):
                    processes.kill(server, found.start_time, signal.SIGTERM)
            self._await_end(running, grace_s)
        self._kill(running.walls, running)
        self._clear(running.walls)

    def _kill(self, walls: Walls, running: Running | None) -> None:
        """End pid 1 inside, which takes its whole namespace along, and the bubblewrap that waits for it."""
        if running:
            processes.kill(running.child_pid, running.child_start_time, signal.SIGKILL)
            self._await_end(running, 5)
            processes.kill(running.pid, running.start_time, signal.SIGKILL)
        if process := self._started.pop(walls.id, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)

    def _await_end(self, running: Running, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self._poll(running) is None:
            time.sleep(0.01)

    def _clear(self, walls: Walls) -> None:
        """Take the walls down; parts that are gone are fine."""
        self._meters.pop(walls.id, None)
        self._doors.close(walls.id)
        directory = self._place(walls.id)
        self._end_network(directory)
        shutil.rmtree(directory, ignore_errors=True)
        with self._records.locked():
            self._records.drop(walls.id)

    def _end_network(self, directory: Path) -> None:
        for name in ("pasta", "holder"):
            if found := _read(directory / name):
                found.end()
                end = time.monotonic() + 5
                while found.alive() and time.monotonic() < end:
                    time.sleep(0.005)
        self._keep()

    def _keep(self, *started: "subprocess.Popen[bytes]") -> None:
        """Remember processes until they have ended, so that none stays a zombie."""
        with self._lock:
            self._others = [process for process in (*self._others, *started) if process.poll() is None]

    # ------------------------------------------------------------------ parts

    def _kept(self, name: str) -> tuple[Holder, Holder] | None:
        """The holder and the pasta of a runtime."""
        holder, carrier = (_read(self._place(name) / part) for part in ("holder", "pasta"))
        return (holder, carrier) if holder and carrier else None

    def _own(self, name: str) -> tuple[str, ...]:
        with contextlib.suppress(OSError):
            return tuple((self._place(name) / "own").read_text().split())
        return ()

    def _shown(self, spec: RuntimeSpec) -> tuple[ReadOnly, ...]:
        if spec.environment.is_relative_to("/usr"):
            return spec.read_only
        return (ReadOnly(spec.environment, str(spec.environment)), *spec.read_only)

    def _place(self, name: str) -> Path:
        return self._run / f"runtime-{name}"


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


def need_rootless() -> None:
    """SandboxError unless this user can build walls here."""
    if os.geteuid() == 0:
        raise SandboxError("rootless mode is for an ordinary user: root has better walls.")
    for program, package in PROGRAMS:
        if shutil.which(program, path=launch.ROOT_ENV["PATH"]) is None:
            raise SandboxError(f"{program} is missing: install the package {package} (sudo ./run prepare).")
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise SandboxError(f"{TUN} can't be opened by uid {os.getuid()}: sudo chmod 666 {TUN} (sudo ./run prepare).")
    holder, process = pasta.hold()
    holder.end()
    process.wait()


def dangerous_groups() -> tuple[str, ...]:
    """Groups of this user that give rights over the machine: without root they can't be dropped for members."""
    import grp

    names = []
    for number in os.getgroups():
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(number).gr_name)
    risky = {
        "root",
        "sudo",
        "wheel",
        "adm",
        "docker",
        "lxd",
        "disk",
        "kvm",
        "shadow",
        "staff",
        "libvirt",
        "systemd-journal",
    }
    return tuple(sorted(risky & set(names)))


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


def _read(path: Path) -> Holder | None:
    with contextlib.suppress(OSError, SandboxError):
        return from_json(Holder, path.read_text())
    return None
