"""A real PostgreSQL server for tests: its own folder, its own socket, gone with the test session."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

FAST = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60")


def programs() -> Path | None:
    """Where initdb and postgres are: Debian keeps them off the PATH, one folder a version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    found = shutil.which("initdb")
    folders += [Path(found).parent] if found else []
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Server:
    """A server below `folder`, reached by its socket; may be killed, hung, stopped and started again."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self.bin = bin_folder
        self.data = folder / "data"
        # Root may not run PostgreSQL.
        self._as = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
        if self._as is not None:
            os.chown(folder, self._as, -1)
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--no-locale")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def start(self) -> None:
        options = " ".join(f"-c {option}" for option in FAST)
        options += f" -c listen_addresses='' -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        for tries_left in reversed(range(100)):
            try:
                self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", options, "start")
                return
            except RuntimeError:
                # After a kill it refuses as long as a child that was just being born holds the shared memory.
                if not tries_left:
                    raise
                time.sleep(0.1)

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", how, "stop")

    def kill(self) -> None:
        """Like a machine that fails: the postmaster is killed, and its children follow it."""
        pids = self.processes()
        os.kill(pids[0], signal.SIGKILL)
        while any(_alive(pid) for pid in pids):
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """The postmaster first, then its children, connections included."""
        main = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [main, *map(int, children)]

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Nothing answers, and no connection breaks."""
        stopped = self.processes()
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def fresh(self, template: str = "template0") -> str:
        """The address of a new database."""
        name = f"x{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database: hundreds of them take gigabytes, and a minute to remove at the end."""
        name = url.removeprefix("postgresql://postgres@/").partition("?")[0]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            user=self._as,
            cwd=self.folder,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout!r}")


def _alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextmanager
def server() -> Iterator[Server]:
    """A server that runs; its folder is short, because a socket's path has 107 characters at most."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="mu-pg-", dir="/tmp"))
    folder.chmod(0o755)
    started = Server(folder, bin_folder)
    try:
        started.start()
        yield started
    finally:
        with suppress(RuntimeError):
            started.stop()
        shutil.rmtree(folder)
