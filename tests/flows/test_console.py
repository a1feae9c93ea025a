"""A console in a terminal: a stock Jupyter server on the person's own machine has the member's server as its gateway.

`jupyter console` reaches only kernels of its own machine; `jupyter konsole` is its shell over a websocket. That sends
its token in the address alone, which JupyterHub takes from browsers only, so it can't come without the gateway's client.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.client import Member

from mutirao.policy.category import Category
from tests.flows.cells import DISALLOWED
from tests.flows.service import PASSWORD, Service, free_port

PASSAGE = "the local server's own token"
PLACES = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "HOME")


@contextlib.contextmanager
def local_server(env: dict[str, str], log: Path) -> Iterator[str]:
    """A Jupyter server whose kernels are elsewhere; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--IdentityProvider.token={PASSAGE}"], env=env, cwd=log.parent, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/api", timeout=5).close()
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def konsole(env: dict[str, str], url: str, *lines: str) -> str:
    """What the person sees who types these lines."""
    code = "from jupyter_kernel_client.konsoleapp import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", code, "--url", url, "--token", PASSAGE]
    done = subprocess.run(
        [*command, "--simple-prompt", "--no-confirm-exit"],
        input="\n".join([*lines, "exit", ""]), env=env, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr[-3000:]


@pytest.mark.campaign
async def test_a_console_runs_what_is_allowed_and_says_why_the_rest_was_not_run(
    service: Service, tmp_path: Path
) -> None:
    async with Member(service.url, "nils", PASSWORD) as nils:
        await nils.start()
        status, made = await nils.api("POST", "users/nils/tokens", json={})
        assert status == 201
        env = os.environ | dict.fromkeys(PLACES, str(tmp_path))
        gateway = {"JUPYTER_GATEWAY_URL": str(nils.server), "JUPYTER_GATEWAY_AUTH_TOKEN": made["token"]}
        with local_server(env | gateway, tmp_path / "log") as url:
            said = await asyncio.to_thread(konsole, env, url, "6 * 7", DISALLOWED[Category.DOS], "print(2 ** 10)")
        await nils.stop()

    assert "Out[1]: 42" in said, said
    assert "This cell was not run" in said
    assert "a tool whose purpose is to overload somebody's server" in said
    assert f"{service.url}/services/mutirao/case/M-" in said
    assert "1024" in said
