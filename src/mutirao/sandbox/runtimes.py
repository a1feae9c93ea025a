"""The life of runtimes, whichever way their walls are built: `Sandboxes` with root, `RootlessSandboxes` without."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import firewall, launch, place, processes
from mutirao.sandbox.network import Network
from mutirao.sandbox.records import Record, Records
from mutirao.sandbox.spec import Events, Limits, ReadOnly, Running, RuntimeSpec, Walls
from mutirao.sandbox.threads import Threads


class Runtimes(ABC):
    """All runtimes of the service whose data lies in `data`; what stands is written down in `run`.

    `hub_ports`: the ports at `hub_address` that runtimes may reach; the hub's API must listen there.
    """

    def __init__(self, data: Path, run: Path, instance: str, subnet: str, hub_ports: tuple[int, ...]) -> None:
        self.instance = instance
        self._data = data
        self._run = run
        self._hub_ports = hub_ports
        self._network = Network(subnet, instance)
        self._records = Records(run)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = Threads(16)

    @property
    @abstractmethod
    def hub_address(self) -> str:
        """The address at which runtimes find the hub."""

    async def prepare(self) -> None:
        """Make the machine ready; idempotent. SandboxError where it can't be."""
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
        """Put the runtimes' network up again where something has damaged it; True if it had to be."""
        return await self._threads.run(self._mend)

    async def recover(self) -> tuple[Running, ...]:
        """After a restart: the runtimes that still live; the remains of all others are removed.

        Only while nothing is being started, because walls without a server count as remains.
        """
        return await self._threads.run(self._recover)

    async def teardown(self, grace_s: float = 5.0) -> None:
        """Stop every runtime and undo `prepare`: of ours nothing is left but the data."""
        await self._threads.settle()
        await self._threads.run(lambda: self._teardown(grace_s))

    @abstractmethod
    def knows(self, member: str) -> bool:
        """Whether the member ever had a home here."""

    @abstractmethod
    def events(self, running: Running) -> Events:
        """What was counted for this runtime: processes killed for memory and so on."""

    @abstractmethod
    def pids(self, running: Running) -> frozenset[int]:
        """The host's pids of the runtime's processes."""

    def log(self, running: Running, size: int = 65536) -> str:
        """The end of what the server printed, without control characters; empty once it was stopped."""
        return place.readable(place.log_end(self._place(running.id), size))

    # ------------------------------------------------------------------ what each way does in its own manner

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _mend(self) -> bool: ...

    @abstractmethod
    def _plan(self, spec: RuntimeSpec, name: str) -> Walls:
        """Walls for `spec` that are reserved (see `_reserve`) but don't stand; enough for `_clear` to know them by."""

    @abstractmethod
    def _put_up(self, walls: Walls, spec: RuntimeSpec) -> Walls:
        """The planned walls, standing."""

    @abstractmethod
    def _enter(self, walls: Walls, spec: RuntimeSpec) -> tuple[Running, subprocess.Popen[bytes]]:
        """Start the server inside the walls."""

    @abstractmethod
    def _kill_rest(self, walls: Walls, running: Running | None) -> None:
        """End what the end of pid 1 inside has left; `running` is None where no server was started."""

    @abstractmethod
    def _clear(self, walls: Walls) -> None:
        """Take the walls down; parts that are gone are fine."""

    @abstractmethod
    def _sweep(self) -> None:
        """Remove what carries our marks and is in no record."""

    @abstractmethod
    def _take_up(self, running: Running, limits: Limits) -> bool:
        """Look after a runtime of an earlier life again; False if it can't be."""

    # ------------------------------------------------------------------ all runtimes

    def _recover(self) -> tuple[Running, ...]:
        survivors = []
        for record in self._records.all():
            running = record.running
            if running and self._poll(running) is None and self._take_up(running, record.spec.limits):
                survivors.append(running)
            else:
                self._kill(record.walls, running)
                self._clear(record.walls)
        self._sweep()
        return tuple(survivors)

    def _teardown(self, grace_s: float) -> None:
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

    # ------------------------------------------------------------------ one runtime

    def _build(self, spec: RuntimeSpec) -> Walls:
        for shown in self._shown(spec):
            if not os.access(shown.source, os.R_OK):
                raise SandboxError(
                    f"{shown.source} is to be shown to {spec.member!r}, but it does not exist or can't be read."
                )
        # The name goes into those of interfaces: short.
        walls = self._plan(spec, secrets.token_hex(4))
        try:
            return self._put_up(walls, spec)
        except BaseException as error:
            self._clear(walls)
            if isinstance(error, OSError):
                raise SandboxError(
                    f"the walls for {spec.member!r} can't be built: {error}. See `mutirao doctor`."
                ) from error
            raise

    def _reserve(
        self,
        spec: RuntimeSpec,
        name: str,
        uid: int,
        *,
        interface: str = "",
        netns: str = "",
        cgroups: tuple[str, ...] = (),
    ) -> Walls:
        """Write down walls that are planned, so that nobody else gets their address."""
        with self._records.locked():
            walls = Walls(
                id=name,
                member=spec.member,
                server=spec.server,
                uid=uid,
                address=self._network.free_address(self._records.addresses(), self._records.last_address()),
                port=spec.port,
                interface=interface,
                netns=netns,
                home="",
                cgroups=cgroups,
            )
            self._records.write(Record(walls, spec))
            return walls

    def _launch(self, walls: Walls, spec: RuntimeSpec) -> Running:
        running = None
        try:
            running, process = self._enter(walls, spec)
            self._started[walls.id] = process
            self._records.write(Record(walls, spec, running))
            return running
        except BaseException as error:
            self._kill(walls, running)
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
            self._await_end(running, 5)
        self._kill_rest(walls, running)
        if running:
            self._await_end(running, 5)
        if process := self._started.pop(walls.id, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)

    def _await_end(self, running: Running, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self._poll(running) is None:
            time.sleep(0.01)

    # ------------------------------------------------------------------ parts

    def _shown(self, spec: RuntimeSpec) -> tuple[ReadOnly, ...]:
        """What is mounted read-only: the environment first, unless it lies below /usr."""
        if spec.environment.is_relative_to("/usr"):
            return spec.read_only
        return (ReadOnly(spec.environment, str(spec.environment)), *spec.read_only)

    def _status(self, name: str) -> Path:
        return self._run / f"{name}.status"

    def _place(self, name: str) -> Path:
        return self._run / f"runtime-{name}"


def resolvers(spec: RuntimeSpec) -> tuple[str, ...]:
    """The addresses that a runtime may ask for names; none where it may not."""
    if not spec.network.dns:
        return ()
    return spec.network.dns_servers or firewall.host_resolvers()
