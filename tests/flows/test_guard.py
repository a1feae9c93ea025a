"""`mutirao.guard(c)` in an ordinary jupyterhub_config.py, with plain `python -m jupyterhub` and its simple spawner."""

import asyncio
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from bench.client import Kernel, Member
from bench.stock import plain_environment
from yarl import URL

from tests.flows.apart import MemberApart
from tests.flows.browser import Lab, chromium, log_in, notice, outputs, person
from tests.flows.service import ROOT, free_port
from tests.flows.spawners import bridge

PASSWORD = "a stock password"
DISALLOWED = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W; echo it ran"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that other users can pass through, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="mutirao-guard-", dir="/var/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@dataclass(frozen=True)
class Flavour:
    """A hub that stands already: its interpreter, and the command of its members' servers."""

    python: str
    server: str

    @classmethod
    def of(cls, major: int) -> "Flavour":
        """JupyterHub 6 as we are locked to, or 5 with real-time collaboration and execution on the server."""
        if major == 6:
            return cls(sys.executable, f"{plain_environment()}/bin/jupyterhub-singleuser")
        place = os.environ.get("MUTIRAO_HUB5", "")
        if not place:
            pytest.skip("MUTIRAO_HUB5 names no environment: ./run test sets it up")
        return cls(f"{place}/bin/python", f"{place}/bin/jupyterhub-singleuser")


@asynccontextmanager
async def guarded_hub(
    extra: str = "", prefix: str = "/", arguments: str = "", *, major: int = 6, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """A stock hub with one line of ours at its end; its address. `PORT` in `extra` is where it listens."""
    ports = [free_port() for _ in range(6)]
    flavour = Flavour.of(major)
    extra = extra.replace("PORT", str(ports[0]))
    with folder() as data:
        config = data / "jupyterhub_config.py"
        config.write_text(
            f"""
c = get_config()
c.JupyterHub.ip = "127.0.0.1"
c.JupyterHub.port = {ports[0]}
c.JupyterHub.hub_port = {ports[1]}
c.JupyterHub.db_url = "sqlite:///{data}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{data}/cookie_secret"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[2]}"
c.ConfigurableHTTPProxy.auth_token = "{secrets.token_hex(16)}"
c.ConfigurableHTTPProxy.command = {[os.environ["MUTIRAO_NODE"], os.environ["MUTIRAO_PROXY"]]!r}
c.ConfigurableHTTPProxy.pid_file = "{data}/proxy.pid"
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {PASSWORD!r}
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{data}/homes/{{username}}"
c.Spawner.http_timeout = c.Spawner.start_timeout = 120
c.Spawner.cmd = ["{flavour.server}"]
c.Spawner.args = ["--allow-root"]
c.Spawner.env_keep = ["PATH", "LANG"]
c.JupyterHub.cleanup_servers = True
{extra}
import mutirao
mutirao.guard(c, database="sqlite:///{data}/mutirao.sqlite", gate_url=["http://127.0.0.1:{ports[3]}", "http://127.0.0.1:{ports[5]}"], pages_url="http://127.0.0.1:{ports[4]}", {arguments})
"""
        )
        app = os.environ.get("MUTIRAO_APP", str(ROOT / "src"))
        env = os.environ | {"PYTHONPATH": f"{app}:{ROOT}"}
        with (data / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                flavour.python, "-m", "jupyterhub", "--config", str(config), env=env, cwd=data, stdout=log, stderr=log
            )
        local = f"http://127.0.0.1:{ports[0]}{prefix}"
        try:
            await answers(f"{local}hub/health", process, data / "log", host)
            services = re.search(r"# pages on (\S+)", extra)
            await answers(f"{local}services/mutirao/healthz", process, data / "log", services[1] if services else host)
            yield f"http://{host}:{ports[0]}{prefix}"
        except BaseException:
            print((data / "log").read_text()[-6000:])
            raise
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), 60)


async def answers(url: str, process: asyncio.subprocess.Process, log: Path, host: str) -> None:
    async with aiohttp.ClientSession(headers={"Host": host}) as session:
        for _ in range(600):
            assert process.returncode is None, log.read_text()[-4000:]
            try:
                async with session.get(url) as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError(f"{url} does not answer:\n{log.read_text()[-4000:]}")


class Person(Member):
    """A member of a hub that may have a prefix."""

    def _xsrf(self, path: str) -> str:
        return super()._xsrf(path if path.startswith(self.hub.path) else self.hub.path.rstrip("/") + path)


async def page(member: Member, url: str) -> tuple[int, str]:
    """A page as this person's browser gets it, through the OAuth dance."""
    async with member.http.get(url) as answer:
        return answer.status, await answer.text()


async def refused_case(kernel: Kernel) -> tuple[str, str]:
    """A disallowed cell is not run; the case's number, and its address as the notice has it."""
    ran = await kernel.run(DISALLOWED)
    assert ran.refused
    assert "it ran" not in ran.text
    html = ran.contents("display_data")[0]["data"]["text/html"]
    found = re.search(r'href="([^"]*/case/(M-\d{4}-\d{6}))"', html)
    assert found, html
    return found[2], found[1]


SYSTEMD_LIKE = 'c.JupyterHub.spawner_class = "tests.flows.spawners.UnitSpawner"'
DOCKER_LIKE = """
c.JupyterHub.spawner_class = "tests.flows.spawners.BoxSpawner"
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.hub_connect_ip = "10.154.0.1"
"""


@pytest.mark.parametrize(
    ("prefix", "extra", "major"),
    [
        ("/", "", 6),
        ("/jupyter/", 'c.JupyterHub.base_url = "/jupyter/"', 6),
        ("/jupyter/", 'c.JupyterHub.base_url = "/jupyter/"', 5),
        ("/", SYSTEMD_LIKE, 6),
        ("/", DOCKER_LIKE, 5),
    ],
    ids=["6", "6 with a prefix", "5 with a prefix", "6 with units", "5 with boxes"],
)
async def test_a_stock_hub_is_guarded(prefix: str, extra: str, major: int) -> None:
    network = bridge() if extra == DOCKER_LIKE else nullcontext()
    with network:
        await a_guarded_day(prefix, extra, major)


async def a_guarded_day(prefix: str, extra: str, major: int) -> None:
    async with guarded_hub(extra, prefix, major=major) as url:
        root = url.removesuffix(prefix)
        async with Person(url, "ana", PASSWORD) as ana, Person(url, "bia", PASSWORD) as bia:
            await ana.start()
            async with ana.kernel() as kernel:
                assert (await kernel.run("6 * 7")).text == "42"
                number, address = await refused_case(kernel)
                assert address.startswith(f"{prefix}services/mutirao/case/")
                assert (await kernel.run("x = 1; x")).text == "1"

            status, said = await page(ana, root + address)
            assert status == 200
            assert number in said
            status, said = await page(bia, root + address)
            assert status == 404
            assert "xmrig" not in said
            status, said = await page(ana, f"{url}services/mutirao/me")
            assert (status, number in said) == (200, True)
            await ana.stop()

        async with aiohttp.ClientSession() as stranger:
            async with stranger.get(f"{url}services/mutirao/policy") as answer:
                assert answer.status == 200
                assert "mining" in await answer.text()
            async with stranger.get(root + address, allow_redirects=False) as answer:
                assert answer.status in (302, 303, 307)


async def test_named_servers_and_the_hubs_own_roles_and_services_go_on() -> None:
    extra = """
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services = [{"name": "watcher", "api_token": "a-token-of-the-watcher"}]
c.JupyterHub.load_roles = [
    {"name": "watcher", "services": ["watcher"], "scopes": ["list:users"]},
    {"name": "user", "scopes": ["self", "list:services"]},
]
"""
    async with guarded_hub(extra, arguments='public_url="https://hub.example"') as url:
        async with Person(url, "ana", PASSWORD) as ana:
            async with ana.http.get(ana.hub / "hub/home"):
                pass
            status, _ = await ana.api("POST", "users/ana/servers/second", json={})
            assert status in (201, 202)
            async with asyncio.timeout(120):
                while not (await ana.api("GET", "users/ana"))[1]["servers"].get("second", {}).get("ready"):  # noqa: ASYNC110 - the hub offers no event
                    await asyncio.sleep(0.1)
            second = Named(ana, "second")
            async with second.http.get(second.server / "lab") as answer:
                assert answer.status == 200
            async with second.kernel() as kernel:
                assert (await kernel.run("6 * 7")).text == "42"
                number, address = await refused_case(kernel)
                assert address == f"https://hub.example/services/mutirao/case/{number}"
            await ana.api("DELETE", "users/ana/servers/second")
        headers = {"Authorization": "token a-token-of-the-watcher"}
        async with aiohttp.ClientSession(headers=headers) as watcher, watcher.get(f"{url}hub/api/users") as answer:
            assert [user["name"] for user in await answer.json()] == ["ana"]


@pytest.mark.parametrize(
    ("hook", "pages", "major"),
    [("", "mutirao--service", 6), ('c.JupyterHub.subdomain_hook = "legacy"', "services", 5)],
    ids=["6", "5 with the older rule"],
)
async def test_a_hub_with_subdomains_is_guarded(hook: str, pages: str, major: int) -> None:
    """Every link leads to the host that the hub gives a service."""
    extra = f"""
c.JupyterHub.subdomain_host = "http://hub.localhost:PORT"
{hook}
# pages on {pages}.hub.localhost
"""
    async with guarded_hub(extra, major=major, host="hub.localhost") as url:
        ana = MemberApart(url, "ana", PASSWORD)
        async with ana:
            await ana.start()
            async with ana.kernel() as kernel:
                assert (await kernel.run("6 * 7")).text == "42"
                number, address = await refused_case(kernel)
            assert address.startswith(url.replace("hub.localhost", f"{pages}.hub.localhost"))
            status, said = await page(ana, address)
            assert (status, number in said) == (200, True)
            assert f'href="{url}hub/home"' in said
            async with ana.http.get(f"{address.partition('case/')[0]}language/pt-BR?next=/hub/home") as back:
                assert str(back.url).startswith(f"{url}hub/")
            await ana.stop()


class Named(Person):
    """A member at one of their named servers."""

    def __init__(self, member: Member, server: str) -> None:
        self.hub, self.name, self.http = member.hub, member.name, member.http
        self._server = server

    @property
    def server(self):  # type: ignore[no-untyped-def]  # yarl's URL
        return self.hub / "user" / self.name / self._server / ""


async def finished(member: Person, where: str) -> tuple[int, dict[str, object]]:
    """What became of a cell that runs on the server."""
    async with asyncio.timeout(60):
        while True:
            status, said = await member.request("GET", where.lstrip("/"))
            if status != 202:
                return status, said
            await asyncio.sleep(0.1)


def in_lab(url: str) -> tuple[str, str]:
    """What JupyterLab shows below a refused cell, and below one that runs after it."""
    with chromium() as browser:
        page = person(browser).new_page()
        log_in(page, url, "ana", PASSWORD)
        lab = Lab(page)
        lab.open(url, "ana", "shared.ipynb")
        cell = lab.run(DISALLOWED)
        notice(cell).wait_for()
        after = lab.run("print(6 * 7)")
        after.locator(".jp-OutputArea-output").first.wait_for()
        return outputs(cell), outputs(after)


async def test_cells_that_run_on_the_server_are_judged_too() -> None:
    """jupyter-server-nbmodel runs a cell from an HTTP request, jupyter-collaboration carries the text beside the gate."""
    async with guarded_hub(major=5) as url, Person(url, "ana", PASSWORD) as ana:
        await ana.start()
        number = await ana.new_kernel()
        run = f"api/kernels/{number}/execute"
        status, said = await ana.request("POST", run, json={"code": "print(6 * 7)"})
        assert status == 202, said
        status, said = await finished(ana, said["request_url"])
        assert status == 200
        assert "42" in str(said["outputs"])

        status, said = await ana.request("POST", run, json={"code": DISALLOWED})
        assert status == 202, said
        status, said = await finished(ana, said["request_url"])
        assert (status, said["status"], said["reason"]) == (200, "error", "NotRun")
        assert re.fullmatch(r"M-\d{4}-\d{6}", said["case"])
        assert said["case"] in said["outputs"]
        async with ana.http.get(f"{url}services/mutirao/case/{said['case']}") as case:
            assert case.status == 200
        # An answer to input() is read as a cell is.
        status, said = await ana.request("POST", f"api/kernels/{number}/input", json={"input": DISALLOWED})
        assert (status, said["reason"]) == (403, "NotRun")

        # Text in a shared document is nobody's act: it comes to the gate when somebody runs it.
        book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
        status, _ = await ana.request("PUT", "api/contents/shared.ipynb", json={"type": "notebook", "content": book})
        assert status in (200, 201)
        status, room = await ana.request(
            "PUT", "api/collaboration/session/shared.ipynb", json={"format": "json", "type": "notebook"}
        )
        assert status in (200, 201), room
        address = f"api/collaboration/room/json:notebook:{room['fileId']}"
        async with ana.http.ws_connect(
            ana.server.join(URL(address, encoded=True)) % {"sessionId": room["sessionId"]},
            headers={"Origin": str(ana.server.origin())},
        ) as socket:
            first = await socket.receive(30)
            assert first.type is aiohttp.WSMsgType.BINARY
        async with ana.http.get(f"{url}services/mutirao/api/me") as me:
            assert len((await me.json())["cases"]) == 1
        await ana.stop()


@pytest.mark.campaign
async def test_jupyterlab_shows_a_refusal_of_a_cell_that_would_run_on_the_server() -> None:
    async with guarded_hub(major=5) as url, Person(url, "ana", PASSWORD) as ana:
        await ana.start()
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        book = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": []}
        status, _ = await ana.request("PUT", "api/contents/shared.ipynb", json={"type": "notebook", "content": book})
        assert status in (200, 201)
        # Playwright's loop runs in its thread.
        with ThreadPoolExecutor(1) as aside:
            shown, ran = await asyncio.get_running_loop().run_in_executor(aside, in_lab, url.rstrip("/"))
        assert "NotRun" in shown
        assert re.search(r"M-\d{4}-\d{6}", shown)
        assert ran.strip() == "42"
        await ana.stop()
