"""Runtimes behind walls, for one service on one machine; everything here needs root.

Two steps make a runtime: `build` puts up the walls (uid, home, limits, network, filter), `launch` starts the server
inside; `start` does both. What stands is written below /run, so a service that comes back finds it (`recover`).

    sandboxes = Sandboxes(Path("/var/lib/mutirao"), hub_ports=(8081,))
    survivors = await sandboxes.recover()       # what an earlier life of the service left running
    await sandboxes.prepare()
    running = await sandboxes.start(spec)       # connect to running.address, running.port from the host
    await sandboxes.poll(running)               # None, or the exit status: then call stop, which takes the walls down
    await sandboxes.stop(running)
    await sandboxes.teardown()

A runtime outlives the process that started it (bubblewrap runs without --die-with-parent): a hub may restart while
people work. Several processes of one service may each have a `Sandboxes` of the same data: supervisor and hub, say.
"""

import contextlib
import hashlib
import secrets
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import cgroups, firewall, homes, launch, network, place, processes, profile, seccomp
from mutirao.sandbox.machine import need_programs, need_root, need_user_namespaces
from mutirao.sandbox.records import Record, Records
from mutirao.sandbox.spec import Events, ReadOnly, Running, RuntimeSpec, Walls, slug
from mutirao.sandbox.threads import Threads
from mutirao.sandbox.uids import Uids

RUN = Path("/run/mutirao")


class Sandboxes:
    """All runtimes of the service whose data lies in `data`.

    `subnet`: range for the runtimes' addresses, used by nothing else. `uid_first`, `uid_count`: host uids reserved for
    members. `hub_ports`: the ports at `hub_address` that runtimes may reach; the hub's API must listen there.
    """

    def __init__(
        self,
        data: Path,
        *,
        subnet: str = "10.137.0.0/16",
        uid_first: int = 200_000,
        uid_count: int = 60_000,
        hub_ports: tuple[int, ...] = (),
        run: Path = RUN,
    ) -> None:
        self._data = data.resolve()
        self.instance = hashlib.blake2b(str(self._data).encode(), digest_size=2).hexdigest()
        self._run = run / self.instance
        self._hub_ports = hub_ports
        self._uids = Uids(self._data / "uids.jsonl", uid_first, uid_count)
        self._cgroups = cgroups.Cgroups(self.instance, cgroups.detect())
        self._network = network.Network(subnet, self.instance)
        self._firewall = firewall.Firewall(
            self.instance, self._network.subnet, self._network.gateway, self._network.interfaces, run
        )
        self._homes = homes.Homes(self._data, self._run / "homes")
        self._records = Records(self._run)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = Threads(16)

    @property
    def hub_address(self) -> str:
        """The host's address that runtimes reach; it exists after `prepare`."""
        return self._network.gateway

    @property
    def uids(self) -> Uids:
        return self._uids

    @property
    def nat(self) -> bool:
        """False where the kernel can't translate addresses: runtimes then get out only if the network routes back."""
        return self._firewall.nat

    async def prepare(self) -> None:
        """Make the machine ready: blackhole, hub address, packet filter, control groups, directories; idempotent."""
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
        """Load the packet filter again if somebody flushed it; True if it had to be. Cheap enough for every minute.

        Without it, nothing but the runtimes' private addresses would keep them from the host's network.
        """
        return await self._threads.run(self._mend)

    async def recover(self) -> tuple[Running, ...]:
        """After a restart: the runtimes that still live; the remains of all others are removed.

        Only while nothing is being started, because walls without a server count as remains.
        """
        return await self._threads.run(self._recover)

    async def teardown(self, grace_s: float = 5.0) -> None:
        """Stop every runtime and undo `prepare`: no process, namespace, mount, group or table of ours is left."""
        await self._threads.settle()
        await self._threads.run(lambda: self._teardown(grace_s))

    def knows(self, member: str) -> bool:
        """Whether the member ever had a home here."""
        return member in self._uids.all()

    def events(self, running: Running) -> Events:
        """What the kernel counted for this runtime: processes killed for memory, forks refused and so on."""
        self._make_kernels_expendable(running)
        return self._cgroups.events(running.walls.cgroups)

    def pids(self, running: Running) -> frozenset[int]:
        """The host's pids of the runtime's processes."""
        return self._cgroups.pids(running.walls.cgroups)

    def log(self, running: Running, size: int = 65536) -> str:
        """The end of what the server printed, without control characters; empty once it was stopped."""
        return place.readable(place.log_end(self._place(running.id), size))

    # ------------------------------------------------------------------ the machine

    def _prepare(self) -> None:
        need_root()
        need_programs()
        need_user_namespaces(self._uids.first)
        # First what may refuse: a range of addresses that the machine uses already.
        self._network.prepare()
        self._data.mkdir(parents=True, exist_ok=True)
        for directory in (self._run.parent, self._run, self._run / "homes"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)
        self._load_filter()
        self._cgroups.prepare()
        self._homes.prepare()
        seccomp.program()

    def _load_filter(self) -> None:
        with self._records.locked():
            self._firewall.prepare(self._hub_ports)
            # Loading the table afresh emptied its sets: runtimes that stand get their network back.
            for record in self._records.all():
                if record.walls.home and Path(record.walls.netns).exists():
                    self._admit(record.walls, record.spec)

    def _mend(self) -> bool:
        if self._firewall.stands():
            return False
        self._load_filter()
        return True

    def _recover(self) -> tuple[Running, ...]:
        survivors = []
        for record in self._records.all():
            running = record.running
            if running and self._poll(running) is None:
                survivors.append(running)
            else:
                self._kill(record.walls, running)
                self._clear(record.walls)
        self._sweep()
        return tuple(survivors)

    def _sweep(self) -> None:
        """Remove what carries our marks and is in no record."""
        known = self._records.names()
        interfaces = {record.walls.interface for record in self._records.all()}
        for name, groups in self._cgroups.leftovers().items():
            if name not in known:
                self._cgroups.kill(groups)
                self._cgroups.remove(groups)
        for interface in self._network.leftovers():
            name = interface.removeprefix(self._network.interfaces)
            if name not in known:
                self._network.remove(interface, self._place(name) / "net")
        self._firewall.dismiss(*(name for name in self._firewall.admitted() if name not in interfaces))
        for directory in self._run.glob("runtime-*"):
            if directory.name.removeprefix("runtime-") not in known:
                place.remove(directory)
        for status in self._run.glob("*.status"):
            if status.stem not in known:
                status.unlink(missing_ok=True)
        for name in self._homes.mounted() - {slug(member) for member in self._records.members()}:
            self._homes.close_slug(name)

    def _teardown(self, grace_s: float) -> None:
        need_root()
        runtimes = [record.running for record in self._records.all() if record.running]
        # Not this service's own threads, one of which runs this.
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda running: self._stop(running, grace_s), runtimes))
        for record in self._records.all():
            self._kill(record.walls, None)
            self._clear(record.walls)
        self._sweep()
        for process in self._started.values():
            process.poll()
        self._started.clear()
        self._firewall.teardown()
        self._network.teardown()
        self._cgroups.teardown()
        # Never a whole tree at once: should a home still be mounted below, its member's files would go with it.
        for left in self._run.glob("*"):
            if left.is_file():
                left.unlink(missing_ok=True)
        for directory in (*self._run.glob("*/*/"), *self._run.glob("*/"), self._run, self._run.parent):
            with contextlib.suppress(OSError):
                directory.rmdir()

    # ------------------------------------------------------------------ one runtime

    def _build(self, spec: RuntimeSpec) -> Walls:
        for shown in self._shown(spec):
            if not shown.source.exists():
                raise SandboxError(f"{shown.source} is to be shown to {spec.member!r}, but it does not exist.")
        uid = self._uids.of(spec.member)
        walls = self._reserve(spec, uid)
        try:
            with self._records.locked():
                home = self._homes.open(spec.member, uid, spec.limits.disk_mb)
            walls = replace(walls, home=str(home), cgroups=self._cgroups.make(walls.id, spec.limits))
            self._records.write(Record(walls, spec))
            directory = self._place(walls.id)
            place.make(directory)
            self._network.make(walls.id, walls.address, Path(walls.netns))
            if not self._mend():
                self._admit(walls, spec)
            profile.write_etc(directory / "etc", walls.address, _resolvers(spec), spec.read_only)
            for number, shown in enumerate(self._shown(spec)):
                place.show(shown.source, directory / f"shown-{number}")
            return walls
        except BaseException as error:
            self._clear(walls)
            if isinstance(error, OSError):
                raise SandboxError(
                    f"the walls for {spec.member!r} can't be built: {error}. See `mutirao doctor`."
                ) from error
            raise

    def _reserve(self, spec: RuntimeSpec, uid: int) -> Walls:
        with self._records.locked():
            address = self._network.free_address(self._records.addresses(), self._records.last_address())
            name = secrets.token_hex(4)
            walls = Walls(
                id=name,
                member=spec.member,
                server=spec.server,
                uid=uid,
                address=address,
                port=spec.port,
                interface=self._network.interface(name),
                netns=str(self._place(name) / "net"),
                home="",
                cgroups=(),
            )
            self._records.write(Record(walls, spec))
            return walls

    def _launch(self, walls: Walls, spec: RuntimeSpec) -> Running:
        directory = self._place(walls.id)
        shown = tuple(ReadOnly(directory / f"shown-{n}", one.inside) for n, one in enumerate(self._shown(spec)))
        try:
            running, process = launch.launch(walls, spec, directory, self._status(walls.id), shown)
            self._started[walls.id] = process
            self._records.write(Record(walls, spec, running))
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
            code = launch.exit_code(self._status(running.id))
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
        if running:
            # pid 1 inside takes its whole namespace along (SIGTERM means nothing to it), and the outer bwrap reaps it.
            # Killed together they would leave a zombie to the host's init.
            processes.kill(running.child_pid, running.child_start_time, signal.SIGKILL)
            self._await_end(running, 2)
        self._cgroups.kill(walls.cgroups)
        if running:
            self._await_end(running, 5)
        if process := self._started.pop(walls.id, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)

    def _await_end(self, running: Running, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self._poll(running) is None:
            time.sleep(0.01)

    def _clear(self, walls: Walls) -> None:
        """Take the walls down; parts that are gone are fine, and one that resists does not keep the others up."""
        with contextlib.ExitStack() as steps:
            # Run last to first.
            steps.callback(self._forget, walls)
            steps.callback(place.remove, self._place(walls.id))
            steps.callback(self._cgroups.remove, walls.cgroups)
            steps.callback(self._network.remove, walls.interface, Path(walls.netns))
            steps.callback(self._firewall.dismiss, walls.interface)

    def _forget(self, walls: Walls) -> None:
        with self._records.locked():
            self._records.drop(walls.id)
            if walls.member not in self._records.members():
                self._homes.close(walls.member)

    # ------------------------------------------------------------------ parts

    def _admit(self, walls: Walls, spec: RuntimeSpec) -> None:
        self._firewall.admit(walls.interface, walls.address, walls.port, spec.network, _resolvers(spec))

    def _shown(self, spec: RuntimeSpec) -> tuple[ReadOnly, ...]:
        if spec.environment.is_relative_to("/usr"):
            return spec.read_only
        return (ReadOnly(spec.environment, str(spec.environment)), *spec.read_only)

    def _make_kernels_expendable(self, running: Running) -> None:
        """Let memory's end hit a kernel rather than the server: raise oom_score_adj of all but the server."""
        spared = {running.pid, running.child_pid, *processes.children(running.child_pid)[:1]}
        for pid in self.pids(running) - spared:
            processes.make_expendable(pid, running.uid, profile.EXPENDABLE_SCORE)

    def _status(self, name: str) -> Path:
        return self._run / f"{name}.status"

    def _place(self, name: str) -> Path:
        return self._run / f"runtime-{name}"


def _resolvers(spec: RuntimeSpec) -> tuple[str, ...]:
    if not spec.network.dns:
        return ()
    return spec.network.dns_servers or firewall.host_resolvers()
