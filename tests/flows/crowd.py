"""Hundreds of members at a real service without hundreds of runtimes.

Real: proxy, hub (their logins and tokens), gate, rules, desk, store, pages, warden, the command line. Simulated: the
members' servers, one stand-in in this process whose kernels run nothing and answer "ok"; the proxy's routes to them,
which the hub sets for servers that it started; and time that has passed, which is written into the store.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from bench.client import Member, Ran

from mutirao.accounts import Accounts
from mutirao.gate.route import Route, twin_specs, twin_target
from mutirao.gate.shard import worker_of
from tests.flows.service import PASSWORD, Service, as_part
from tests.flows.test_restart import MARKS, part_of

AT_ONCE = 8
KERNEL = "11111111-2222-3333-4444-555555555555"
PAGES = Accounts(2_000_000).pages
STORE = """
import json, sys
from mutirao.store.store import Store
from sqlalchemy import text
url, asked, rows = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
store = Store(url)
with store.write() as session:
    found = session.execute(text(asked), rows) if rows else session.execute(text(asked))
    print(json.dumps([list(map(str, row)) for row in found] if found.returns_rows else []))
store.close()
"""


def sql(service: Service, asked: str, rows: list[dict[str, Any]] | None = None) -> list[list[str]]:
    """What the store of the running service says to one statement, asked as its own user."""
    url = f"sqlite:///{service.data}/store/mutirao.sqlite"
    found: list[list[str]] = json.loads(as_part(PAGES, STORE, url, asked, json.dumps(rows or [])))
    return found


def settle(service: Service, names: Iterable[str]) -> None:
    """Members who have been here for a hundred days and used it on twenty."""
    sql(
        service,
        "INSERT INTO member (name, first_seen_at, last_seen_on, active_days) "
        "VALUES (:name, datetime('now', '-100 days'), date('now', '-1 day'), 20)",
        [{"name": name} for name in names],
    )


async def _channels(request: web.Request) -> web.WebSocketResponse:
    """A kernel that runs nothing: busy, reply, idle."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for received in socket:
        if received.type is not WSMsgType.TEXT:
            continue
        asked = json.loads(received.data)
        kind = asked["header"]["msg_type"].replace("_request", "_reply")
        for channel, name, content in (
            ("iopub", "status", {"execution_state": "busy"}),
            ("shell", kind, {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}),
            ("iopub", "status", {"execution_state": "idle"}),
        ):
            header = {**asked["header"], "msg_id": uuid.uuid4().hex, "msg_type": name}
            await socket.send_json(
                {
                    "channel": channel,
                    "header": header,
                    "msg_id": header["msg_id"],
                    "msg_type": name,
                    "parent_header": asked["header"],
                    "metadata": {},
                    "content": content,
                    "buffers": [],
                }
            )
    return socket


class Crowd:
    """Members by name, each logged in with a token of their own; use `gathered`."""

    def __init__(self, service: Service, members: dict[str, Member]) -> None:
        self.service = service
        self.members = members

    async def run(self, name: str, *cells: str) -> list[Ran]:
        """Cells of one member, through proxy and gate."""
        async with self.members[name].kernel(KERNEL, protocols=()) as kernel:
            return [await kernel.run(code) for code in cells]

    async def all_run(self, cells: dict[str, str]) -> dict[str, Ran]:
        """One cell each, a few members at a time."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(name: str, code: str) -> Ran:
            async with turn:
                return (await self.run(name, code))[0]

        return dict(zip(cells, await asyncio.gather(*(one(*item) for item in cells.items())), strict=True))


@asynccontextmanager
async def gathered(service: Service, names: list[str]) -> AsyncIterator[Crowd]:
    """Log everybody in, and lead the proxy's way to their kernels through the gate to the stand-in."""
    place = json.loads(_environment(part_of(service, MARKS["hub"]))["MUTIRAO_PLACE"])
    app = web.Application()
    app.router.add_get("/user/{name}/api/kernels/{kernel}/channels", _channels)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    members = {name: Member(service.url, name, PASSWORD) for name in names}
    turn = asyncio.Semaphore(AT_ONCE)

    async def ready(name: str, proxy: aiohttp.ClientSession) -> None:
        async with turn:
            member = members[name]
            await member.login()
            async with member.http.get(member.hub / "hub/home") as page:
                page.raise_for_status()
            status, made = await member.api("POST", f"users/{name}/tokens", json={})
            assert status in (200, 201), made
            member.http.headers["Authorization"] = f"token {made['token']}"
            route = Route(f"http://127.0.0.1:{port}", name, "", f"/user/{name}/")
            where = twin_specs(f"/user/{name}/")[0].rstrip("/")
            target = {"target": twin_target(worker_of(place["gate_urls"], name, ""), route, place["gate_secret"])}
            async with proxy.post(f"{place['proxy_api_url']}/api/routes{where}", json=target) as answer:
                assert answer.status == 201

    try:
        headers = {"Authorization": f"token {place['proxy_token']}"}
        async with aiohttp.ClientSession(headers=headers) as proxy:
            await asyncio.gather(*(ready(name, proxy) for name in names))
        yield Crowd(service, members)
    finally:
        for member in members.values():
            await member.http.close()
        await runner.cleanup()


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return {name: value for name, _, value in (entry.partition("=") for entry in entries if entry)}
