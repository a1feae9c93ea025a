"""Where the attempts are made: one who tries, a neighbour who must not notice, and a host full of things to reach.

Another way to start a runtime needs one more function like `root_stage`, and the table runs against it.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mutirao.sandbox.sandboxes import Sandboxes
from tests.sandbox.battery.attempt import Attempt, Control, Outcome, Row, outcome_of, run_outside, source
from tests.sandbox.house import (
    HUB_PORT,
    LIMITS,
    LISTENER,
    METADATA,
    OUTSIDE,
    PORT,
    PRIVATE,
    RESOLVER,
    SUBNET,
    Guest,
    House,
    Refused,
)
from tests.sandbox.rootless_house import asked, passable

BESIDE_PORT = 443
TIMEOUT_S = 120
SECRET = "battery-secret"
HOST_PUBLIC, HOST_PRIVATE = "203.0.113.1", "10.99.7.1"


@dataclass
class Stage:
    """The house with its two guests, and the facts that the programs know."""

    house: House
    rootless: bool
    facts: dict[str, Any]
    outside_facts: dict[str, Any]
    member: Guest
    neighbour: Guest
    victim: "subprocess.Popen[bytes]"
    host_file: Path
    changes: Mapping[str, Any] = field(default_factory=dict)

    def perform(self, attempt: Attempt) -> Row:
        """Make the attempt, look what came of it, and whether everybody else is well."""
        inside = self._try_with_neighbour(attempt) if attempt.heavy else self._try(attempt)
        expected = attempt.expected(self.rootless)
        row = Row(attempt, expected, inside, expected.holds(inside))
        if not row.held:
            row.notes.append(f"expected {expected}")
        if attempt.then and not getattr(self, attempt.then)():
            row.held = False
            row.notes.append(f"afterwards not: {attempt.then}")
        # Outside is the same for both modes, but what stands at other places.
        again = not self.rootless or attempt.category in ("files", "network", "processes")
        if attempt.control is Control.OUTSIDE and again:
            row.outside = run_outside(attempt.program, self.outside_facts)
            if row.outside.code in attempt.lacking:
                row.notes.append("this kernel lacks it")
            elif attempt.must.holds(row.outside):
                row.held = False
                row.notes.append(f"outside too it comes to {row.outside}: the attempt proves nothing")
        row.notes += self.harm()
        row.held = row.held and not self.harm()
        return row

    def harm(self) -> list[str]:
        """What should be well and is not: the host's process and file, and the neighbour."""
        found = []
        if self.victim.poll() is not None:
            found.append("the host's process is gone")
        if self.host_file.read_text() != "of the host" or list(self.host_file.parent.iterdir()) != [self.host_file]:
            found.append("the host's file was touched")
        try:
            if self.neighbour("result = open('/home/member/diary').read()", TIMEOUT_S) != "bob's":
                found.append("the neighbour's file was touched")
        except (OSError, Refused) as error:
            found.append(f"the neighbour does not answer: {error}")
        return found

    def _try(self, attempt: Attempt) -> Outcome:
        self._alive()
        program = source(attempt.program, self.facts)
        if attempt.in_server:
            code = f"F, NUMBERS = {self.facts!r}, {{}}\nimport os\n{attempt.program}"
        else:
            code = (
                "import subprocess, sys\n"
                f"d = subprocess.run([sys.executable, '-I', '-c', {program!r}], capture_output=True, text=True, "
                f"stdin=subprocess.DEVNULL, cwd='/home/member', timeout={TIMEOUT_S})\n"
                "result = [d.stdout, d.stderr[-300:]]\n"
            )
        try:
            found = self.member(code, TIMEOUT_S + 10)
        except Refused as error:
            return Outcome(error=error.kind, code=error.errno)
        except (OSError, json.JSONDecodeError):
            if self._ended():
                return Outcome(ended=True)
            raise
        return Outcome(result=found) if attempt.in_server else outcome_of(found[0])

    def _try_with_neighbour(self, attempt: Attempt) -> Outcome:
        """While one tries, the other's cells go on running."""
        with ThreadPoolExecutor(1) as threads:
            trying = threads.submit(self._try, attempt)
            while not trying.done():
                assert self.neighbour("result = sum(range(1000))", TIMEOUT_S) == 499500
            return trying.result()

    def _ended(self) -> bool:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.house.run(self.house.sandboxes.poll(self.member.running)) is not None:
                return True
            time.sleep(0.02)
        return False

    def _alive(self) -> None:
        """Start the one who tries again if the last attempt has ended the runtime."""
        if not self.member.answers():
            self._again()

    def _again(self, **changes: Any) -> None:
        self.house.run(self.house.sandboxes.stop(self.member.running, 0))
        self.member = self.house.start("mallory", **{**self.changes, **changes})

    # ------------------------------------------------------------------ what must be true afterwards

    def home_opens_again(self) -> bool:
        """The home is closed and opened once more, grown too, and the member finds what they planted."""
        disk_mb = self.facts["disk_mb"] + 8
        self.facts["disk_mb"] = disk_mb
        limits = replace(LIMITS, disk_mb=disk_mb)
        self.changes = {**self.changes, "limits": limits}
        self._again()
        clean = (
            "import os, subprocess\nos.chmod('/home/member', 0o700)\n"
            "found = os.listdir('/home/member')\n"
            "subprocess.run('find . -mindepth 1 -delete', shell=True, cwd='/home/member')\n"
            "result = len(found)"
        )
        return bool(self.member(clean) >= 0)

    def log_is_small(self) -> bool:
        """What the server printed takes no more room than it may."""
        self.house.run(self.house.sandboxes.poll(self.member.running))
        return len(self.house.sandboxes.log(self.member.running, 1 << 30)) <= 4 << 20

    def log_is_plain(self) -> bool:
        """The log as the service shows it drives no terminal."""
        text = self.house.sandboxes.log(self.member.running)
        return "red" in text and not any(c in text for c in "\x1b\x07\r\x9b\u202e")


@contextlib.contextmanager
def things(hub: str, hub_port: int, tcp: tuple[str, ...], run: Path) -> Iterator[dict[str, Any]]:
    """What stands on the host to be reached for: listeners, sockets, files, shared memory, a process.

    `tcp`: more listeners as "kind,address,port". Everything ends with this context.
    """
    mark = secrets.token_hex(4)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutirao-battery-", dir="/tmp")))
        folder.chmod(0o755)
        (folder / "host").mkdir()
        host_file = folder / "host" / "file"
        host_file.write_text("of the host")
        (folder / "home").mkdir()
        (folder / "home" / "diary").write_text("outside")
        shm = Path(f"/dev/shm/mutirao-{mark}")
        shm.write_text("of the host")
        stack.callback(shm.unlink)
        loopback, wild = _free_port(), _free_port()
        words = [f"tcp,127.0.0.1,{loopback}", f"tcp,0.0.0.0,{wild}", *tcp, f"udp,{hub},53"]
        stack.enter_context(_process([sys.executable, "-c", LISTENER, *words], b"ready\n"))
        victim = stack.enter_context(
            _process([sys.executable, "-c", _VICTIM, mark, str(run / "broker.sock"), "battery-victim"], b"ready")
        )
        words = victim.ready.split()
        yield {
            "loopback_port": loopback,
            "wild_port": wild,
            "wild6_port": int(words[2]),
            "victim": victim.process.pid,
            "process": victim.process,
            "abstract": f"mutirao-{mark}",
            "broker": str(run / "broker.sock"),
            "shm_key": int(words[1]),
            "host_file": str(host_file),
            "host_folder": str(host_file.parent),
            "host_shm": str(shm),
            "home_here": str(folder / "home"),
            "hub_address": hub,
            "hub_port": hub_port,
            "dns_port": 53,
            "outside": OUTSIDE,
            "resolver": RESOLVER,
            "private": PRIVATE,
            "metadata": METADATA,
            "host_public": HOST_PUBLIC,
            "host_private": HOST_PRIVATE,
        }


_VICTIM = """
import ctypes, os, signal, socket, sys
mark, broker = sys.argv[1:3]
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0mutirao-" + mark)
abstract.listen()
named = socket.socket(socket.AF_UNIX)
named.bind(broker)
os.chmod(broker, 0o666)
named.listen()
six = socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET)
try:
    six.bind(("::", 0))
    six.listen()
    port = six.getsockname()[1]
except OSError:
    port = 1
libc = ctypes.CDLL(None)
key = 0x6d000000 | int(mark[:4], 16)
shm = libc.shmget(key, 4096, 0o1666)
def end(*_):
    libc.shmctl(shm, 0, 0)
    os.unlink(broker)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", key, port, flush=True)
signal.pause()
"""


@dataclass
class _Started:
    process: "subprocess.Popen[bytes]"
    ready: str


@contextlib.contextmanager
def _process(words: list[str], ready: bytes) -> Iterator[_Started]:
    environment = {**os.environ, "SECRET": SECRET}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, start_new_session=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith(ready), line
        yield _Started(process, line.decode())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


@contextlib.contextmanager
def root_stage(data: Path) -> Iterator[Stage]:
    """The stage of root mode; the outside of `tests.sandbox.conftest` must stand."""
    sandboxes = Sandboxes(data, subnet=SUBNET, hub_ports=(HUB_PORT,))
    with asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        try:
            with stage(House(sandboxes, runner), rootless=False, data=data, run=Path("/run/mutirao")) as made:
                yield made
        finally:
            runner.run(sandboxes.teardown(grace_s=0))


@contextlib.contextmanager
def rootless_stage(folder: Path) -> Iterator[Stage]:
    """The stage of rootless mode, with the sandboxes of an ordinary user."""
    passable(folder)
    with asked(folder / "data", HUB_PORT) as sandboxes, asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        try:
            house = House(sandboxes, runner)  # type: ignore[arg-type]
            run = folder / "run"
            run.mkdir()
            with stage(house, rootless=True, data=folder / "data", run=run) as made:
                yield made
        finally:
            runner.run(sandboxes.teardown(grace_s=0))


@contextlib.contextmanager
def stage(house: House, *, rootless: bool, data: Path, run: Path, **changes: Any) -> Iterator[Stage]:
    """Two guests in `house`, and the host's things around them."""
    _high_pids()
    hub = house.sandboxes.hub_address
    tcp = (f"tcp,{hub},{HUB_PORT}", f"tcp,{hub},{BESIDE_PORT}", f"tcp,{HOST_PUBLIC},443")
    with things(hub, HUB_PORT, tcp, run) as found:
        process = found.pop("process")
        neighbour = house.start("bob", **changes)
        neighbour("open('/home/member/diary', 'w').write(\"bob's\")")
        neighbour(
            "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0battery-neighbour'); s.listen(); "
            "__builtins__['abstract'] = s"
        )
        member = house.start("mallory", **changes)
        facts = found | {
            "beside_port": BESIDE_PORT,
            "neighbour_home": neighbour.running.walls.home,
            "neighbour_address": neighbour.running.address,
            "neighbour_port": PORT,
            "neighbour_pid": neighbour.running.child_pid,
            "neighbour_uid": neighbour.running.uid,
            "neighbour_abstract": "battery-neighbour",
            "data": str(data),
            "run": str(run),
            "cgroup_name": member.running.id,
            "disk_mb": LIMITS.disk_mb,
            "processes": LIMITS.processes,
            # Outside, a process that root may always join: pid 1 of a container may be out of its root's reach.
            "first": found["victim"],
        }
        inside = facts | {"home_here": "/home/member", "first": 1}
        yield Stage(house, rootless, inside, facts, member, neighbour, process, Path(found["host_file"]), dict(changes))


def _high_pids() -> None:
    """Let the next pids of the host be such as no runtime has inside, where they begin at 1."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    with contextlib.suppress(OSError):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(highest - min(20_000, highest // 2)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])
