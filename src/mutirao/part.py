"""One part of the service as a child process: started, watched, restarted, stopped."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mutirao.accounts import Account
from mutirao.errors import MutiraoError

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
RESTARTS = 5
"""So many deaths within RESTART_WINDOW_S mean that a part can't live."""
RESTART_WINDOW_S = 30.0
LONGEST_WAIT_S = 30.0
EX_CONFIG = 78
"""The exit status (sysexits.h) by which a part says that trying again is no use."""
SETPRIV = "/usr/bin/setpriv"


class PartError(MutiraoError):
    """A part of the service can't be started or kept alive."""


@dataclass(frozen=True, slots=True)
class Part:
    """What to run and as whom; `account` None keeps the caller's user. Output goes to `log_file`.

    Under an account a part has no supplementary groups, can gain no privileges, and has no capabilities but those
    named here, such as `net_bind_service`.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_file: Path
    cwd: Path
    account: Account | None = None
    capabilities: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10

    def command(self) -> list[str]:
        """The command line, through setpriv(1) where the part gives up its rights.

        setpriv asks for the death signal last of all: the kernel forgets it when a process changes its uid.
        """
        if self.account is None:
            return list(self.argv)
        only = ",".join(("-all", *(f"+{name}" for name in self.capabilities)))
        return [
            *(SETPRIV, "--reuid", str(self.account.uid), "--regid", str(self.account.gid), "--clear-groups"),
            *(f"--bounding-set={only}", f"--inh-caps={only}", f"--ambient-caps={only}"),
            *("--no-new-privs", "--pdeathsig", "KILL", "--", *self.argv),
        ]


def _die_with_parent() -> None:
    """Ask the kernel to kill this child when the supervisor dies, however it dies (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass(slots=True)
class Keeper:
    """Keeps one part alive until told to stop; `dead` is called when it can't.

    A `patient` keeper never gives up: it waits longer each time, up to half a minute, and leaves the others alone.
    """

    part: Part
    dead: Callable[["Keeper", str], None]
    patient: bool = False
    process: asyncio.subprocess.Process | None = None
    restarted: Callable[[], Awaitable[None]] | None = None
    _deaths: list[float] = field(default_factory=list)
    _stopping: bool = False
    _watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the part, and from then on restart it whenever it dies."""
        await self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        part = self.part
        program = Path(part.argv[0])
        if program.is_absolute() and not os.access(program, os.X_OK):
            # Else setpriv would say so, in the part's log, where nobody looks first.
            raise PartError(f"The {part.name} can't be started: {program} is not there, or is no program.")
        try:
            with part.log_file.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    *part.command(),
                    env=dict(part.env),
                    cwd=part.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    umask=0o022 if part.account is None else part.account.umask,
                    preexec_fn=_die_with_parent,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise PartError(f"The {part.name} can't be started: {error}.") from error

    async def _keep(self) -> None:
        while True:
            assert self.process is not None
            status = await self.process.wait()
            if self._stopping:
                return
            now = time.monotonic()
            self._deaths = [at for at in self._deaths if now - at < RESTART_WINDOW_S] + [now]
            log.warning("%s ended with status %s", self.part.name, status)
            if not self.patient and (status == EX_CONFIG or len(self._deaths) >= RESTARTS):
                self.dead(self, self.tail())
                return
            await asyncio.sleep(min(LONGEST_WAIT_S, 0.1 * 2 ** min(len(self._deaths), 12)))
            try:
                await self._spawn()
            except PartError as error:
                if self.patient:
                    log.error("%s", error)
                    continue
                self.dead(self, str(error))
                return
            if self.restarted:
                await self.restarted()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the part's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.part.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def stop(self) -> None:
        """Stop the part, and whatever it left in its process group; killed if it takes longer than its time."""
        self._stopping = True
        if self._watch:
            # First of all, or a part that has just died would be started again behind our back.
            self._watch.cancel()
            await asyncio.wait([self._watch])
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.part.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.part.stop_timeout_s)
            except TimeoutError:
                log.warning("%s did not stop in %s s and is killed", self.part.name, self.part.stop_timeout_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
