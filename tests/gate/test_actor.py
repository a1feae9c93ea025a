"""Who runs a cell, asked of a hub in memory."""

import asyncio

import pytest
import pytest_asyncio
from aiohttp import web

from mutirao.gate.actor import MAX_KEPT, HubActors, query_token
from mutirao.gate.route import Route
from tests.gate.conftest import serving
from tests.gate.house import free_port

ANA = Route("http://127.0.0.1:1", "ana", "gpu", "/user/ana/gpu/")
TOKENS = {
    "ana-token": {"kind": "user", "name": "ana"},
    "bot-token": {"kind": "service", "name": "bot"},
    "odd-token": ["odd"],
}


class TwinHub:
    """Knows three tokens and one session, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False
        self.hangs = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/hub/api/user", self.user)
        app.router.add_get("/hub/api/mutirao/actor", self.actor)
        return app

    async def user(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("token ")
        self.asked.append(token)
        if self.hangs:
            await asyncio.sleep(1)
        if self.broken:
            return web.Response(status=500)
        return web.json_response(TOKENS[token]) if token in TOKENS else web.Response(status=403)

    async def actor(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token the-service"
        self.asked.append("?" + request.query_string)
        known = request.query == {"session_key": "s1", "owner": "ana", "server": "gpu"}
        return web.json_response({"name": "bob" if known else None})


@pytest_asyncio.fixture
async def hub():
    hub = TwinHub()
    async with serving(web.AppRunner(hub.app(), access_log=None)) as url:
        hub.url = f"{url}/hub/api"
        yield hub


@pytest_asyncio.fixture
async def actors(hub):
    actors = HubActors(hub.url, "the-service")
    yield actors
    await actors.close()


SESSION = {"Cookie": "a=b; jupyterhub-session-id=s1"}
ODD_NEIGHBOURS = {"Cookie": 'a[b]=1; j={"x": 1, "y"}; jupyterhub-session-id=s1; \xfc=2'}


@pytest.mark.parametrize(
    ("headers", "query", "name"),
    [
        ({"Authorization": "token ana-token"}, None, "ana"),
        ({"Authorization": "Bearer ana-token"}, None, "ana"),
        ({"Authorization": "bearer   ana-token"}, None, "ana"),
        ({}, "ana-token", "ana"),
        (SESSION, None, "bob"),
        (ODD_NEIGHBOURS, None, "bob"),
        ({**SESSION, "Authorization": "token ana-token"}, None, "ana"),
        ({**SESSION, "Authorization": "token unknown"}, None, "bob"),
        ({"Authorization": "Basic YTpi"}, None, None),
        ({"Authorization": "token bot-token"}, None, None),
        ({"Authorization": "token odd-token"}, None, None),
        ({"Cookie": "jupyterhub-session-id=other"}, None, None),
        ({"Cookie": "jupyterhub-session-id="}, None, None),
        ({"Cookie": '\x00;;="; jupyterhub'}, None, None),
        ({"Authorization": "token a\x7fb"}, None, None),
        ({}, None, None),
    ],
)
async def test_the_actor_is_found_as_jupyterhub_would(actors, headers, query, name):
    assert await actors.resolve(headers, query, ANA) == name


async def test_an_answer_is_kept_for_a_minute_at_most(hub):
    now = [0.0]
    actors = HubActors(hub.url, "the-service", clock=lambda: now[0])
    for moment, asked in [(0, 1), (59, 1), (61, 2)]:
        now[0] = moment
        await actors.resolve({"Authorization": "token ana-token"}, None, ANA)
        assert len(hub.asked) == asked
    await actors.close()


async def test_what_is_kept_is_bounded_and_holds_no_token(actors):
    for number in range(3):
        await actors.resolve({}, f"guess-{number}", ANA)
    assert "guess" not in repr(actors._kept)
    actors._kept.update({str(number).encode(): (0.0, None) for number in range(MAX_KEPT)})
    await actors.resolve({}, "one-more", ANA)
    assert len(actors._kept) == MAX_KEPT


async def test_a_broken_hub_makes_the_actor_unknown_and_is_asked_again(hub, actors):
    hub.broken = True
    assert await actors.resolve({}, "ana-token", ANA) is None
    hub.broken = False
    assert await actors.resolve({}, "ana-token", ANA) == "ana"


async def test_a_hub_that_is_away_makes_the_actor_unknown():
    actors = HubActors(f"http://127.0.0.1:{free_port()}/hub/api", "the-service")
    assert await actors.resolve({"Authorization": "token ana-token", **SESSION}, None, ANA) is None
    await actors.close()


@pytest.mark.parametrize(("query", "token"), [("token=a", "a"), ("x=1&token=b", "b"), ("token=", None), ("", None)])
def test_a_token_in_the_url_is_found(query, token):
    assert query_token(query) == token


async def test_a_hub_that_hangs_makes_the_actor_unknown_in_time(hub, actors, monkeypatch):
    monkeypatch.setattr("mutirao.gate.actor._ASK_S", 0.1)
    hub.hangs = True
    assert await asyncio.wait_for(actors.resolve({"Authorization": "token ana-token", **SESSION}, None, ANA), 2) is None
    hub.hangs = False
    assert await actors.resolve({"Authorization": "token ana-token"}, None, ANA) == "ana"
