"""The broker as its askers know it: each call is one connection, tried again while the broker restarts."""

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutirao.errors import SandboxError
from mutirao.sandbox import ask
from mutirao.sandbox.ask import Ask, AskError, Seat

AGAIN_S = 0.1
ANSWER_BYTES = 1 << 20


class BrokerAway(SandboxError):
    """The broker did not answer, so nothing is known."""


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the broker at `path`; one that is away is waited for `patience_s`, then BrokerAway is raised.

    Every request may be asked twice: a start replaces what stands under the same names, the rest is idempotent.
    """

    path: Path
    patience_s: float = 20.0

    async def start(
        self, member: str, server: str, *, environment: str, size: str, language: str, env: dict[str, str]
    ) -> Seat:
        """Start a server; SandboxError says why it can't be."""
        found = await self._ask(ask.Start(member, server, environment, size, language, env))
        return Seat(str(found["id"]), str(found["address"]), int(found["port"]))

    async def poll(self, runtime: str) -> int | None:
        """None while the runtime lives, else its exit status."""
        found = await self._ask(ask.Poll(runtime))
        return None if found is None else int(found)

    async def stop(self, runtime: str, grace_s: float = 5.0) -> None:
        """Stop the runtime; done when nothing of it is left."""
        await self._ask(ask.Stop(runtime, grace_s))

    async def kills(self, runtime: str, seen: int = -1, wait_s: float = 0.0) -> int:
        """How many of its processes were ended for want of memory, once that is not `seen` or the time is over."""
        return int(await self._ask(ask.Kills(runtime, seen, wait_s)))

    async def log(self, runtime: str, size: int = 2000) -> str:
        """The end of what its server printed."""
        return str(await self._ask(ask.Log(runtime, size)))

    async def keep(self, runtimes: tuple[str, ...]) -> tuple[str, ...]:
        """Have every other runtime stopped; those that were."""
        return tuple(map(str, await self._ask(ask.Keep(runtimes))))

    async def who(self, address: str) -> tuple[str, str] | None:
        """Member and server of the runtime with this address."""
        found = await self._ask(ask.Who(address))
        return None if found is None else (str(found[0]), str(found[1]))

    def had_a_home(self, member: str) -> bool:
        """True for a name that ever had a home here; blocks, for callers that can't wait otherwise."""
        end = time.monotonic() + self.patience_s
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(max(0.1, end - time.monotonic()))
                    connection.connect(str(self.path))
                    connection.sendall(ask.line(ask.Known(member)))
                    with connection.makefile("rb") as file:
                        return bool(_value(file.readline(ANSWER_BYTES)))
            except (OSError, _Nothing) as error:
                if time.monotonic() > end:
                    raise self._away() from error
                time.sleep(AGAIN_S)

    async def _ask(self, asked: Ask) -> Any:
        text = ask.line(asked)
        loop = asyncio.get_running_loop()
        end = loop.time() + self.patience_s
        while True:
            try:
                return _value(await self._once(text))
            except (OSError, _Nothing) as error:
                if loop.time() > end:
                    raise self._away() from error
                await asyncio.sleep(AGAIN_S)

    async def _once(self, text: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=ANSWER_BYTES)
        try:
            writer.write(text)
            # Closed only after the answer: that end of the connection is how the broker knows that we are here.
            return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _away(self) -> BrokerAway:
        return BrokerAway(f"The broker at {self.path} did not answer within {self.patience_s:g} s: is it running?")


class _Nothing(Exception):
    """The broker ended before it answered."""


def _value(text: bytes) -> Any:
    if not text.endswith(b"\n"):
        raise _Nothing
    match json.loads(text):
        case {"answer": value}:
            return value
        case {"refused": str(said)}:
            raise AskError(f"the broker refuses: {said}")
        case {"error": str(said)}:
            raise SandboxError(said)
    raise SandboxError(f"the broker answered what is no answer: {text[:100]!r}")
