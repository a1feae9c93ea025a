"""Path tricks through the real proxy: whatever reaches a server's kernel handlers has passed the gate."""

import asyncio
import re
from urllib.parse import urlsplit

import pytest
from jupyter_server.services.kernels.handlers import default_handlers

from tests.gate.house import TOKEN, until

KERNEL = "11111111-2222-4333-8444-555555555555"
HEADERS = f"Host: hub\r\nAuthorization: token {TOKEN}\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

TRICKS = [
    "/user/ana//api/kernels/{k}/channels",
    "//user/ana/api/kernels/{k}/channels",
    "/user//ana/api/kernels/{k}/channels",
    "/user/ana/api//kernels/{k}/channels",
    "/user/ana/api/kernels//{k}/channels",
    "/user/ana/api/kernels/{k}//channels",
    "/user/ana/api/kernels/{k}/channels/",
    "/user/ana/api%2fkernels/{k}/channels",
    "/user/ana/api%2Fkernels/{k}/channels",
    "/user/ana%2fapi/kernels/{k}/channels",
    "/user/ana%2Fapi%2Fkernels%2F{k}%2Fchannels",
    "/user%2fana/api/kernels/{k}/channels",
    "/user/ana/api%252fkernels/{k}/channels",
    "/user/ana/api%5ckernels/{k}/channels",
    "/user/ana/api\\kernels/{k}/channels",
    "/user/ana/./api/kernels/{k}/channels",
    "/user/ana/x/../api/kernels/{k}/channels",
    "/user/ana/api/./kernels/{k}/channels",
    "/user/ana/api/x/../kernels/{k}/channels",
    "/user/ana/api/kernels/../kernels/{k}/channels",
    "/user/ana/api/kernels/x/../../kernels/{k}/channels",
    "/user/ana/lab/../api/kernels/{k}/channels",
    "/user/bia/../ana/api/kernels/{k}/channels",
    "/user/ana/%2e/api/kernels/{k}/channels",
    "/user/ana/x/%2e%2e/api/kernels/{k}/channels",
    "/user/ana/api/x/%2E%2E/kernels/{k}/channels",
    "/user/ana/api/kernels/%2e%2e/kernels/{k}/channels",
    "/user/ana/x/%252e%252e/api/kernels/{k}/channels",
    "/user/ana/API/kernels/{k}/channels",
    "/user/ana/Api/Kernels/{k}/channels",
    "/user/ana/api/KERNELS/{k}/channels",
    "/USER/ana/api/kernels/{k}/channels",
    "/user/ana/api/kernels/{k}/CHANNELS",
    "/user/ANA/api/kernels/{k}/channels",
    "/user/%61na/api/kernels/{k}/channels",
    "/user/ana/%61pi/kernels/{k}/channels",
    "/user/ana/a%70i/kernels/{k}/channels",
    "/user/ana/api/%6Bernels/{k}/channels",
    "/user/ana/api/kernel%73/{k}/channels",
    "/user/ana/api/kernels/{k}/%63hannels",
    "/user/ana/%2561pi/kernels/{k}/channels",
    "/user/ana/api;/kernels/{k}/channels",
    "/user/ana;x=1/api/kernels/{k}/channels",
    "/user/ana/api;x=y/kernels/{k}/channels",
    "/user/ana/api/kernels;x/{k}/channels",
    "/user/ana/api/kernels/{k}/channels;x=1",
    "/user/ana/api/kernels./{k}/channels",
    "/user/ana/api./kernels/{k}/channels",
    "/user/ana./api/kernels/{k}/channels",
    "/user/ana/api/kernels%20/{k}/channels",
    "/user/ana/api/kernels%00/{k}/channels",
    "/user/ana/api%00/kernels/{k}/channels",
    "/user/ana/api/kernels%09/{k}/channels",
    "/user/ana/api/kernels%0a/{k}/channels",
    "/user/ana/api/kernels%0d%0aX:%20y/{k}/channels",
    "/user/ana/api/kernels?/{k}/channels",
    "/user/ana/api/kernels%3f/{k}/channels",
    "/user/ana/api/kernels/{k}/channels?x=/../..",
    "/user/ana/?/api/kernels/{k}/channels",
    "/user/ana/api/kernels%23/{k}/channels",
    "/user/ana/#/api/kernels/{k}/channels",
    "/user/ana/\u0430pi/kernels/{k}/channels",
    "/user/ana/%d0%b0pi/kernels/{k}/channels",
    "/user/ana/\uff41pi/kernels/{k}/channels",
    "/user/ana/%ef%bd%81pi/kernels/{k}/channels",
    "/user/ana/api%c0%afkernels/{k}/channels",
    "/user/ana/api%e0%80%afkernels/{k}/channels",
    "/user/ana/api\u2044kernels/{k}/channels",
    "/user/ana/api%ff/kernels/{k}/channels",
    "/user/ana/api/kernels%/{k}/channels",
    "/user/ana/%api/kernels/{k}/channels",
    "/user/ana/%%61pi/kernels/{k}/channels",
    "/user/ana/api/kernel\u017f/{k}/channels",
    "/user/ana/api/\u212aernels/{k}/channels",
    "/user/ana/api/kernels/{k}/channels%2f",
    "/user/ana/api/kernels/{k}%2fchannels",
    "http://hub/user/ana/api/kernels/{k}/channels",
    "http://hub//user/ana/api/kernels/{k}/channels",
    "http://hub/user/ana/./api/kernels/{k}/channels",
    "http://evil/user/ana/api/kernels/{k}/channels",
    "http://user:pass@hub/user/ana/api/kernels/{k}/channels",
    "ws://hub/user/ana/api/kernels/{k}/channels",
    "HTTP://hub/user/ana/api/kernels/{k}/channels",
    "http:/user/ana/api/kernels/{k}/channels",
    "http:///user/ana/api/kernels/{k}/channels",
    "hub/user/ana/api/kernels/{k}/channels",
    "user/ana/api/kernels/{k}/channels",
    "*/user/ana/api/kernels/{k}/channels",
    "/user/ana/lab/api/kernels/{k}/channels",
    "/user/ana/user/ana/api/kernels/{k}/channels",
    "/hub/../user/ana/api/kernels/{k}/channels",
    "/hub/user/ana/api/kernels/{k}/channels",
    "/r/x.y/user/ana/api/kernels/{k}/channels",
    "/user/ana/r/x.y/user/ana/api/kernels/{k}/channels",
]
METHODS = ["websocket", "POST", "DELETE"]


async def ask(port: int, method: str, path: str) -> bytes:
    """The status line that the proxy answers one request with, exactly these bytes sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    verb, extra = ("GET", UPGRADE) if method == "websocket" else (method, "Connection: close\r\n")
    target = path.format(k=KERNEL) if method == "websocket" else path.format(k=KERNEL).replace("channels", "interrupt")
    body = "" if method != "POST" else "Content-Length: 0\r\n"
    writer.write(f"{verb} {target} HTTP/1.1\r\n{HEADERS}{extra}{body}\r\n".encode())
    try:
        async with asyncio.timeout(10):
            return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def handled(seen: str) -> bool:
    """True where jupyter_server's own patterns, which match the raw path, lead such a path to a kernel handler."""
    path = urlsplit(seen).path if "://" in seen.split("?")[0] else seen.partition("?")[0]
    return any(re.fullmatch(f"/user/ana{pattern}", path) for pattern, *_ in default_handlers)


@pytest.mark.parametrize("method", METHODS)
async def test_no_path_trick_leads_past_the_gate_to_a_kernel(street, twin, method):
    """The server's twin writes down each raw path; those that its kernel handlers would take, the gate must know."""
    passed = twin.paths
    port = urlsplit(street.chp.url).port
    past, answered = [], 0
    for path in TRICKS:
        twin_seen, gate_seen = len(passed), street.gate.counters["requests"]
        status = await ask(port, method, path)
        answered += bool(status)
        reached = passed[twin_seen:]
        if any(map(handled, reached)) and street.gate.counters["requests"] == gate_seen:
            past.append((path, reached))
    assert past == []
    assert answered > len(TRICKS) // 2
    # The honest path comes through, so that what is tested is no closed door.
    before = street.gate.counters["requests"]
    await ask(port, method, "/user/ana/api/kernels/{k}/channels")
    await until(lambda: any(map(handled, passed)))
    assert street.gate.counters["requests"] == before + 1
