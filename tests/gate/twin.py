"""A member's server in memory: it records what reaches it and does what a test tells it to."""

import asyncio
import json
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web
from jupyter_server.services.kernels.connection import base as jupyter_wire
from multidict import CIMultiDict

from tests.gate.house import TOKEN, V1


@dataclass
class Received:
    """One HTTP request as it came."""

    method: str
    raw_path: str
    headers: CIMultiDict
    body: bytes


@dataclass
class TwinServer:
    """Accepts `Authorization: token t0ken`; echoes nothing, executes nothing."""

    frames: list[bytes | str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    handshakes: list[CIMultiDict] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    subprotocols: tuple[str, ...] = (V1,)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    flood: bytes = b""
    flooded_bytes: int = 0
    body: bytes = b'{"ok": true}'
    closed_with: list[int | None] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        return app

    @staticmethod
    def frame(message: dict, wire: str) -> tuple[bytes, WSMsgType]:
        """The frame that a server would send the message in."""
        if wire == V1:
            parts = [json.dumps(message[name]).encode() for name in ("header", "parent_header", "metadata", "content")]
            return jupyter_wire.serialize_msg_to_ws_v1(parts, message["channel"]), WSMsgType.BINARY
        return json.dumps(message).encode(), WSMsgType.TEXT

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.channels(request)
        if request.headers.get("Authorization") != f"token {TOKEN}" and "good" not in request.headers.get("Cookie", ""):
            return web.json_response({"message": "Forbidden"}, status=403, headers={"X-From": "the server"})
        body = await request.read()
        self.requests.append(Received(request.method, request.raw_path, request.headers.copy(), body))
        headers = {"Content-Type": "application/json", "X-From": "the server", "Set-Cookie": "a=b; Path=/"}
        return web.Response(status=202 if request.method == "POST" else 200, body=self.body, headers=headers)

    async def channels(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append(request.headers.copy())
        if request.headers.get("Authorization") != f"token {TOKEN}":
            return web.Response(status=418, reason="No Tea", text="not for you", headers={"X-From": "the server"})
        ws = web.WebSocketResponse(protocols=self.subprotocols, max_msg_size=0, compress=False, autoping=False)
        ws.headers["Set-Cookie"] = "seen=yes"
        await ws.prepare(request)
        self.sockets.append(ws)
        if self.flood:
            while not ws.closed:
                await ws.send_bytes(self.flood)
                self.flooded_bytes += len(self.flood)
        while True:
            received = await ws.receive()
            if received.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.frames.append(received.data)
                self.arrived.set()
            elif received.type is WSMsgType.PING:
                await ws.pong(received.data)
            else:
                self.closed_with.append(ws.close_code)
                return ws
