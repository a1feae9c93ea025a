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
import subprocess
from dataclasses import replace
from pathlib import Path

from mutirao.sandbox import cgroups, firewall, homes, launch, place, processes, profile, seccomp
from mutirao.sandbox.machine import need_programs, need_root, need_user_namespaces
from mutirao.sandbox.records import Record
from mutirao.sandbox.runtimes import Runtimes, resolvers
from mutirao.sandbox.spec import Events, Limits, ReadOnly, Running, RuntimeSpec, Walls, slug
from mutirao.sandbox.uids import Uids

RUN = Path("/run/mutirao")


class Sandboxes(Runtimes):
    """All runtimes of the service whose data lies in `data`, walled by root.

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
        data = data.resolve()
        instance = hashlib.blake2b(str(data).encode(), digest_size=2).hexdigest()
        super().__init__(data, run / instance, instance, subnet, hub_ports)
        self._uids = Uids(data / "uids.jsonl", uid_first, uid_count)
        self._cgroups = cgroups.Cgroups(instance, cgroups.detect())
        self._firewall = firewall.Firewall(
            instance, self._network.subnet, self._network.gateway, self._network.interfaces, run
        )
        self._homes = homes.Homes(data, self._run / "homes")

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

    def knows(self, member: str) -> bool:
        return member in self._uids.all()

    def events(self, running: Running) -> Events:
        """What the kernel counted for this runtime: processes killed for memory, forks refused and so on."""
        self._make_kernels_expendable(running)
        return self._cgroups.events(running.walls.cgroups)

    def pids(self, running: Running) -> frozenset[int]:
        return self._cgroups.pids(running.walls.cgroups)

    # ------------------------------------------------------------------ the machine

    def _prepare(self) -> None:
        """Blackhole, hub address, packet filter, control groups, directories."""
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
        """Load the packet filter again if somebody flushed it. Cheap enough for every minute.

        Without it, nothing but the runtimes' private addresses would keep them from the host's network.
        """
        if self._firewall.stands():
            return False
        self._load_filter()
        return True

    def _take_up(self, _running: Running, _limits: Limits) -> bool:
        return True

    def _sweep(self) -> None:
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
        super()._teardown(grace_s)
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

    def _plan(self, spec: RuntimeSpec, name: str) -> Walls:
        return self._reserve(
            spec,
            name,
            self._uids.of(spec.member),
            interface=self._network.interface(name),
            netns=str(self._place(name) / "net"),
            cgroups=self._cgroups.places(name),
        )

    def _put_up(self, walls: Walls, spec: RuntimeSpec) -> Walls:
        with self._records.locked():
            home = self._homes.open(spec.member, walls.uid, spec.limits.disk_mb)
        self._cgroups.make(walls.id, spec.limits)
        walls = replace(walls, home=str(home))
        self._records.write(Record(walls, spec))
        directory = self._place(walls.id)
        place.make(directory)
        self._network.make(walls.id, walls.address, Path(walls.netns))
        if not self._mend():
            self._admit(walls, spec)
        profile.write_etc(directory / "etc", walls.address, resolvers(spec), spec.read_only)
        for number, shown in enumerate(self._shown(spec)):
            place.show(shown.source, directory / f"shown-{number}")
        return walls

    def _enter(self, walls: Walls, spec: RuntimeSpec) -> tuple[Running, subprocess.Popen[bytes]]:
        directory = self._place(walls.id)
        shown = tuple(ReadOnly(directory / f"shown-{n}", one.inside) for n, one in enumerate(self._shown(spec)))
        return launch.launch(walls, spec, directory, self._status(walls.id), shown)

    def _kill_rest(self, walls: Walls, _running: Running | None) -> None:
        self._cgroups.kill(walls.cgroups)

    def _clear(self, walls: Walls) -> None:
        """As told; a part that resists does not keep the others up."""
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
        self._firewall.admit(walls.interface, walls.address, walls.port, spec.network, resolvers(spec))

    def _make_kernels_expendable(self, running: Running) -> None:
        """Let memory's end hit a kernel rather than the server: raise oom_score_adj of all but the server."""
        spared = {running.pid, running.child_pid, *processes.children(running.child_pid)[:1]}
        for pid in self.pids(running) - spared:
            processes.make_expendable(pid, running.uid, profile.EXPENDABLE_SCORE)
