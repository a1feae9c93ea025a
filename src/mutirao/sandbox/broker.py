"""The broker: the one part with the right to build walls; it does what its narrow socket asks, and nothing else.

It knows its askers by what the kernel says about the other end (SO_PEERCRED), builds each runtime's spec itself, and
writes every change and every refusal down. A runtime outlives it; the next one finds what stands.
"""

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections.abc import Callable, Mapping
from functools import singledispatchmethod
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from mutirao.errors import SandboxError
from mutirao.sandbox import ask
from mutirao.sandbox.ask import Ask, AskError
from mutirao.sandbox.journal import Journal, Peer
from mutirao.sandbox.spec import Events, Running, RuntimeSpec

log = logging.getLogger(__name__)

READ_S = 30.0
MEND_S = 60.0
OOM_POLL_S = 0.5
"""A kernel that was killed is noticed by its server within 3 s; the member should hear why before that."""
MOST_AT_ONCE = 2048


class Backend(Protocol):
    """What builds and starts: `Sandboxes`, or another way to put up walls."""

    async def recover(self) -> tuple[Running, ...]: ...
    async def prepare(self) -> None: ...
    async def mend(self) -> bool: ...
    async def start(self, spec: RuntimeSpec) -> Running: ...
    async def poll(self, running: Running) -> int | None: ...
    async def stop(self, running: Running, grace_s: float = 5.0) -> None: ...
    def events(self, running: Running) -> Events: ...
    def log(self, running: Running, size: int = 65536) -> str: ...


class Broker:
    """`recipe` makes a spec of what was asked (SandboxError for what is not offered); `rights` says what each uid may
    ask; `known` says whether a name ever had a home.
    """

    def __init__(
        self,
        backend: Backend,
        recipe: Callable[[ask.Start], RuntimeSpec],
        rights: Mapping[int, frozenset[type[Ask]]],
        journal: Journal,
        known: Callable[[str], bool],
    ) -> None:
        self._backend = backend
        self._recipe = recipe
        self._rights = rights
        self._journal = journal
        self._known = known
        self._standing: dict[str, Running] = {}
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._served = 0

    async def open(self) -> None:
        """Find what an earlier life left running, clear away the rest, make the machine ready."""
        self._standing = {running.id: running for running in await self._backend.recover()}
        await self._backend.prepare()

    async def listen(self, path: Path) -> asyncio.Server:
        """Serve at `path` from now on; everybody may knock, the kernel says who it is."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path, limit=ask.MAX_LINE_BYTES)
        path.chmod(0o666)
        return server

    async def mend(self) -> None:
        """Look after the packet filter, which somebody's restart of nftables may flush; returns never."""
        while True:
            await asyncio.sleep(MEND_S)
            try:
                if await self._backend.mend():
                    log.warning("the packet filter was gone and has been loaded again")
            except SandboxError as error:
                log.error("the packet filter can't be mended: %s", error)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer(writer)
        self._served += 1
        try:
            answer = await self._answer(peer, reader)
            if answer:
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            log.info("pid %s went away before its answer", peer.pid)
        finally:
            self._served -= 1
            writer.close()

    async def _answer(self, peer: Peer, reader: asyncio.StreamReader) -> bytes:
        """One request, one answer; nothing for an asker who went away meanwhile."""
        act, about = "?", {}
        try:
            rights = self._rights.get(peer.uid)
            if rights is None:
                raise AskError("this user may ask for nothing here.")
            if self._served > MOST_AT_ONCE:
                raise AskError("too many ask at once: try again.")
            asked = await _read(reader)
            act, about = type(asked).__name__, _about(asked)
            if type(asked) not in rights:
                raise AskError(f"this user may not ask for {act}.")
            found = await self._while_there(asked, reader)
        except AskError as error:
            self._journal.write(peer, act, about, f"refused: {error}")
            return json.dumps({"refused": str(error)}).encode() + b"\n"
        except SandboxError as error:
            self._journal.write(peer, act, about, f"failed: {error}")
            return json.dumps({"error": str(error)}).encode() + b"\n"
        except _Gone:
            if act != "?":
                self._journal.write(peer, act, about, "the asker went away; undone")
            return b""
        except Exception as error:
            log.exception("%s failed", act)
            self._journal.write(peer, act, about, f"failed: {error!r}")
            return json.dumps({"error": "the broker failed; its log says more."}).encode() + b"\n"
        if isinstance(asked, ask.CHANGES):
            self._journal.write(peer, act, about, f"done: {json.dumps(_brief(found))}")
        return ask.answer(found)

    async def _while_there(self, asked: Ask, reader: asyncio.StreamReader) -> Any:
        """Do it; where the asker goes away meanwhile a start is undone."""
        work = asyncio.ensure_future(self._do(asked))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                raise _Gone
            return await work
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await gone

    # ------------------------------------------------------------------ what can be asked

    @singledispatchmethod
    async def _do(self, asked: Any) -> Any:
        raise AskError(f"{type(asked).__name__} is not done here.")

    @_do.register
    async def _start(self, asked: ask.Start) -> ask.Seat:
        spec = self._recipe(asked)
        names = (asked.member, asked.server)
        async with self._turns.setdefault(names, asyncio.Lock()):
            # The hub says which servers there are: it asks for one it believes not to run, or asks again because the
            # answer was lost with the broker that gave it.
            for running in [one for one in self._standing.values() if (one.member, one.walls.server) == names]:
                await self._end(running, 0)
            running = await self._backend.start(spec)
            self._standing[running.id] = running
        return ask.Seat(running.id, running.address, running.port)

    @_do.register
    async def _poll(self, asked: ask.Poll) -> int | None:
        running = self._standing.get(asked.id)
        # One that ended while nobody watched was cleared away, its status with it.
        return 0 if running is None else await self._backend.poll(running)

    @_do.register
    async def _stop(self, asked: ask.Stop) -> None:
        if running := self._standing.get(asked.id):
            await self._end(running, asked.grace_s)

    @_do.register
    async def _kills(self, asked: ask.Kills) -> int:
        loop = asyncio.get_running_loop()
        end = loop.time() + asked.wait_s
        while True:
            running = self._standing.get(asked.id)
            kills = self._backend.events(running).oom_kills if running else asked.seen
            if kills != asked.seen or loop.time() >= end:
                return kills
            await asyncio.sleep(OOM_POLL_S)

    @_do.register
    async def _log(self, asked: ask.Log) -> str:
        running = self._standing.get(asked.id)
        return "" if running is None else self._backend.log(running, asked.size)

    @_do.register
    async def _had_a_home(self, asked: ask.Known) -> bool:
        return self._known(asked.member)

    @_do.register
    async def _keep(self, asked: ask.Keep) -> tuple[str, ...]:
        orphans = [running for running in self._standing.values() if running.id not in asked.ids]
        await asyncio.gather(*(self._end(running, 0) for running in orphans))
        return tuple(running.id for running in orphans)

    @_do.register
    async def _who(self, asked: ask.Who) -> tuple[str, ...] | None:
        for running in self._standing.values():
            if running.address == asked.address:
                return running.member, running.walls.server
        return None

    async def _end(self, running: Running, grace_s: float) -> None:
        await self._backend.stop(running, grace_s)
        self._standing.pop(running.id, None)


class _Gone(Exception):
    """The asker closed the connection before the answer."""


def _peer(writer: asyncio.StreamWriter) -> Peer:
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", found)
    return Peer(pid, uid)


async def _read(reader: asyncio.StreamReader) -> Ask:
    try:
        async with asyncio.timeout(READ_S):
            text = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise AskError(f"a request has at most {ask.MAX_LINE_BYTES} bytes.") from None
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise _Gone from None
        raise AskError("a request is one whole line.") from None
    except (TimeoutError, ConnectionError):
        # No answer: an asker that was only slow asks again, and takes a refusal for the broker's word.
        raise _Gone from None
    return ask.parse(text)


def _about(asked: Ask) -> dict[str, object]:
    """What the journal says of a request: all but the environment, whose values hold tokens."""
    return {name: getattr(asked, name) for name in type(asked).__dataclass_fields__ if name != "env"}


def _brief(found: Any) -> Any:
    return found.id if isinstance(found, ask.Seat) else found
