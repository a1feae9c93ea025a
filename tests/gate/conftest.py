"""The street: browser → configurable-http-proxy → gate → jupyter_server, with a judge in memory."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mutirao.gate.app import Gate, make_runner
from mutirao.hub.proxy import GuardedProxy
from tests.gate.house import SECRET, TOKEN, V1, Chp, MarkerJudge, OneActor, Tab, running_chp, running_jupyter
from tests.gate.twin import TwinServer


@pytest.fixture(scope="session")
def chp() -> Chp:
    with running_chp() as running:
        yield running


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> str:
    with running_jupyter(tmp_path_factory.mktemp("jupyter")) as url:
        yield url


@asynccontextmanager
async def serving(runner: web.AppRunner):
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


@dataclass
class Street:
    """One gate behind a proxy; `open` gives a tab on a kernel."""

    chp: Chp
    gate: Gate
    judge: MarkerJudge
    actors: OneActor
    proxy: GuardedProxy
    http: aiohttp.ClientSession
    gate_url: str
    added: list[str] = field(default_factory=list)
    target: str = ""

    async def add(self, target: str, routespec: str = "/user/ana/", user: str = "ana", server: str = "") -> None:
        await self.proxy.add_route(routespec, target, {"user": user, "server_name": server})
        self.added.append(routespec)
        self.target = target

    def url(self, path: str, prefix: str = "/user/ana/") -> str:
        return f"{self.chp.url}{prefix}{path}"

    @asynccontextmanager
    async def kernel(self):
        """A fresh kernel's id; it is deleted afterwards."""
        headers = {"Authorization": f"token {TOKEN}"}
        async with self.http.post(self.url("api/kernels"), json={"name": "python3"}, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            kernel = (await answer.json())["id"]
        try:
            yield kernel
        finally:
            async with self.http.delete(self.url(f"api/kernels/{kernel}"), headers=headers) as answer:
                assert answer.status in (204, 404)

    @asynccontextmanager
    async def tab(self, kernel: str, wire: str = "", **options: object):
        headers = {"Authorization": f"token {TOKEN}", **options.pop("headers", {})}
        protocols = (wire,) if wire else ()
        url = self.url(f"api/kernels/{kernel}/channels?session_id={options.pop('session_id', 'tab')}")
        async with self.http.ws_connect(url, headers=headers, protocols=protocols, max_msg_size=0, **options) as ws:
            assert ws.protocol == (wire or None)
            yield Tab(ws)


@pytest_asyncio.fixture
async def street(chp: Chp):
    """The street without a notebook server yet."""
    judge, actors = MarkerJudge(), OneActor()
    gate = Gate(SECRET, judge, actors, max_message_bytes=2_000_000, max_body_bytes=100_000, judge_timeout_s=1.0)
    async with serving(make_runner(gate)) as gate_url, aiohttp.ClientSession() as http:
        proxy = GuardedProxy(
            api_url=chp.api_url, auth_token=chp.auth_token, should_start=False, gate_url=gate_url, gate_secret=SECRET
        )
        street = Street(chp, gate, judge, actors, proxy, http, gate_url)
        yield street
        for routespec in street.added:
            await proxy.delete_route(routespec)
    await asyncio.sleep(0)


@pytest_asyncio.fixture
async def home(street: Street, jupyter: str) -> Street:
    """The street with a real notebook server at /user/ana/."""
    await street.add(jupyter)
    return street


@pytest.fixture(params=["", V1], ids=["default", "v1"])
def wire(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture
async def twin(street: Street):
    """A server in memory at /user/ana/."""
    server = TwinServer()
    async with serving(web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.2)) as url:
        await street.add(url)
        yield server
