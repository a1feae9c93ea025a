"""Stock JupyterHub of the same versions: simple local spawner, no walls, no gate; the peer that we measure against."""

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from tests.flows.service import free_port

from mutirao.hub import environment

PASSWORD = "a stock password"


def plain_environment() -> Path:
    """The packages of `base` at the very same versions, without anything of ours; built on first use."""
    base = environment.find("base", Path("/nonexistent"))
    plain = environment.Environment("stock", base.lock, base.path.with_name(f"stock-{base.path.name}"), plain=True)
    environment.build(plain)
    return plain.path


@asynccontextmanager
async def stock() -> AsyncIterator[str]:
    """A running stock hub; its address. Any name logs in with PASSWORD."""
    data = Path(tempfile.mkdtemp(prefix="stock-hub-", dir="/var/tmp"))
    ports = [free_port() for _ in range(3)]
    config = data / "jupyterhub_config.py"
    config.write_text(
        f"""
c.JupyterHub.bind_url = "http://127.0.0.1:{ports[0]}"
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
c.Spawner.default_url = "/lab"
c.JupyterHub.cleanup_servers = True
""",
        encoding="utf-8",
    )
    with (data / "log").open("wb") as log:
        # The environment's own interpreter must find its own packages, not ours.
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "jupyterhub", "--config", str(config), env=env, cwd=data, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        await _answers(f"{url}/hub/health", process, data / "log")
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)
        shutil.rmtree(data)


async def _answers(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            if process.returncode is not None:
                break
            try:
                async with session.get(url) as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError(f"stock JupyterHub did not start:\n{log.read_text()[-2000:]}")
