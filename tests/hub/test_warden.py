"""The warden stops what runs and may not, and nothing else; hub and database may go away meanwhile."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import select

from mutirao.cases import review
from mutirao.cases.ladder import Scope
from mutirao.hub.room import READING_ROOM
from mutirao.hub.warden import Server, Warden, to_stop
from mutirao.store.models import Case
from tests.cases.court import Court
from tests.database import migrated

TOKEN = "the warden's"


@pytest.mark.parametrize(
    ("room", "restricted", "stopped"),
    [(False, False, False), (False, True, True), (True, True, False), (True, False, True)],
)
def test_a_reading_room_is_for_the_restricted_and_the_rest_for_all_others(
    room: bool, restricted: bool, stopped: bool
) -> None:
    server = Server("ana", "", room)

    assert to_stop([server], {"ana"} if restricted else {"bia"}) == ([server] if stopped else [])


class HubTwin:
    """Users with servers, page by page; a DELETE takes a server away."""

    def __init__(self) -> None:
        self.servers: dict[tuple[str, str], dict[str, Any]] = {}
        self.looks = 0
        self.url = ""

    def add(self, member: str, server: str = "", size: str = "small", *, ready: bool = True) -> None:
        self.servers[member, server] = {"name": server, "ready": ready, "user_options": {"size": size}}

    async def users(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"token {TOKEN}"
        self.looks += 1
        names = sorted({member for member, _ in self.servers})
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        found = [
            {"name": name, "servers": {key: model for (member, key), model in self.servers.items() if member == name}}
            for name in names
        ]
        return web.json_response(found[offset : offset + limit])

    async def stop(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"token {TOKEN}"
        gone = self.servers.pop((request.match_info["name"], request.match_info.get("server", "")), None)
        return web.Response(status=204 if gone else 404)


@pytest.fixture
async def hub() -> AsyncIterator[HubTwin]:
    twin = HubTwin()
    app = web.Application()
    app.router.add_get("/hub/api/users", twin.users)
    app.router.add_delete("/hub/api/users/{name}/server", twin.stop)
    app.router.add_delete("/hub/api/users/{name}/servers/{server}", twin.stop)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    twin.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hub/api"
    yield twin
    await runner.cleanup()


@pytest.fixture
def court(tmp_path: Path) -> Any:
    made = Court(migrated(tmp_path / "court.sqlite"))
    yield made
    made.desk.attendance.settle()
    made.store.close()


async def restricted(court: Court, member: str, scope: Scope = Scope.COMPUTE) -> None:
    await court.run("p2p", actor=member)
    with court.write() as session:
        case = session.scalars(select(Case).where(Case.member == member)).one()
        review.restrict(session, court.office, case, scope, 1, "rita", "A long enough reason", court.now)


async def test_who_may_not_run_code_is_stopped_and_free_again_at_the_end(court: Court, hub: HubTwin) -> None:
    names = [f"m{number:03}" for number in range(250)]
    for name in names:
        hub.add(name)
    odd = "ana maria/é"
    hub.add(odd)
    hub.add(odd, "other one")
    hub.add("gil")
    warden = Warden(court.store, hub.url, TOKEN, lambda: court.now)
    async with aiohttp.ClientSession() as session:
        assert await warden.once(session) == []
        await restricted(court, names[240])
        await restricted(court, odd, Scope.ACCOUNT)
        await restricted(court, "gil", Scope.GPU)
        stopped = await warden.once(session)

        assert {(one.member, one.name) for one in stopped} == {(names[240], ""), (odd, ""), (odd, "other one")}
        assert len(hub.servers) == 250

        hub.add(odd, size=READING_ROOM)
        hub.add(names[240], ready=False)
        assert await warden.once(session) == []
        hub.add(names[240])
        assert [one.member for one in await warden.once(session)] == [names[240]]
        court.now += timedelta(days=1)
        assert [(one.member, one.room) for one in await warden.once(session)] == [(odd, True)]


async def test_with_nobody_restricted_the_hub_is_left_in_peace(court: Court, hub: HubTwin) -> None:
    clock = [0.0]
    warden = Warden(court.store, hub.url, TOKEN, lambda: court.now, lambda: clock[0])
    hub.add("ana", size=READING_ROOM)
    async with aiohttp.ClientSession() as session:
        # A reading room from before a restart is found.
        assert len(await warden.once(session)) == 1
        await warden.once(session)
        before = hub.looks
        for _ in range(5):
            await warden.once(session)
        assert hub.looks == before
        clock[0] += 31
        await warden.once(session)
        assert hub.looks == before + 1
