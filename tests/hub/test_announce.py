"""An announcement goes to the worker that has the server's connections, and to no other."""

import aiohttp
from aiohttp import web

from mutirao.config import Settings
from mutirao.gate.announcement import SECRET_HEADER
from mutirao.gate.shard import worker_of
from mutirao.hub.announce import Announcer
from mutirao.hub.place import Place, here
from tests.gate.conftest import serving


def listener(heard: list[tuple[str, str]]) -> web.AppRunner:
    async def announce(request: web.Request) -> web.Response:
        heard.append(((await request.json())["owner"], request.headers[SECRET_HEADER]))
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/announce", announce)
    return web.AppRunner(app, access_log=None)


async def test_each_member_is_told_by_their_own_worker() -> None:
    first: list[tuple[str, str]] = []
    second: list[tuple[str, str]] = []
    names = [f"m{number}" for number in range(12)]
    async with serving(listener(first)) as one, serving(listener(second)) as two:
        place = Place(Settings(), "10.137.0.1", 8081, gate_urls=(one, two), gate_secret="s")
        for name in names:
            await Announcer(place).out_of_memory(name, "", 1024)
    assert first == [(name, "s") for name in names if worker_of((one, two), name, "") == one] != []
    assert second == [(name, "s") for name in names if worker_of((one, two), name, "") == two] != []


async def test_a_worker_that_is_away_is_not_waited_for() -> None:
    async with aiohttp.ClientSession(), serving(listener([])) as gone:
        pass
    await Announcer(Place(Settings(), "", 1, gate_urls=(gone,), gate_secret="s")).out_of_memory("ana", "", 1)


def test_a_place_keeps_its_workers_on_the_way_to_a_part(monkeypatch) -> None:
    place = Place(Settings(), "10.137.0.1", 8081, gate_urls=("http://a", "http://b"))
    for name, value in place.dump().items():
        monkeypatch.setenv(name, value)
    assert here() == place
    assert here().gate_url == "http://a"
