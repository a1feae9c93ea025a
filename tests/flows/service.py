"""A real Mutirão for a test: started by `mutirao up`, stopped like Ctrl-C, with nothing left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutirao.accounts import Account
from mutirao.supervisor import free_ports

ROOT = Path(__file__).parents[2]
PASSWORD = "a demo password"
READY_TIMEOUT_S = 300
STOP_TIMEOUT_S = 90


@dataclass
class Service:
    """A running instance; `data` is its folder, `output` what it printed."""

    process: subprocess.Popen[bytes]
    url: str
    data: Path
    output: Path
    config: Path

    def command(self, *arguments: str) -> str:
        """Run `mutirao …` for this instance; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "mutirao", *arguments, "--config", str(self.config)],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def stop(self) -> None:
        """Like Ctrl-C; returns when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_TIMEOUT_S)


def environment() -> dict[str, str]:
    """Our own environment, with the staged package that every uid can read."""
    app = os.environ.get("MUTIRAO_APP", str(ROOT / "src"))
    return os.environ | {"PYTHONPATH": app, "MUTIRAO_PASSWORD": PASSWORD}


def as_part(account: Account | None, code: str, *arguments: str) -> str:
    """Run a few lines of Python as one of the service's own users, as it would itself; what they printed."""
    assert account is not None
    command = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--inh-caps=-all"]
    done = subprocess.run(
        [*command, sys.executable, "-c", code, *arguments],
        env=environment(),
        umask=account.umask,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> int:
    """A port on loopback that is free now."""
    return free_ports("127.0.0.1", 1)[0]


@contextlib.contextmanager
def running(
    subnet: str,
    extra: str = "",
    *,
    demo: bool = True,
    host: str = "",
    scheme: str = "http",
    service: str = "",
    data: Path | None = None,
    uid: int | None = None,
) -> Iterator[Service]:
    """An instance with a data folder of its own, or with `data`, which is kept.

    `extra` is added to its mutirao.toml, `service` to that table. With a `host` members are on subdomains of it;
    Chromium takes every *.localhost for loopback. `uid` starts it instead of root.
    """
    kept_data = data is not None
    if data is None:
        # Not pytest's tmp_path: that is 0700, and the members' uids must get through.
        data = Path(tempfile.mkdtemp(prefix="mutirao-test-", dir="/var/tmp"))
        data.chmod(0o711)
    port = free_port()
    config = (data.parent if kept_data else data) / "mutirao.toml"
    url = f"{scheme}://{host or '127.0.0.1'}:{port}"
    if host:
        service += f'subdomain_host = "{url}"\n'
    config.write_text(f'[service]\nport = {port}\ndata = "{data}"\n{service}[sandbox]\nsubnet = "{subnet}"\n{extra}')
    output = config.with_name("output.txt")
    with output.open("wb") as file:
        command = [sys.executable, "-m", "mutirao", "up", "--config", str(config), *(["--demo"] if demo else [])]
        if uid is not None:
            os.chown(data, uid, uid)
        process = subprocess.Popen(
            command,
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
            cwd="/" if uid is not None else None,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
    started = Service(process, url, data, output, config)
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while "is ready" not in output.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start:\n{output.read_text()}")
            time.sleep(0.1)
        yield started
    finally:
        started.stop()
        kept = os.environ.get("MUTIRAO_KEEP_LOGS")
        if kept:
            shutil.copytree(data / "logs", Path(kept) / data.name, dirs_exist_ok=True)
        if not kept_data:
            shutil.rmtree(data)


@dataclass(frozen=True)
class Left:
    """What a service leaves on the machine while it runs."""

    processes: frozenset[str]
    links: frozenset[str]
    mounts: frozenset[str]
    groups: frozenset[str]
    tables: frozenset[str]
    routes: frozenset[str]


def survey() -> Left:
    """Everything on this machine that may be ours: compare before and after."""

    def lines(*command: str) -> frozenset[str]:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return frozenset(found)

    groups = frozenset(
        str(path) for base in (Path("/sys/fs/cgroup"),) for path in base.rglob("*mutirao*") if path.is_dir()
    )
    mounts = frozenset(
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if "mutirao" in line
    )
    processes = frozenset(
        line
        for line in lines("ps", "-eo", "uid=,args=")
        if any(
            mark in line for mark in ("bwrap", "jupyterhub", "configurable-http-proxy", "mutirao.gate", "mutirao.web")
        )
    )
    return Left(
        processes,
        frozenset(line.split(":")[1].split("@")[0].strip() for line in lines("ip", "-o", "link")),
        mounts,
        groups,
        lines("nft", "list", "tables"),
        lines("ip", "route", "show", "table", "all"),
    )
