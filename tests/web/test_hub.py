"""The real client against a hub on loopback that answers as JupyterHub's documents say."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.services.auth import HubOAuth

from mutirao.fairness import Roles
from mutirao.web.hub import HubAway, JupyterHub, Runtime

ACCESS = "access:services!service=mutirao"
USERS: dict[str, dict[str, Any]] = {
    "ana": {"kind": "user", "name": "ana", "admin": False, "groups": ["class-1"], "scopes": [ACCESS]},
    "rui": {"kind": "user", "name": "rui", "admin": False, "groups": ["reviewers"], "scopes": [ACCESS]},
    "olga": {"kind": "user", "name": "olga", "admin": True, "groups": [], "scopes": ["access:services"]},
    "narrow": {"kind": "user", "name": "ana", "admin": False, "groups": [], "scopes": ["self"]},
    "robot": {"kind": "service", "name": "robot", "admin": True, "scopes": [ACCESS]},
}
SERVER = {
    "name": "", "url": "/user/ana/", "ready": True, "started": "2026-11-01T12:00:00.000000Z",
    "user_options": {"environment": "ml", "size": "large"},
}  # fmt: skip


class HubServer:
    """A hub with its three questions; `status` overrides every answer."""

    def __init__(self) -> None:
        self.status = 0
        self.silent = False
        self.forms: list[dict[str, Any]] = []
        app = web.Application()
        app.router.add_get("/hub/api/user", self.who)
        app.router.add_post("/hub/api/oauth2/token", self.token)
        app.router.add_get("/hub/api/users/{name}", self.user)
        self.server = TestServer(app)

    async def who(self, request: web.Request) -> web.Response:
        if self.silent:
            await asyncio.sleep(60)
        if self.status:
            return web.json_response({}, status=self.status)
        model = USERS.get(request.headers["authorization"].removeprefix("token "))
        return web.json_response(model or {}, status=200 if model else 403)

    async def token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.forms.append(form)
        if self.status:
            return web.json_response({}, status=self.status)
        good = form["code"] == "good" and form["client_secret"] == "service-token"
        return web.json_response({"access_token": "ana"} if good else {"error": "invalid"}, status=200 if good else 400)

    async def user(self, request: web.Request) -> web.Response:
        if self.silent:
            await asyncio.sleep(60)
        if self.status or request.headers["authorization"] != "token service-token":
            return web.json_response({}, status=self.status or 403)
        if request.match_info["name"] == "ana":
            idle = {**SERVER, "name": "b", "ready": False, "started": None, "user_options": None}
            return web.json_response({"name": "ana", "servers": {"": SERVER, "b": idle}})
        return web.json_response({}, status=404)


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    server = HubServer()
    await server.server.start_server()
    yield server
    await server.server.close()


@pytest.fixture
async def client(hub: HubServer) -> AsyncIterator[JupyterHub]:
    auth = HubOAuth(
        api_token="service-token",
        api_url=str(hub.server.make_url("/hub/api")),
        base_url="/services/mutirao/",
        hub_host="",
        oauth_client_id="service-mutirao",
        access_scopes={ACCESS},
    )
    yield JupyterHub(auth, Roles(reviewers="reviewers"))
    await JupyterHubHTTPClient.loop_instance().close()


@pytest.mark.parametrize(
    ("token", "name", "roles", "admin"),
    [("ana", "ana", {"member"}, False), ("rui", "rui", {"member", "reviewer"}, False), ("olga", "olga", {"member", "operator"}, True)],
)
async def test_the_hub_says_who_holds_a_token(
    client: JupyterHub, token: str, name: str, roles: set[str], admin: bool
) -> None:
    person = await client.person(token, "session")
    assert person is not None
    assert (person.name, set(person.roles), person.admin) == (name, roles, admin)


@pytest.mark.parametrize("token", ["nobody", "narrow", "robot"])
async def test_unknown_tokens_narrow_tokens_and_services_are_nobody(client: JupyterHub, token: str) -> None:
    assert await client.person(token, "session") is None


async def test_a_new_hub_session_is_asked_about_anew(client: JupyterHub, hub: HubServer) -> None:
    assert await client.person("ana", "one") is not None
    hub.status = 403
    assert await client.person("ana", "one") is not None
    assert await client.person("ana", "two") is None


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_hub_in_trouble_is_away(client: JupyterHub, hub: HubServer, status: int) -> None:
    hub.status = status
    for question in (client.person("ana", ""), client.runtimes("ana"), client.token_for("good", "v")):
        with pytest.raises(HubAway):
            await question


async def test_a_hub_that_is_gone_is_away(client: JupyterHub, hub: HubServer) -> None:
    await hub.server.close()
    for question in (client.person("ana", ""), client.runtimes("ana"), client.token_for("good", "v")):
        with pytest.raises(HubAway):
            await question


async def test_a_hub_that_stays_silent_is_away(
    client: JupyterHub, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutirao.web.hub.ANSWER_S", 0.05)
    hub.silent = True
    for question in (client.person("ana", ""), client.runtimes("ana")):
        with pytest.raises(HubAway):
            await question


async def test_a_code_is_exchanged_with_its_verifier(client: JupyterHub, hub: HubServer) -> None:
    assert await client.token_for("good", "the-verifier") == "ana"
    assert await client.token_for("used", "the-verifier") is None
    assert hub.forms[0]["code_verifier"] == "the-verifier"
    assert hub.forms[0]["redirect_uri"] == "/services/mutirao/oauth_callback"


async def test_the_browser_is_sent_to_the_hubs_own_page(client: JupyterHub) -> None:
    url = client.authorize_url("st&te", "ch")
    assert url.startswith("/hub/api/oauth2/authorize?client_id=service-mutirao&")
    assert "state=st%26te" in url
    assert "code_challenge=ch&code_challenge_method=S256" in url


async def test_runtimes_come_with_what_was_chosen(client: JupyterHub) -> None:
    default, named = await client.runtimes("ana")
    assert default == Runtime("", "/user/ana/", True, datetime(2026, 11, 1, 12, tzinfo=UTC), "ml", "large")
    assert (named.name, named.ready, named.started, named.environment) == ("b", False, None, "")


@pytest.mark.parametrize("name", ["nobody", "../ana", "a/b", "üser", "x" * 255, "a?b#c"])
async def test_a_member_whom_the_hub_does_not_know_has_no_runtime(client: JupyterHub, name: str) -> None:
    assert await client.runtimes(name) == ()


async def test_a_missing_scope_is_named(client: JupyterHub, hub: HubServer) -> None:
    hub.status = 403
    with pytest.raises(HubAway, match="read:servers"):
        await client.runtimes("ana")
