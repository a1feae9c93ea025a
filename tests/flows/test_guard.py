"""`mutirao.guard(c)` in an ordinary jupyterhub_config.py, with plain `python -m jupyterhub` and its simple spawner."""

import asyncio
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from bench.client import Kernel, Member
from bench.stock import plain_environment

from tests.flows.service import ROOT, free_port

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


@asynccontextmanager
async def guarded_hub(extra: str = "", prefix: str = "/", arguments: str = "") -> AsyncIterator[str]:
    """A stock hub with one line of ours at its end; its address."""
    ports = [free_port() for _ in range(6)]
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
c.Spawner.cmd = ["{plain_environment()}/bin/jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.env_keep = ["PATH", "LANG"]
c.JupyterHub.cleanup_servers = True
{extra}
import mutirao
mutirao.guard(c, database="sqlite:///{data}/mutirao.sqlite", gate_url=["http://127.0.0.1:{ports[3]}", "http://127.0.0.1:{ports[5]}"], pages_url="http://127.0.0.1:{ports[4]}", {arguments})
"""
        )
        env = os.environ | {"PYTHONPATH": os.environ.get("MUTIRAO_APP", str(ROOT / "src"))}
        with (data / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "jupyterhub", "--config", str(config), env=env, cwd=data, stdout=log, stderr=log
            )
        url = f"http://127.0.0.1:{ports[0]}{prefix}"
        try:
            await answers(f"{url}hub/health", process, data / "log")
            await answers(f"{url}services/mutirao/healthz", process, data / "log")
            yield url
        except BaseException:
            print((data / "log").read_text()[-6000:])
            raise
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), 60)


async def answers(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with aiohttp.ClientSession() as session:
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


@pytest.mark.parametrize(
    ("prefix", "extra"),
    [
        ("/", ""),
        ("/jupyter/", 'c.JupyterHub.base_url = "/jupyter/"'),
    ],
)
async def test_a_stock_hub_is_guarded(prefix: str, extra: str) -> None:
    async with guarded_hub(extra, prefix) as url:
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


class Named(Person):
    """A member at one of their named servers."""

    def __init__(self, member: Member, server: str) -> None:
        self.hub, self.name, self.http = member.hub, member.name, member.http
        self._server = server

    @property
    def server(self):  # type: ignore[no-untyped-def]  # yarl's URL
        return self.hub / "user" / self.name / self._server / ""
