"""Doors from a rootless runtime to the hub: listeners inside its network namespace, carried to the host's loopback.

The host's side of each connection comes from the runtime's own loopback address, so whoever listens there knows whose
runtime asks, as with root the packet filter's address says. The doors live in the process that opened them; another
one that recovers the runtimes opens them again.
"""

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections import Counter

from mutirao.errors import SandboxError
from mutirao.sandbox.launch import ROOT_ENV
from mutirao.sandbox.pasta import Holder

LOOPBACK = "127.0.0.1"
MOST = 64
"""So many connections one runtime may have to the hub at once."""
CHUNK = 65536

_LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"x"], [listener.fileno()])
"""


class Doors:
    """All doors of one process, on a loop and a thread of their own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def open(self, name: str, holder: Holder, address: str, ports: tuple[int, ...]) -> None:
        """Let the runtime `name` reach the host's loopback at `ports`; there it comes from `address`."""
        self.close(name)
        for port in ports:
            listener = _listener(holder, port)
            work = asyncio.run_coroutine_threadsafe(self._serve(name, listener, address, port), self._running())
            work.result(10)

    def close(self, name: str) -> None:
        """Shut the doors of a runtime; connections that stand end with it."""
        servers = self._servers.pop(name, [])
        if servers and self._loop:
            for server in servers:
                self._loop.call_soon_threadsafe(server.close)

    def end(self) -> None:
        """Shut all doors and end the thread."""
        for name in list(self._servers):
            self.close(name)
        with self._lock:
            if self._loop:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="mutirao-doors", daemon=True).start()
            return self._loop

    async def _serve(self, name: str, listener: socket.socket, address: str, port: int) -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._open[name] >= MOST:
                writer.close()
                return
            self._open[name] += 1
            try:
                await _carry(reader, writer, address, port)
            finally:
                self._open[name] -= 1

        self._servers.setdefault(name, []).append(await asyncio.start_server(carry, sock=listener))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    with contextlib.suppress(OSError):
        there, back = await asyncio.open_connection(LOOPBACK, port, local_addr=(address, 0))
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            back.close()
    writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def _listener(holder: Holder, port: int) -> socket.socket:
    """A socket that listens on the namespace's loopback, made by a process that enters it and hands it over."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [*holder.enter(), "/usr/bin/python3", "-I", "-c", _LISTEN, str(port), str(theirs.fileno())]
        done = subprocess.run(
            words, pass_fds=(theirs.fileno(),), capture_output=True, text=True, check=False, env=ROOT_ENV, cwd="/"
        )
        if done.returncode:
            *_, said = done.stderr.strip().splitlines() or ["no word"]
            raise SandboxError(f"a runtime's door to the hub at port {port} can't be opened: {said}.")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptors[0])
