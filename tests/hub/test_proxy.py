"""The guarded proxy: in memory for the order of things, and as a real configurable-http-proxy for names and hosts."""

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from jupyterhub.proxy import Proxy, exponential_backoff
from tornado.httpclient import HTTPError

from mutirao.errors import ConfigError
from mutirao.gate.route import RouteError, locate, twin_specs
from mutirao.gate.shard import worker_of
from mutirao.hub.proxy import Guarded, GuardedProxy
from tests.gate.conftest import serving
from tests.gate.house import SECRET, Chp, free_port, running_chp

GATE = "http://127.0.0.1:9"
SERVER = {"user": "ana", "server_name": ""}
SPEC, TWIN, OTHER = "/user/ana/", "/user/ana/api/kernels/", "/user/ana/api/sessions/"
TARGET = "http://127.0.0.1:4000"
HUB = SimpleNamespace(routespec="/hub/", host="http://127.0.0.1:8081")


class MemoryProxy(Proxy):
    """Keeps routes in a dictionary and writes down what was done; fails where it is told to."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.routes: dict[str, dict] = {}
        self.done: list[tuple[str, str]] = []
        self.fails_at: tuple[str, str] | None = None

    async def add_route(self, routespec, target, data):
        self._do("add", routespec)
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": dict(data)}

    async def delete_route(self, routespec):
        self._do("delete", routespec)
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return {spec: {**route, "data": dict(route["data"])} for spec, route in self.routes.items()}

    def _do(self, what: str, routespec: str) -> None:
        if self.fails_at == (what, routespec):
            raise OSError("the proxy is away")
        self.done.append((what, routespec))


class GuardedMemoryProxy(Guarded, MemoryProxy):
    """The mixin over the proxy in memory."""


def spawner(spec: str = SPEC, target: str = TARGET, ready: bool = True, pending: object = None) -> SimpleNamespace:
    server = SimpleNamespace(host=target)
    return SimpleNamespace(proxy_spec=spec, server=server, ready=ready, pending=pending, _log_name="ana")


def users(*spawners: SimpleNamespace) -> dict:
    names = {"" if number == 0 else f"s{number}": one for number, one in enumerate(spawners)}
    return {1: SimpleNamespace(name="ana", spawners=names)}


@pytest.fixture
def proxy() -> GuardedMemoryProxy:
    return GuardedMemoryProxy(gate_url=GATE, gate_secret=SECRET, app=SimpleNamespace(hub=HUB), hub=HUB)


async def test_the_twins_come_first_and_go_last(proxy):
    await proxy.add_route(SPEC, TARGET, SERVER)
    await proxy.delete_route(SPEC)
    around = [TWIN, OTHER]
    assert proxy.done == [
        *(("add", twin) for twin in around), ("add", SPEC), ("delete", SPEC), *(("delete", twin) for twin in around)
    ]  # fmt: skip


async def test_the_twin_leads_to_the_gate_which_reads_the_server_from_it(proxy):
    await proxy.add_route(SPEC, TARGET, SERVER)
    target = proxy.routes[TWIN]["target"]
    place = locate(target.removeprefix(GATE) + "/user/ana/api/kernels/k/channels", SECRET)
    assert (place.route.target, place.route.user, place.route.server) == (TARGET, "ana", "")


@pytest.mark.parametrize("data", [{"hub": True}, {"service": "mutirao"}, {"extra": True}, {"user": "ana"}, {}, None])
async def test_only_members_servers_get_a_twin(proxy, data):
    await MemoryProxy.add_route(proxy, "/other/", TARGET, {})
    proxy.done.clear()
    await proxy.add_route("/services/x/", TARGET, data)
    await proxy.delete_route("/services/x/")
    assert proxy.done == [("add", "/services/x/"), ("delete", "/services/x/")]


async def test_the_hub_sees_its_routes_without_twins(proxy):
    await proxy.add_route(SPEC, TARGET, SERVER)
    await proxy.add_route("/", "http://127.0.0.1:8081", {"hub": True})
    assert set(await proxy.get_all_routes()) == {SPEC, "/"}
    route = await proxy.get_route(SPEC)
    assert (route["target"], route["data"]["user"]) == (TARGET, "ana")


@pytest.mark.parametrize(
    ("own", "twin", "seen"),
    [
        ("2026-11-22T10:00:00.000Z", "2026-11-22T11:00:00.000Z", "2026-11-22T11:00:00.000Z"),
        ("2026-11-22T11:00:00.000Z", "2026-11-22T10:00:00.000Z", "2026-11-22T11:00:00.000Z"),
        (None, "2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00.000Z"),
        ("2026-11-22T10:00:00.000Z", None, "2026-11-22T10:00:00.000Z"),
        (None, None, None),
    ],
)
async def test_the_later_activity_of_both_counts(proxy, own, twin, seen):
    await proxy.add_route(SPEC, TARGET, SERVER)
    for spec, time in ((SPEC, own), (TWIN, twin)):
        if time:
            proxy.routes[spec]["data"]["last_activity"] = time
    assert (await proxy.get_all_routes())[SPEC]["data"].get("last_activity") == seen


@pytest.mark.parametrize("lost", [TWIN, OTHER])
async def test_a_server_of_which_a_twin_is_gone_is_not_seen_and_the_hub_repairs_all(proxy, lost):
    await proxy.add_route(SPEC, TARGET, SERVER)
    del proxy.routes[lost]
    assert SPEC not in await proxy.get_all_routes()
    await proxy.check_routes(users(spawner()), {})
    assert SPEC in await proxy.get_all_routes()


@pytest.mark.parametrize("target", ["http://127.0.0.1:4000", "http://elsewhere/r/x.y"])
async def test_a_twin_that_leads_elsewhere_is_as_good_as_none(proxy, target):
    await proxy.add_route(SPEC, TARGET, SERVER)
    proxy.routes[TWIN]["target"] = target
    assert SPEC not in await proxy.get_all_routes()
    await proxy.check_routes(users(spawner()), {})
    assert proxy.routes[TWIN]["target"].startswith(f"{GATE}/r/")


async def test_a_new_secret_makes_every_twin_new(proxy):
    await proxy.add_route(SPEC, TARGET, SERVER)
    before = proxy.routes[TWIN]["target"]
    proxy.gate_secret = "another"
    await proxy.check_routes(users(spawner()), {})
    assert proxy.routes[TWIN]["target"] != before
    assert SPEC in await proxy.get_all_routes()


async def test_each_server_keeps_its_worker_and_all_workers_get_some(proxy):
    workers = [f"http://127.0.0.1:{port}" for port in (11, 12, 13)]
    proxy.gate_url = ",".join(workers)
    specs = {f"/user/m{number}/": {"user": f"m{number}", "server_name": ""} for number in range(60)}
    for spec, data in specs.items():
        await proxy.add_route(spec, TARGET, data)
    met = {spec: proxy.routes[twin_specs(spec)[0]]["target"].partition("/r/")[0] for spec in specs}
    assert set(met.values()) == set(workers)
    assert met == {spec: worker_of(workers, data["user"], data["server_name"]) for spec, data in specs.items()}


async def test_one_worker_more_moves_only_its_own_servers_and_the_hub_repairs_them(proxy):
    proxy.gate_url = "http://127.0.0.1:11,http://127.0.0.1:12"
    await proxy.add_route(SPEC, TARGET, SERVER)
    proxy.gate_url += ",http://127.0.0.1:13"
    await proxy.check_routes(users(spawner()), {})
    assert SPEC in await proxy.get_all_routes()
    two, three = (
        [f"http://127.0.0.1:{port}" for port in (11, 12)],
        [f"http://127.0.0.1:{port}" for port in (11, 12, 13)],
    )
    names = [f"m{number}" for number in range(300)]
    moved = {worker_of(three, name, "") for name in names if worker_of(two, name, "") != worker_of(three, name, "")}
    assert moved == {three[2]}


async def test_a_server_that_moved_is_followed_by_its_twin(proxy):
    await proxy.add_route(SPEC, TARGET, SERVER)
    await proxy.check_routes(users(spawner(target="http://127.0.0.1:4001")), {})
    assert (await proxy.get_all_routes())[SPEC]["target"] == "http://127.0.0.1:4001"


@pytest.mark.parametrize("left", [SPEC, TWIN, OTHER])
async def test_half_a_route_that_nobody_wants_is_deleted(proxy, left):
    await proxy.add_route(SPEC, TARGET, SERVER)
    proxy.routes = {left: proxy.routes[left]}
    await proxy.check_routes(users(spawner(ready=False)), {})
    assert set(proxy.routes) & {SPEC, TWIN, OTHER} == set()


@pytest.mark.parametrize("left", [SPEC, TWIN, OTHER])
async def test_half_a_route_of_a_server_that_starts_is_left_alone(proxy, left):
    await proxy.add_route(SPEC, TARGET, SERVER)
    proxy.routes = {left: proxy.routes[left]}
    await proxy.check_routes(users(spawner(ready=False, pending="spawn")), {})
    assert left in proxy.routes


async def test_a_server_never_stands_without_its_twin_when_adding_fails(proxy):
    proxy.fails_at = ("add", TWIN)
    with pytest.raises(OSError, match="away"):
        await proxy.add_route(SPEC, TARGET, SERVER)
    assert proxy.routes == {}


async def test_a_twin_outlives_a_server_whose_deletion_fails(proxy):
    await proxy.add_route(SPEC, TARGET, SERVER)
    proxy.fails_at = ("delete", SPEC)
    with pytest.raises(OSError, match="away"):
        await proxy.delete_route(SPEC)
    assert set(proxy.routes) == {SPEC, TWIN, OTHER}


@pytest.mark.parametrize("trait", ["gate_url", "gate_secret"])
async def test_a_missing_setting_is_named(proxy, trait):
    setattr(proxy, trait, "")
    with pytest.raises(ConfigError, match=rf"{trait} is empty.*MUTIRAO_{trait.upper()}"):
        await proxy.add_route(SPEC, TARGET, SERVER)
    assert proxy.routes == {}


def test_the_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MUTIRAO_GATE_URL", "http://gate:1")
    monkeypatch.setenv("MUTIRAO_GATE_SECRET", "s")
    proxy = GuardedProxy(should_start=True)
    assert (proxy.gate_url, proxy.gate_secret) == ("http://gate:1", "s")


NAMES = ["ana", "üser", "a@b.org", "a+b", "a b", "a%b", "x" * 255, "🦜" * 100, "o'neil", "..x", "a&b=c?d#e"]


def escaped(name: str) -> str:
    return quote(name, safe="@~")


async def paths_seen(*, chp_options: tuple[str, ...] = (), host: str = ""):
    """Ask for each name's kernels through a real proxy; gives what the gate read from the request."""
    found: dict[str, object] = {}

    async def gate(request: web.Request) -> web.Response:
        try:
            place = locate(request.raw_path, SECRET)
        except RouteError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"user": place.route.user, "server": place.route.server, "tail": place.tail})

    async def server(request: web.Request) -> web.Response:
        return web.json_response({"server itself": request.raw_path})

    with running_chp(*chp_options) as chp:
        async with (
            serving(web.AppRunner(one_handler(gate), max_line_size=65536, access_log=None)) as gate_url,
            serving(web.AppRunner(one_handler(server), max_line_size=65536, access_log=None)) as target,
            aiohttp.ClientSession() as http,
        ):
            proxy = GuardedProxy(
                api_url=chp.api_url,
                auth_token=chp.auth_token,
                should_start=False,
                gate_url=gate_url,
                gate_secret=SECRET,
                host_routing=bool(host),
            )
            for name in NAMES:
                for server_name in ("", "gpu"):
                    spec = f"{host}/user/{escaped(name)}/" + (f"{server_name}/" if server_name else "")
                    await proxy.add_route(spec, target, {"user": name, "server_name": server_name})
            seen = await proxy.get_all_routes()
            for name in NAMES:
                for server_name in ("", "gpu"):
                    prefix = f"/user/{escaped(name)}/" + (f"{server_name}/" if server_name else "")
                    for path in ("api/kernels/k/channels?x=1", "api/contents"):
                        url = aiohttp.client.URL(f"{chp.url}{prefix}{path}", encoded=True)
                        async with http.get(url, headers={"Host": host or "x"}) as answer:
                            found[f"{name}|{server_name}|{path}"] = await answer.json()
                    spec = f"{host}{prefix}"
                    assert spec in seen
                    assert "last_activity" in seen[spec]["data"]
                    await proxy.delete_route(spec)
            assert await proxy.get_all_routes() == {}
            assert await super(Guarded, proxy).get_all_routes() == {}
    return found


def one_handler(handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    return app


@pytest.mark.parametrize("host", ["", "hub.example"], ids=["paths", "subdomains"])
async def test_kernels_lead_to_the_gate_and_all_else_to_the_server_whatever_the_name(host):
    options = ("--host-routing",) if host else ()
    found = await paths_seen(chp_options=options, host=host)
    for name in NAMES:
        for server in ("", "gpu"):
            kernels = found[f"{name}|{server}|api/kernels/k/channels?x=1"]
            assert kernels == {"user": name, "server": server, "tail": "api/kernels/k/channels"}
            assert list(found[f"{name}|{server}|api/contents"]) == ["server itself"]


def test_a_twins_routespec_is_its_servers_with_the_kernels_behind():
    assert twin_specs(SPEC) == (TWIN, OTHER)


# The checks of JupyterHub's own proxy tests, for our class over a real configurable-http-proxy.


@pytest.fixture(scope="module", params=["", "hub.example"], ids=["paths", "subdomains"])
def street(request: pytest.FixtureRequest) -> Iterator[tuple[Chp, str]]:
    """A stock proxy, and the host that its routes begin with."""
    host = request.param
    with running_chp(*(("--host-routing",) if host else ())) as chp:
        yield chp, host


@pytest_asyncio.fixture
async def stock(street: tuple[Chp, str]) -> AsyncIterator[tuple[GuardedProxy, str]]:
    """Our class over the stock proxy, which is empty before and after."""
    chp, host = street
    hub = SimpleNamespace(routespec=f"{host}/hub/", host="http://127.0.0.1:8081")
    proxy = GuardedProxy(
        api_url=chp.api_url,
        auth_token=chp.auth_token,
        should_start=False,
        gate_url=GATE,
        gate_secret=SECRET,
        host_routing=bool(host),
        app=SimpleNamespace(hub=hub, subdomain_host=f"http://{host}" if host else ""),
        hub=hub,
    )
    assert await super(Guarded, proxy).get_all_routes() == {}
    yield proxy, host
    proxy.api_url, proxy.auth_token = chp.api_url, chp.auth_token
    for spec in await super(Guarded, proxy).get_all_routes():
        await super(Guarded, proxy).delete_route(spec)


ROUTES = ["/has%20space/foo/", "/missing-trailing/slash", "/has/@/", "/has/" + quote("üñîçø∂é"), "/a/b/c/"]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_route_is_added_found_and_deleted_with_or_without_its_slash(stock, route):
    proxy, host = stock
    spec = f"{host}{route}"
    await proxy.add_route(spec, "https://localhost:1234", {})
    whole = spec.rstrip("/") + "/"
    assert whole in await proxy.get_all_routes()
    found = await proxy.get_route(spec)
    assert (found["target"], found["routespec"]) == ("https://localhost:1234", whole)
    await proxy.delete_route(spec)
    assert await proxy.get_route(spec) is None
    assert await proxy.get_all_routes() == {}


@pytest.mark.parametrize("route", ROUTES)
async def test_a_members_route_is_added_found_and_deleted_with_its_twins(stock, route):
    proxy, host = stock
    spec = f"{host}{route}"
    await proxy.add_route(spec, TARGET, SERVER)
    assert len(await super(Guarded, proxy).get_all_routes()) == 3
    assert (await proxy.get_route(spec))["target"] == TARGET
    await proxy.delete_route(spec)
    assert await super(Guarded, proxy).get_all_routes() == {}


async def test_a_host_where_there_is_none_and_none_where_there_should_be_one_are_refused(stock):
    proxy, host = stock
    wrong = "/user/ana/" if host else "other.host/user/ana/"
    for call in (proxy.add_route(wrong, TARGET, SERVER), proxy.get_route(wrong), proxy.delete_route(wrong)):
        with pytest.raises(ValueError, match="host"):
            await call
    assert await super(Guarded, proxy).get_all_routes() == {}


async def test_extra_routes_are_kept_and_have_no_twin(stock):
    proxy, host = stock
    proxy.extra_routes = {f"{host}/docs/": "http://127.0.0.1:9999/test"}
    await proxy.check_routes({}, {})
    routes = await super(Guarded, proxy).get_all_routes()
    assert routes[f"{host}/docs/"]["data"]["extra"] is True
    assert set(routes) == {f"{host}/hub/", f"{host}/docs/"}


@pytest.mark.parametrize("name", ["zoe", "50fia", "秀樹", "~TestJH", "has@"])
async def test_routes_that_were_lost_come_back_with_the_next_check_and_unwanted_ones_go(stock, name):
    proxy, host = stock
    spec = f"{host}/user/{escaped(name)}/"
    wanted = users(spawner(spec))
    await proxy.check_routes(wanted, {})
    before = set(await proxy.get_all_routes())
    assert spec in before
    for lost in (spec, *twin_specs(spec)):
        await super(Guarded, proxy).delete_route(lost)
        assert spec not in await proxy.get_all_routes()
        await proxy.check_routes(wanted, {})
        assert set(await proxy.get_all_routes()) == before
    await proxy.check_routes({}, {})
    assert set(await super(Guarded, proxy).get_all_routes()) == {f"{host}/hub/"}


async def test_a_named_server_may_lie_below_the_default_one_and_go_alone(stock):
    proxy, host = stock
    first, second = f"{host}/user/ana/", f"{host}/user/ana/gpu/"
    wanted = users(spawner(first), spawner(second, "http://127.0.0.1:4001"))
    await proxy.check_routes(wanted, {})
    assert {first, second} < set(await proxy.get_all_routes())
    await proxy.check_routes(users(spawner(first)), {})
    assert second not in await proxy.get_all_routes()
    assert (await proxy.get_route(first))["target"] == TARGET


async def test_a_new_proxy_with_a_new_token_gets_every_route(stock):
    proxy, host = stock
    await proxy.check_routes(users(spawner(f"{host}{SPEC}")), {})
    with running_chp(*(("--host-routing",) if host else ()), token="different!") as other:
        proxy.api_url, proxy.auth_token = other.api_url, other.auth_token
        assert await proxy.get_all_routes() == {}
        await proxy.check_routes(users(spawner(f"{host}{SPEC}")), {})
        assert set(await proxy.get_all_routes()) == {f"{host}/hub/", f"{host}{SPEC}"}


async def test_a_proxy_that_is_away_is_an_error_and_no_half_is_left(stock, monkeypatch):
    proxy, _ = stock
    # JupyterHub asks again for half a minute.
    monkeypatch.setattr(
        "jupyterhub.proxy.exponential_backoff", lambda *ask, timeout: exponential_backoff(*ask, timeout=1)
    )
    proxy.api_url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises((OSError, HTTPError)):
        await proxy.get_all_routes()


async def test_the_last_activity_of_both_routes_is_told(stock):
    proxy, host = stock
    await proxy.add_route(f"{host}{SPEC}", TARGET, SERVER)
    data = (await proxy.get_route(f"{host}{SPEC}"))["data"]
    assert data["last_activity"].endswith("Z")
    assert (data["user"], data["server_name"]) == ("ana", "")
