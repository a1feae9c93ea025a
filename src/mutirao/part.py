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

from mutirao import logs
from mutirao.errors import MutiraoError

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
RESTARTS = 5
"""So many deaths within RESTART_WINDOW_S mean that a part can't live."""
RESTART_WINDOW_S = 30.0


class PartError(MutiraoError):
    """A part of the service can't be started or kept alive."""


@dataclass(frozen=True, slots=True)
class Part:
    """What to run and as whom; `uid` None keeps the caller's. Output goes to `log_file`."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_file: Path
    cwd: Path
    uid: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10


def _die_with_parent() -> None:
    """Ask the kernel to kill this child when the supervisor dies, however it dies (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass(slots=True)
class Keeper:
    """Keeps one part alive until told to stop; `dead` is called when it can't."""

    part: Part
    dead: Callable[["Keeper", str], None]
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
        try:
            with part.log_file.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    *part.argv,
                    env=dict(part.env),
                    cwd=part.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    umask=0o022 if part.uid is None else 0o077,
                    preexec_fn=_die_with_parent,
                    user=part.uid,
                    group=part.uid,
                    extra_groups=None if part.uid is None else [],
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
            if len(self._deaths) >= RESTARTS:
                self.dead(self, self.tail())
                return
            await asyncio.sleep(0.2 * len(self._deaths))
            try:
                await self._spawn()
            except PartError as error:
                self.dead(self, str(error))
                return
            if self.restarted:
                await self.restarted()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the part's log."""
        with contextlib.suppress(OSError):
            return logs.tail(self.part.log_file, lines)
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
