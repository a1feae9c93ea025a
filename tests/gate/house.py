"""The in-memory twins and the real neighbours that the gate's tests live with."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from jupyter_server.services.kernels.connection import base as jupyter_wire

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice, NoticeText
from mutirao.policy.category import Category

V1 = "v1.kernel.websocket.jupyter.org"
SECRET = "a secret that hub and gate share"
TOKEN = "t0ken"
WAIT_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def notice(
    action: Action, case: str = "M-2026-000007", excerpt: str = "line 1: xmrig", title: str = "Not run"
) -> Notice:
    def text(lang: str, title: str) -> NoticeText:
        return NoticeText(
            lang=lang,
            title=title,
            lead="This cell starts a miner.",
            facts=(excerpt,),
            clause="Clause mining, policy 1.",
            consequence="Nothing else is restricted.",
            next_step="Take the line out and run the cell again.",
            links=(("Case", f"/services/mutirao/case/{case}"),),
        )

    return Notice(case, action, Category.MINING, {"en": text("en", title), "pt-BR": text("pt-BR", "Não executada")})


class MarkerJudge:
    """Judges by the words `please stop`, `please hold`, `please warn`; breaks at `please break`, dozes at `please doze`."""

    def __init__(self) -> None:
        self.saw: list[Cell] = []
        self.asked = asyncio.Event()
        self.restricted: set[str] = set()

    async def judge(self, cell: Cell) -> Verdict:
        self.saw.append(cell)
        self.asked.set()
        if "please break" in cell.code:
            raise RuntimeError("the database is away")
        if "please doze" in cell.code:
            await asyncio.sleep(60)
        for action in (Action.STOP, Action.HOLD, Action.WARN):
            if f"please {action}" in cell.code:
                return Verdict(action, notice(action))
        return Verdict(Action.ALLOW)

    async def standing(self, actor: str | None, owner: str, halted: Halted) -> Notice | None:
        if not self.restricted & {actor, owner}:
            return None
        return notice(Action.STOP, title=halted.own)

    @property
    def codes(self) -> list[str]:
        return [cell.code for cell in self.saw]


@dataclass
class OneActor:
    """Says the same name to everybody, and remembers who asked."""

    name: str | None = "ana"
    asked: list[tuple[dict[str, str], str | None, str]] = field(default_factory=list)

    async def resolve(self, request_headers, query_token, route):
        self.asked.append((dict(request_headers), query_token, route.user))
        return self.name


def find_chp() -> list[str]:
    """configurable-http-proxy's program for Node, as ./run sets it up, or a skip that says where it was looked for."""
    for place in (os.environ.get("MUTIRAO_PROXY"), shutil.which("configurable-http-proxy")):
        if place and Path(place).exists():
            return [os.environ.get("MUTIRAO_NODE") or shutil.which("node") or "node", place]
    pytest.skip("configurable-http-proxy is not here: ./run test sets it up and names it in MUTIRAO_PROXY")


@dataclass(frozen=True)
class Chp:
    """A running configurable-http-proxy."""

    url: str
    api_url: str
    auth_token: str


@contextmanager
def running_chp(*options: str, token: str = "chp-token"):
    port, api_port = free_port(), free_port()
    command = [*find_chp(), "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1"]
    command += ["--api-port", str(api_port), "--log-level", "error", *options]
    with running(command, {"CONFIGPROXY_AUTH_TOKEN": token}):
        wait_for_http(f"http://127.0.0.1:{port}/_chp_healthz")
        wait_for_http(f"http://127.0.0.1:{api_port}/api/routes")
        yield Chp(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}", token)


@contextmanager
def running_jupyter(directory: Path, prefix: str = "/user/ana/"):
    """A real jupyter_server below a prefix; gives its URL without the prefix."""
    port = free_port()
    command = [sys.executable, "-m", "jupyter_server", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.base_url={prefix}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.open_browser=False", "--ServerApp.allow_root=True", "--ServerApp.log_level=ERROR"]
    command += [f"--ServerApp.root_dir={directory}"]
    names = ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "HOME")
    with running(command, {name: str(directory / name.lower()) for name in names}):
        wait_for_http(f"http://127.0.0.1:{port}{prefix}api")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(command: list[str], environment: dict[str, str]):
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def wait_for_http(url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing answers at {url}")


def request_of(msg_type: str, content: dict, channel: str = "shell", **header: str) -> dict:
    """A message as a client would write it."""
    return {
        "channel": channel,
        "header": {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "username": "ana",
            "session": "tab",
            "date": "2026-11-22T12:00:00Z",
            "version": "5.3",
            **header,
        },
        "parent_header": {},
        "metadata": {},
        "content": content,
    }


def execute(code: str, **content: object) -> dict:
    defaults = {"silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
    return request_of("execute_request", {"code": code, **defaults, "stop_on_error": True, **content})


class Tab:
    """A front end on one websocket; it writes and reads frames with jupyter_server's own code, not with ours."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, message: dict, buffers: tuple[bytes, ...] = ()) -> dict:
        if self.ws.protocol == V1:
            parts = [json.dumps(message[name]).encode() for name in ("header", "parent_header", "metadata", "content")]
            await self.ws.send_bytes(jupyter_wire.serialize_msg_to_ws_v1([*parts, *buffers], message["channel"]))
        elif buffers:
            await self.ws.send_bytes(jupyter_wire.serialize_binary_message({**message, "buffers": buffers}))
        else:
            await self.ws.send_str(json.dumps(message))
        return message["header"]

    async def receive(self) -> dict:
        received = await asyncio.wait_for(self.ws.receive(), WAIT_S)
        if received.type is aiohttp.WSMsgType.TEXT:
            return json.loads(received.data)
        assert received.type is aiohttp.WSMsgType.BINARY, f"closed: {received} {self.ws.close_code}"
        if self.ws.protocol != V1:
            return jupyter_wire.deserialize_binary_message(received.data)
        channel, parts = jupyter_wire.deserialize_msg_from_ws_v1(received.data)
        names = ("header", "parent_header", "metadata", "content")
        message = {name: json.loads(part) for name, part in zip(names, parts, strict=False)}
        return {"channel": channel, **message, "buffers": parts[4:]}

    async def run(self, code: str, **content: object) -> list[dict]:
        """Everything that answers a cell, up to its reply and idle."""
        return await self.answers(await self.send(execute(code, **content)))

    async def answers(self, header: dict) -> list[dict]:
        found: list[dict] = []
        while not (_has(found, "_reply") and _is_idle(found)):
            message = await self.receive()
            if message["parent_header"].get("msg_id") == header["msg_id"]:
                found.append(message)
        return found

    async def until(self, msg_type: str) -> dict:
        while True:
            message = await self.receive()
            if message["header"]["msg_type"] == msg_type:
                return message

    async def closed(self) -> tuple[int | None, str]:
        """The code and reason of the close frame that comes next, whatever comes before it."""
        while True:
            received = await asyncio.wait_for(self.ws.receive(), WAIT_S)
            if received.type is aiohttp.WSMsgType.CLOSE:
                return received.data, received.extra
            if received.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return self.ws.close_code, ""


def kinds(messages: list[dict]) -> list[str]:
    """The messages' types in order; a status with its state."""
    return [
        f"status {message['content']['execution_state']}"
        if message["header"]["msg_type"] == "status"
        else message["header"]["msg_type"]
        for message in messages
    ]


def one(messages: list[dict], msg_type: str) -> dict:
    """The content of the only message of that type."""
    (found,) = [message["content"] for message in messages if message["header"]["msg_type"] == msg_type]
    return found


def _has(messages: list[dict], ending: str) -> bool:
    return any(message["header"]["msg_type"].endswith(ending) for message in messages)


def _is_idle(messages: list[dict]) -> bool:
    return "status idle" in kinds(messages)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to others
            await asyncio.sleep(0.01)
