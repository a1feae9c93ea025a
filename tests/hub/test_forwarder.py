"""What a runtime may ask of the hub passes, built anew; nothing else does, however it is spelled."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from mutirao.hub import forwarder as module
from mutirao.hub.forwarder import MAX_BODY_BYTES, Forwarder, make_app

OWN = "jupyterhub-user-ana"


@dataclass
class Hub:
    """A hub in memory: notes what reaches it; tokens belong to people."""

    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    people: dict[str, str] = field(default_factory=lambda: {"anas": "ana", "bias": "bia"})
    codes: dict[str, str] = field(default_factory=lambda: {"1": "anas", "2": "bias"})

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append((request.method, request.raw_path, dict(request.headers), body))
        headers = {"X-JupyterHub-Version": "6.1.1", "Set-Cookie": "a=b", "X-Other": "x"}
        match request.raw_path:
            case "/hub/api/user":
                name = self.people.get(request.headers.get("Authorization", "").removeprefix("token "))
                return web.json_response({"name": name} if name else {}, status=200 if name else 403, headers=headers)
            case "/hub/api/oauth2/token":
                code = dict(parse_qsl(body.decode()))["code"]
                if code not in self.codes:
                    return web.json_response({"error": "invalid_grant"}, status=400)
                return web.json_response({"access_token": self.codes[code]}, headers=headers)
        return web.json_response({"version": "6.1.1"}, headers=headers)


@dataclass
class Whose:
    """Says that whoever asks is this runtime."""

    owner: tuple[str, str] | None = ("ana", "")

    async def who(self, address: str) -> tuple[str, str] | None:
        assert address == "127.0.0.1"
        return self.owner


@dataclass
class House:
    """A forwarder before a hub, and a client that sends paths as they are."""

    hub: Hub
    forwarder: Forwarder
    whose: Whose
    url: str
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, token: str = "anas", **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"token {token}"} | options.pop("headers", {})
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, headers=headers, allow_redirects=False, **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def raw(self, text: bytes) -> bytes:
        """Bytes that no client library would send, and the answer's first line."""
        address = URL(self.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(text)
        line = await reader.readline()
        writer.close()
        return line


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    hub, whose = Hub(), Whose()

    @web.middleware
    async def everything(request: web.Request, handler: Any) -> web.StreamResponse:
        return await hub.handle(request)

    async with serving(web.Application(middlewares=[everything])) as hub_url:
        forwarder = Forwarder(hub_url, whose)
        async with serving(make_app(forwarder)) as url, aiohttp.ClientSession() as http:
            yield House(hub, forwarder, whose, url, http)


def form(**changes: str) -> dict[str, Any]:
    fields = {"client_id": OWN, "client_secret": "s", "grant_type": "authorization_code", "code": "1"} | changes
    return {
        "data": urlencode(fields).encode(),
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
    }


def activity(server: str = "") -> dict[str, Any]:
    return {"json": {"servers": {server: {"last_activity": "2026-01-01T00:00:00Z"}}, "last_activity": "x"}}


async def test_what_a_server_needs_passes(house: House) -> None:
    assert (await house.ask("GET", "/hub/api"))[1] == {"version": "6.1.1"}
    assert await house.ask("GET", "/hub/api/user") == (200, {"name": "ana"})
    assert await house.ask("GET", "/hub/api/user", "unknown") == (403, {})
    assert await house.ask("POST", "/hub/api/oauth2/token", **form()) == (200, {"access_token": "anas"})
    assert (await house.ask("POST", "/hub/api/oauth2/token", **form(code="9")))[0] == 400
    assert (await house.ask("POST", "/hub/api/users/ana/activity", **activity()))[0] == 200


ODD = [
    ("GET", "/"),
    ("GET", "/hub/"),
    ("GET", "/hub/home"),
    ("GET", "/hub/login"),
    ("GET", "/hub/api/info"),
    ("GET", "/hub/api/users"),
    ("GET", "/hub/api/users/ana"),
    ("POST", "/hub/api/users/ana/tokens"),
    ("POST", "/hub/api/users/ana/server"),
    ("GET", "/hub/api/proxy"),
    ("POST", "/hub/api/shutdown"),
    ("GET", "/hub/api/mutirao/actor?session_key=x&owner=ana"),
    ("GET", "/hub/api/oauth2/authorize"),
    ("GET", "/hub/api/oauth2/token"),
    ("POST", "/hub/api/user"),
    ("HEAD", "/hub/api"),
    ("OPTIONS", "/hub/api/user"),
    ("PUT", "/hub/api/users/ana/activity"),
    ("GET", "/hub/api/users/ana/activity"),
    ("POST", "/hub/api/users/bia/activity"),
    ("POST", "/hub/api/users/ANA/activity"),
    ("POST", "/hub/api/users/ana%2f..%2fbia/activity"),
    ("POST", "/hub/api/users/ana%00/activity"),
    ("POST", "/hub/api/users/ana%ff/activity"),
    ("POST", "/hub/api/users//activity"),
    ("POST", "/hub/api/users/activity"),
    ("POST", "/hub/api/users/ana/x/activity"),
    ("POST", "/hub/api/users/ana;a/activity"),
    ("POST", "/hub/api/users/ana/activity/"),
    ("POST", "/hub/api/users/ana/activity?x=1"),
    ("GET", "/hub/api/user?x=1"),
    ("GET", "/hub/api/user/"),
    ("GET", "/hub/api/user#x"),
    ("GET", "/hub/api/../home"),
    ("GET", "/hub/api/user/../users"),
    ("GET", "/hub/api//user"),
    ("GET", "//hub/api/user"),
    ("GET", "/hub/api/%75ser"),
    ("GET", "/hub%2fapi/user"),
    ("GET", "/HUB/api/user"),
    ("GET", "/hub/api/user%20"),
    ("GET", "http://127.0.0.1/hub/api/user"),
    ("GET", "/hub/api\\user"),
]


@pytest.mark.parametrize(("method", "path"), ODD)
async def test_nothing_else_passes(house: House, method: str, path: str) -> None:
    body = b"{}"
    head = f"{method} {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: token anas\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    answer = await house.raw(head.encode() + body)

    assert answer.split(b" ")[1] in (b"400", b"403"), answer
    assert house.hub.seen == []


async def test_a_websocket_does_not_pass(house: House) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert (await house.ask("GET", "/hub/api/user", headers=headers))[0] == 403
    assert house.hub.seen == []


async def test_who_is_no_runtime_is_refused(house: House) -> None:
    house.whose.owner = None
    assert (await house.ask("GET", "/hub/api"))[0] == 403
    assert house.hub.seen == []


async def test_headers_of_one_hop_and_of_other_matters_stay_here(house: House) -> None:
    sent = {
        "Cookie": "jupyterhub-hub-login=x",
        "X-Forwarded-For": "1.2.3.4",
        "Connection": "close, X-Odd",
        "X-Odd": "1",
        "Host": "evil",
    }
    async with house.http.get(f"{house.url}/hub/api/user", headers={"Authorization": "token anas"} | sent) as answer:
        told = {name.lower() for name in answer.headers}

    _, _, headers, _ = house.hub.seen[0]
    assert not {"cookie", "x-forwarded-for", "x-odd"} & {name.lower() for name in headers}
    assert headers["Host"] == URL(house.forwarder.hub_url).authority
    assert "x-jupyterhub-version" in told
    assert not {"set-cookie", "x-other"} & told


async def test_a_visitors_token_is_not_for_the_runtime(house: House) -> None:
    """The owner of a runtime reads whatever it gets."""
    status, said = await house.ask("POST", "/hub/api/oauth2/token", **form(code="2"))
    assert status == 403
    assert "bias" not in json.dumps(said)
    status, said = await house.ask("GET", "/hub/api/user", "bias")
    assert status == 403
    assert "bia" not in json.dumps(said)


async def test_a_visitor_comes_in_where_that_is_allowed(house: House) -> None:
    house.forwarder.visitors = True
    assert await house.ask("POST", "/hub/api/oauth2/token", **form(code="2")) == (200, {"access_token": "bias"})
    assert await house.ask("GET", "/hub/api/user", "bias") == (200, {"name": "bia"})


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "jupyterhub-user-bia"},
        {"client_id": "jupyterhub-user-ana-gpu"},
        {"client_id": "service-mutirao"},
        {"grant_type": "password"},
        {"grant_type": "refresh_token"},
        {"scope": "admin:users"},
        {"username": "ana"},
    ],
)
async def test_a_runtime_asks_for_tokens_of_its_own_client_alone(house: House, changes: dict[str, str]) -> None:
    assert (await house.ask("POST", "/hub/api/oauth2/token", **form(**changes)))[0] == 403
    assert house.hub.seen == []


@pytest.mark.parametrize(
    "body", [b"", b"x", b"a=1&a=2&client_id=x", b"\xff", b"client_id=jupyterhub-user-ana&client_id=y"]
)
async def test_a_form_that_is_none_is_refused(house: House, body: bytes) -> None:
    status, _ = await house.ask("POST", "/hub/api/oauth2/token", data=body)
    assert status in (400, 403)
    assert house.hub.seen == []


@pytest.mark.parametrize(
    ("owner", "client"),
    [(("ana", "gpu"), "jupyterhub-user-ana-gpu"), (("zé/x@y", "a b"), "jupyterhub-user-z%C3%A9/x%40y-a%20b")],
)
async def test_a_named_server_has_a_client_of_its_own(house: House, owner: tuple[str, str], client: str) -> None:
    house.whose.owner = owner
    house.hub.people["anas"] = owner[0]
    assert (await house.ask("POST", "/hub/api/oauth2/token", **form(client_id=client)))[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b"[" * 9000, b'{"servers": []}', b'{"servers": {"other": {}}}', b'{"admin": true}'],
)
async def test_activity_of_anything_else_is_refused(house: House, body: bytes) -> None:
    status, _ = await house.ask("POST", "/hub/api/users/ana/activity", data=body)
    assert status in (400, 403)
    assert house.hub.seen == []


@pytest.mark.parametrize(("name", "segment"), [("ana@x", "ana@x"), ("ana@x", "ana%40x"), ("zé b", "z%C3%A9%20b"), ("a%2fb", "a%252fb")])  # fmt: skip
async def test_names_are_compared_as_people_write_them(house: House, name: str, segment: str) -> None:
    house.whose.owner = (name, "")
    assert (await house.ask("POST", f"/hub/api/users/{segment}/activity", **activity()))[0] == 200


async def test_a_large_body_is_refused(house: House) -> None:
    assert (await house.ask("POST", "/hub/api/users/ana/activity", data=b"x" * (MAX_BODY_BYTES + 1)))[0] == 413
    assert house.hub.seen == []


async def test_a_runtime_that_asks_too_much_at_once_is_told_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    free = asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        await free.wait()
        return web.json_response({})

    house.hub.handle = slowly  # type: ignore[method-assign]
    asking = [asyncio.create_task(house.ask("GET", "/hub/api")) for _ in range(3)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result()[0] for task in done} == {429}
    free.set()
    assert sorted(status for status, _ in await asyncio.gather(*asking)) == [200, 200, 429]


async def test_a_hub_that_restarts_is_waited_for(house: House, unused_tcp_port: int) -> None:
    house.forwarder.hub_url = f"http://127.0.0.1:{unused_tcp_port}"
    asking = asyncio.create_task(house.ask("GET", "/hub/api"))
    await asyncio.sleep(0.3)
    assert not asking.done()

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"version": "7"})

    app = web.Application()
    app.router.add_get("/hub/api/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    try:
        assert await asking == (200, {"version": "7"})
    finally:
        await runner.cleanup()


async def test_a_hub_that_stays_away_is_said(
    house: House, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUB_RESTARTS_S", 0.2)
    house.forwarder.hub_url = f"http://127.0.0.1:{unused_tcp_port}"
    assert (await house.ask("GET", "/hub/api"))[0] == 503
