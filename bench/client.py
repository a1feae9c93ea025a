"""A person without a browser: logs in at a hub, starts a server and runs cells through its websocket.

Used by benchmarks and end-to-end tests, against ours and against stock JupyterHub alike.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"


@dataclass(slots=True)
class Ran:
    """What a cell gave back: every message with this cell as its parent, in order, as (channel, type, content)."""

    messages: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    seconds: float = 0.0

    def contents(self, kind: str) -> list[dict[str, Any]]:
        """The contents of all messages of one type."""
        return [content for _, found, content in self.messages if found == kind]

    @property
    def reply(self) -> dict[str, Any]:
        """The content of the execute_reply."""
        return self.contents("execute_reply")[0]

    @property
    def text(self) -> str:
        """Everything printed and shown, as plain text."""
        parts = [content["text"] for content in self.contents("stream")]
        for kind in ("execute_result", "display_data"):
            parts += [content["data"].get("text/plain", "") for content in self.contents(kind)]
        return "".join(parts)

    @property
    def refused(self) -> bool:
        """True where the gate did not run the cell."""
        return self.reply.get("ename") == "NotRun"

    @property
    def warned(self) -> bool:
        """True where the gate showed a notice above the output."""
        return any('role="alert"' in content["data"].get("text/html", "") for content in self.contents("display_data"))


class Kernel:
    """One websocket to one kernel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.session = uuid.uuid4().hex

    def request(self, kind: str, content: dict[str, Any], channel: str = "shell") -> tuple[str, bytes | str]:
        """A message's id and its frame, in the format that was agreed on."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "username": "",
            "session": self.session,
            "date": "2026-01-01T00:00:00Z",
            "version": "5.3",
        }
        if self.socket.protocol == SUBPROTOCOL:
            return header["msg_id"], pack(channel, header, content)
        message = {"channel": channel, "header": header, "parent_header": {}, "metadata": {}, "content": content}
        return header["msg_id"], json.dumps(message | {"buffers": []})

    async def send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send one message; its id."""
        number, frame = self.request(kind, content, channel)
        if isinstance(frame, bytes):
            await self.socket.send_bytes(frame)
        else:
            await self.socket.send_str(frame)
        return number

    async def receive(self) -> tuple[str, str, str, dict[str, Any]]:
        """The next message: its channel, type, parent's id and content."""
        received = await self.socket.receive()
        if received.type is aiohttp.WSMsgType.TEXT:
            message = json.loads(received.data)
            return (
                message["channel"],
                message["msg_type"],
                message["parent_header"].get("msg_id", ""),
                message["content"],
            )
        if received.type is aiohttp.WSMsgType.BINARY:
            return unpack(received.data)
        raise ConnectionError(f"the websocket ended: {received}")

    async def run(self, code: str, timeout_s: float = 60, **content: Any) -> Ran:
        """Run a cell and wait for its reply and for idle."""
        ran = Ran()
        began = time.perf_counter()
        values = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        number = await self.send("execute_request", values | {"stop_on_error": True} | content)
        replied = idle = False
        async with asyncio.timeout(timeout_s):
            while not (replied and idle):
                channel, kind, parent, body = await self.receive()
                if parent != number:
                    continue
                ran.messages.append((channel, kind, body))
                replied = replied or kind == "execute_reply"
                idle = idle or (kind == "status" and body["execution_state"] == "idle")
        ran.seconds = time.perf_counter() - began
        return ran

    async def ready(self, timeout_s: float = 60) -> None:
        """Wait until the kernel answers."""
        async with asyncio.timeout(timeout_s):
            number = await self.send("kernel_info_request", {})
            while True:
                _, kind, parent, _ = await self.receive()
                if kind == "kernel_info_reply" and parent == number:
                    return


class Member:
    """One person at a hub; use as an async context.

    Without `keep_alive` each request has a connection of its own, as a browser's websocket has: where there is no
    route yet, configurable-http-proxy 5 answers a handshake with 404 and then reads no more from that connection,
    which a pool would use again.
    """

    def __init__(
        self, hub: str, name: str, password: str, accept_language: str = "en", *, keep_alive: bool = True
    ) -> None:
        self.hub = URL(hub.rstrip("/") + "/")
        self.name = name
        self.password = password
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=not keep_alive),
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            headers={"Accept-Language": accept_language},
        )

    async def __aenter__(self) -> Self:
        try:
            await self.login()
        except BaseException:
            await self.http.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    @property
    def server(self) -> URL:
        """The address of the member's server."""
        return self.hub / "user" / self.name / ""

    def _xsrf(self, path: str) -> str:
        cookies = self.http.cookie_jar.filter_cookies(self.hub.with_path(path))
        return cookies["_xsrf"].value if "_xsrf" in cookies else ""

    async def login(self) -> None:
        """Log in by the hub's form."""
        async with self.http.get(self.hub / "hub/login") as page:
            page.raise_for_status()
        form = {"username": self.name, "password": self.password, "_xsrf": self._xsrf("/hub/login")}
        async with self.http.post(self.hub / "hub/login", data=form, allow_redirects=False) as answer:
            if answer.status != 302:
                raise PermissionError(f"{self.name} can't log in: {answer.status}")

    async def api(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Ask the hub's API with this person's cookie: status and JSON."""
        headers = {"X-XSRFToken": self._xsrf("/hub/api"), "Referer": str(self.hub / "hub/home")}
        async with self.http.request(method, self.hub / "hub/api" / path, headers=headers, **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def start(self, options: dict[str, str] | None = None, timeout_s: float = 120) -> None:
        """Start the server, and log in there too."""
        async with self.http.get(self.hub / "hub/home") as page:
            page.raise_for_status()
        status, said = await self.api("POST", f"users/{self.name}/server", json=options or {})
        if status not in (201, 202):
            raise RuntimeError(f"{self.name}'s server can't start: {status} {said}")
        async with asyncio.timeout(timeout_s):
            while True:
                _, model = await self.api("GET", f"users/{self.name}")
                server = model.get("servers", {}).get("")
                if server and server["ready"]:
                    break
                if status == 202 and not server:
                    raise RuntimeError(f"{self.name}'s server did not come up")
                await asyncio.sleep(0.05)
        async with self.http.get(self.server / "lab") as page:
            page.raise_for_status()
            await page.read()

    async def stop(self, timeout_s: float = 60) -> None:
        """Stop the server and wait until it is gone."""
        await self.api("DELETE", f"users/{self.name}/server")
        async with asyncio.timeout(timeout_s):
            while (await self.api("GET", f"users/{self.name}"))[1].get("servers"):
                await asyncio.sleep(0.05)

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Ask the member's own server: status and JSON."""
        headers = {"X-XSRFToken": self._xsrf(self.server.path), "Referer": str(self.server / "lab")}
        async with self.http.request(method, self.server / path, headers=headers, **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def new_kernel(self) -> str:
        """Start a kernel; its id."""
        status, model = await self.request("POST", "api/kernels", json={"name": "python3"})
        if status != 201:
            raise RuntimeError(f"no kernel: {status} {model}")
        return str(model["id"])

    @asynccontextmanager
    async def kernel(
        self, number: str | None = None, protocols: tuple[str, ...] = (SUBPROTOCOL,)
    ) -> AsyncIterator[Kernel]:
        """A websocket to a kernel, a new one unless named; the kernel lives on."""
        number = number or await self.new_kernel()
        url = self.server / f"api/kernels/{number}/channels" % {"session_id": uuid.uuid4().hex}
        async with self.http.ws_connect(
            url, protocols=protocols, max_msg_size=0, headers={"Origin": str(self.server.origin())}
        ) as socket:
            kernel = Kernel(socket)
            await kernel.ready()
            yield kernel


def pack(channel: str, header: dict[str, Any], content: dict[str, Any]) -> bytes:
    """One message in the v1 websocket format (jupyter_server, services/kernels/connection/base.py)."""
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, {}, {}, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    head = len(offsets).to_bytes(8, "little") + b"".join(offset.to_bytes(8, "little") for offset in offsets)
    return head + b"".join(parts)


def unpack(frame: bytes) -> tuple[str, str, str, dict[str, Any]]:
    """Channel, type, parent's id and content of a v1 message from a server that we trust."""
    count = int.from_bytes(frame[:8], "little")
    offsets = [int.from_bytes(frame[8 * (i + 1) : 8 * (i + 2)], "little") for i in range(count)]
    parts = [frame[a:b] for a, b in pairwise(offsets)]
    header, parent, content = json.loads(parts[1]), json.loads(parts[2]), json.loads(parts[4])
    return parts[0].decode(), header["msg_type"], parent.get("msg_id", ""), content
