"""Spawners as other hubs have them: units that no hub is the parent of, and boxes with an address of their own.

Neither systemd nor Docker runs where the tests do. These do what matters to a proxy and a gate: a server that outlives
the hub and is known by name, and one that listens on another address, in namespaces of its own, and reaches the hub
by a bridge.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port

BRIDGE, NETWORK = "mutirao-t0", "10.154.0"


@contextlib.contextmanager
def bridge() -> Iterator[None]:
    """The network that boxes are on; the hub has its first address."""
    for command in (
        f"link add {BRIDGE} type bridge",
        f"address add {NETWORK}.1/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


class UnitSpawner(Spawner):
    """Like systemdspawner: a transient unit a server, with a scrubbed environment, whose parent is not the hub."""

    pid = 0

    async def start(self) -> tuple[str, int]:
        self.port = random_port()
        self.ip = "127.0.0.1"
        home = Path("homes") / self.user.name
        home.mkdir(parents=True, exist_ok=True)
        env = {**self.get_env(), "HOME": str(home.absolute()), "PATH": "/usr/bin:/bin"}
        command = ["env", "-i", *(f"{key}={value}" for key, value in env.items()), *self.cmd, *self.get_args()]
        # A shell forks it away and says its pid: from then on it is nobody's child but init's.
        script = 'setsid "$@" >>"$0" 2>&1 & echo $!'
        starter = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", script, str((home / "log").absolute()), *command, stdout=-1, cwd=home
        )
        out, _ = await starter.communicate()
        self.pid = int(out)
        return self.ip, self.port

    async def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OSError):
            return 0
        return None if self.pid else 0

    async def stop(self, now: bool = False) -> None:
        if self.pid:
            self._kill(signal.SIGTERM)
            for _ in range(100):
                if await self.poll() is not None:
                    break
                await asyncio.sleep(0.1)
            self._kill(signal.SIGKILL)
        self.pid = 0

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "pid": self.pid}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.pid = state.get("pid", 0)


class BoxSpawner(Spawner):
    """Like dockerspawner: namespaces, a file system that is mostly read-only, an address behind a bridge."""

    process: asyncio.subprocess.Process | None = None

    @property
    def _name(self) -> str:
        return f"mt-{self.user.id}"

    async def start(self) -> tuple[str, int]:
        address = f"{NETWORK}.{10 + self.user.id}"
        name = self._name
        await _ip("netns", "add", name)
        await _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        await _ip("link", "set", name, "master", BRIDGE, "up")
        await _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        await _ip("-n", name, "link", "set", "eth0", "up")
        await _ip("-n", name, "link", "set", "lo", "up")
        self.ip, self.port = "0.0.0.0", 8888
        home = Path("homes") / self.user.name
        home.mkdir(parents=True, exist_ok=True)
        env = {**self.get_env(), "HOME": "/home/box", "PATH": "/usr/bin:/bin"}
        walls = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--ro-bind", "/", "/"]
        walls += [
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/home",
            "--bind",
            str(home),
            "/home/box",
        ]
        walls += ["--chdir", "/home/box", "--clearenv"]
        for key, value in env.items():
            walls += ["--setenv", key, value]
        with (home / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                "ip", "netns", "exec", name, *walls, *self.cmd, *self.get_args(), stdout=log, stderr=log
            )
        return address, self.port

    async def poll(self) -> int | None:
        return 0 if self.process is None else self.process.returncode

    async def stop(self, now: bool = False) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.process = None
        await _ip("link", "delete", self._name, wrong=True)
        await _ip("netns", "delete", self._name, wrong=True)


async def _ip(*arguments: str, wrong: bool = False) -> None:
    """iproute2; `wrong` where it may fail, because the thing stands or is gone already."""
    process = await asyncio.create_subprocess_exec("ip", *arguments, stderr=-1)
    _, said = await process.communicate()
    if process.returncode and not wrong:
        raise RuntimeError(f"ip {' '.join(arguments)}: {said.decode()}")
