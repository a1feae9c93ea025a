"""A few reader processes: started when needed, killed when they take too long, replaced when they die."""

import asyncio
import json
import logging
import os
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from mutirao.errors import MutiraoError
from mutirao.gate.reader import task

log = logging.getLogger(__name__)

READERS = 2
MEMORY_MB = 1024
LONGEST_S = 15.0
"""A task that takes longer is given up, and its reader killed: ten times what the slowest known cell takes."""
_LONGEST_ANSWER = 64 << 20
_TASKS_EACH = 2_000
_LARGE_BODY = 8 << 20
_PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "MUTIRAO_HOME")


class ReaderGone(MutiraoError):
    """A reader died or was killed over a task of `seconds`; what it read was not judged."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Reader:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.worn = False
        self._tasks = 0

    async def ask(self, head: dict[str, Any], body: bytes) -> dict[str, Any]:
        self._tasks += 1
        # Python gives memory back late and in parts: one that held a large text starts afresh.
        self.worn = self._tasks >= _TASKS_EACH or len(body) > _LARGE_BODY
        for piece in task(head, body):
            self._stdin.write(piece)
        await self._stdin.drain()
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        (length,) = struct.unpack("!Q", await self._stdout.readexactly(8))
        if length > _LONGEST_ANSWER:
            raise ReaderGone(f"A reader answers {length} bytes: that is no reader any more.")
        answer = json.loads(await self._stdout.readexactly(length))
        if not isinstance(answer, dict):
            raise ReaderGone("A reader answers something else than an object.")
        return answer

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._stdin.close()


class Readers:
    """Whoever asks first is served first; `count` tasks at a time."""

    def __init__(
        self,
        count: int = READERS,
        memory_mb: int = MEMORY_MB,
        longest_s: float = LONGEST_S,
        command: Sequence[str] = (sys.executable, "-m", "mutirao.gate.reader"),
    ) -> None:
        self._free = asyncio.Semaphore(count)
        self._memory_mb = memory_mb
        self._longest_s = longest_s
        self._command = tuple(command)
        self._idle: list[_Reader] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.deaths = 0

    def warm(self) -> None:
        """Start one reader, so that the first long cell need not wait for it."""
        self._keep(asyncio.create_task(self._warm()))

    async def _warm(self) -> None:
        async with self._free:
            if not self._idle:
                with suppress(ReaderGone, OSError):
                    self._idle.append(await self._spawn())

    async def ask(self, head: dict[str, Any], body: bytes) -> dict[str, Any]:
        """The answer to a task, with the `seconds` that it took; ReaderGone where there is none.

        A caller that gives up leaves the task to its end: killing a reader for everybody who hangs up would cost more.
        """
        return await asyncio.shield(self._keep(asyncio.create_task(self._ask(head, body))))

    async def close(self) -> None:
        """End every reader."""
        for running in list(self._tasks):
            running.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(reader.end() for reader in self._idle))
        self._idle.clear()

    async def _ask(self, head: dict[str, Any], body: bytes) -> dict[str, Any]:
        async with self._free:
            reader = self._idle.pop() if self._idle else await self._spawn()
            began = perf_counter()
            try:
                async with asyncio.timeout(self._longest_s):
                    answer = await reader.ask(head, body)
            except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError, ReaderGone) as error:
                self.deaths += 1
                log.error("A reader was lost over a task of %d bytes: %s", len(body), type(error).__name__)
                await reader.end()
                raise ReaderGone(f"A reader was lost ({type(error).__name__}).", perf_counter() - began) from error
            except BaseException:
                await reader.end()
                raise
            if reader.worn:
                await reader.end()
            else:
                self._idle.append(reader)
            return answer | {"seconds": perf_counter() - began}

    async def _spawn(self) -> _Reader:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(self._memory_mb),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            close_fds=True,
        )
        reader = _Reader(process)
        try:
            async with asyncio.timeout(4 * self._longest_s):
                await reader.answer()
        except BaseException as error:
            await reader.end()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ReaderGone(f"A reader did not start ({type(error).__name__}).") from error
        return reader

    def _keep(self, running: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(running)
        running.add_done_callback(self._done)
        return running

    def _done(self, ended: asyncio.Task[Any]) -> None:
        self._tasks.discard(ended)
        if not ended.cancelled():
            ended.exception()  # whoever waited has it; nobody else need hear of it
